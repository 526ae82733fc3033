"""Fewer rows for each attempt: its start and result in its own row, and one row of events for each batch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_STARTED = """
UPDATE attempts AS a
SET incarnation = s.incarnation, node_id = s.node_id, started_at = coalesce(a.started_at, s.at),
    state = CASE WHEN a.state = 'leased' THEN 'started' ELSE a.state END
FROM starts AS s WHERE s.token = a.token
"""

_ENDED = """
UPDATE attempts AS a
SET state = r.state, end_reason = 'reported', ended_at = r.at, reserved_micros = 0,
    failure_class = CASE r.state WHEN 'timed_out' THEN coalesce(r.failure_class, 'timeout')
                                 WHEN 'failed' THEN coalesce(r.failure_class, 'agent') END,
    summary = r.summary, detail = r.detail, exit_code = r.exit_code, report = r.report,
    input_tokens = r.input_tokens, output_tokens = r.output_tokens, cost_micros = r.cost_micros,
    cache_read_tokens = r.cache_read_tokens, cache_write_tokens = r.cache_write_tokens, requests = r.requests
FROM results AS r WHERE r.token = a.token AND a.state IN ('leased', 'started')
"""

_EVENTS = """
INSERT INTO event_batches (last_seq, first_seq, tenant_id, plan_id, epoch, types, task_ids, tokens, payloads,
                           at)
SELECT seq, seq, tenant_id, plan_id, epoch, ARRAY[type], ARRAY[coalesce(task_id, 0)],
       ARRAY[coalesce(token, 0)], json_build_array(payload), at
FROM events
"""

_VIEW = """
CREATE VIEW events WITH (security_invoker = true) AS
SELECT b.first_seq + e.n - 1 AS seq, b.tenant_id, b.plan_id, nullif(e.task_id, 0) AS task_id,
       nullif(e.token, 0) AS token, b.epoch, e.type, e.payload::jsonb AS payload, b.at, b.last_seq
FROM event_batches AS b, ROWS FROM (
    unnest(b.types), unnest(b.task_ids), unnest(b.tokens), json_array_elements(b.payloads)
) WITH ORDINALITY AS e (type, task_id, token, payload, n)
"""


def upgrade() -> None:
    """Move what is there."""
    for name in ("incarnation", "node_id"):
        op.add_column("attempts", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.execute(_STARTED)
    op.execute(_ENDED)
    op.drop_table("starts")
    op.drop_table("results")
    op.create_table(
        "event_batches",
        sa.Column("last_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.Text(), server_default="local", nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("types", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("task_ids", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("tokens", sa.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("payloads", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("last_seq", name=op.f("pk_event_batches")),
    )
    op.create_index("ix_event_batches_plan_id_last_seq", "event_batches", ["plan_id", "last_seq"])
    last_seq = sa.Column("last_seq", sa.BigInteger(), server_default="0", nullable=False)
    op.add_column("scheduler_term", last_seq)
    op.execute(_EVENTS)
    op.execute("UPDATE scheduler_term SET last_seq = coalesce((SELECT max(seq) FROM events), 0)")
    op.drop_table("events")
    op.execute(_VIEW)
