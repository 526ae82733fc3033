"""Plans keep the text of each of their files, can be revised, and know where the mark of each task stands."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

_KEY = ("uq_tasks_tenant_id_plan_id_key", "tasks", ["tenant_id", "plan_id", "key"])

_FILES_SQL = """
INSERT INTO plan_files (tenant_id, plan_id, path, text) SELECT tenant_id, id, '', source FROM plans
"""

#: What the file said was not kept; it can be told of those that have not moved since.
_MARKS_SQL = """
UPDATE tasks AS t
SET mark_start = nullif(t.mark_offset, -1), mark_end = nullif(t.mark_offset, -1) + 1, rank = s.rank,
    notation = CASE WHEN t.mark_offset >= 0 THEN 'box' ELSE '' END,
    mark = CASE s.reason
        WHEN 'by import, no evidence' THEN 'done'
        WHEN 'in progress elsewhere' THEN 'in_progress'
        WHEN 'blocked in the plan' THEN 'blocked'
        WHEN 'deferred in the plan' THEN 'deferred'
        WHEN 'cancelled in the plan' THEN 'cancelled'
        ELSE 'open' END
FROM task_states AS s WHERE s.task_id = t.id
"""


def upgrade() -> None:
    """Make the tables; move what a text says from states and plans to where it belongs."""
    _make_plan_files()
    _make_plan_revisions()
    for column in (
        sa.Column("has_own_key", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("is_removed", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("rank", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("mark", sa.Text(), server_default="open", nullable=False),
        sa.Column("mark_start", sa.Integer()),
        sa.Column("mark_end", sa.Integer()),
        sa.Column("notation", sa.Text(), server_default="", nullable=False),
    ):
        op.add_column("tasks", column)
    op.execute(_FILES_SQL)
    op.execute(_MARKS_SQL)
    op.drop_column("plans", "source")
    op.drop_column("tasks", "mark_offset")
    op.drop_column("task_states", "priority")
    op.drop_column("task_states", "rank")
    name, table, columns = _KEY
    op.drop_constraint(name, table)
    op.create_unique_constraint(op.f(name), table, columns, deferrable=True)


def _make_plan_files() -> None:
    op.create_table(
        "plan_files",
        sa.Column("tenant_id", sa.Text(), server_default="local", nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["plans.id"], name=op.f("fk_plan_files_plan_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("plan_id", "path", name=op.f("pk_plan_files")),
    )


def _make_plan_revisions() -> None:
    op.create_table(
        "plan_revisions",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("tenant_id", sa.Text(), server_default="local", nullable=False),
        sa.Column("plan_id", sa.BigInteger(), nullable=False),
        sa.Column("base_digest", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("changes", postgresql.JSONB(), nullable=False),
        sa.Column("content", postgresql.JSONB(), nullable=False),
        sa.Column("state", sa.Text(), server_default="submitted", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["plans.id"], name=op.f("fk_plan_revisions_plan_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan_revisions")),
    )
    op.create_index(op.f("ix_plan_revisions_plan_id"), "plan_revisions", ["plan_id"])
    is_open = sa.text("state IN ('submitted', 'stored')")
    op.create_index(op.f("ix_plan_revisions_open"), "plan_revisions", ["id"], postgresql_where=is_open)
