"""The tables, and nothing else: what each column means, its unit, and the index each hot query needs.

`tenant_id` stands on every table. State tables are the truth and events record them; there is no replay.
Hot statements are written in SQL beside their use (committer, executors); the rest selects from here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ARRAY,
    DDL,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.event import listen

from orchestrator.store.hot import TOKEN_BLOCK

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

token_sequence = Sequence("attempt_tokens", increment=TOKEN_BLOCK, start=1, metadata=metadata)


def _tenant() -> Column[Any]:
    return Column("tenant_id", Text, nullable=False, server_default="local")


def _now(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


def _moment(name: str) -> Column[Any]:
    return Column(name, DateTime(timezone=True))


def _count(name: str, kind: Any = BigInteger) -> Column[Any]:
    return Column(name, kind, nullable=False, server_default="0")


def _words(name: str) -> Column[Any]:
    return Column(name, Text, nullable=False, server_default="")


def _list(name: str) -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=text("'[]'::jsonb"))


def _object(name: str) -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=text("'{}'::jsonb"))


tenants = Table(
    "tenants",
    metadata,
    Column("tenant_id", Text, primary_key=True),
    _words("name"),
    _now("created_at"),
)

plans = Table(
    "plans",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _tenant(),
    Column("name", Text, nullable=False),  # identity of the plan within its tenant; by default its path
    _words("title"),
    _words("format"),
    Column("source_digest", Text, nullable=False),  # of the texts of its files, hex; see plan/sources.py
    _words("workdir"),  # absolute folder of the work; empty if the plan has none
    Column(
        "repository", JSONB(none_as_null=True)
    ),  # whose clones its attempts work in, the fields of ports.Repository
    Column("backend", Text, nullable=False, server_default="auto"),
    _object("meta"),  # front matter, as written
    Column("state", Text, nullable=False, server_default="submitted"),
    _count("tasks_total", Integer),  # leaves
    _count("budget_micros"),  # 0 = no budget of its own
    _count("fruitless_micros"),  # spent since a task of it was last done
    _words("until_key"),  # work only on this task and what it needs; empty = the whole plan
    _now("created_at"),
    _moment("ended_at"),
    UniqueConstraint("tenant_id", "name"),
    Index("ix_plans_unfinished", "id", postgresql_where=text("state NOT IN ('done', 'cancelled')")),
)

plan_files = Table(
    "plan_files",
    metadata,
    _tenant(),
    Column("plan_id", BigInteger, ForeignKey("plans.id", ondelete="CASCADE"), primary_key=True),
    Column("path", Text, primary_key=True),  # below the plan's folder; empty for the only file of a plan
    Column("text", Text, nullable=False),  # as read: base of the three-way merge
)

plan_revisions = Table(
    "plan_revisions",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _tenant(),
    Column("plan_id", BigInteger, ForeignKey("plans.id", ondelete="CASCADE"), nullable=False),
    Column("base_digest", Text, nullable=False),  # of the text that it changes; another one refuses it
    Column("digest", Text, nullable=False),  # of the text that it brings
    Column("changes", JSONB, nullable=False),  # for readers: added, changed, moved, removed tasks
    Column("content", JSONB, nullable=False),  # for the scheduler: rows as they are to be
    # submitted (inert), stored (rows are so), applied (the scheduler runs by it), refused
    Column("state", Text, nullable=False, server_default="submitted"),
    _words("reason"),  # why it was refused
    _now("created_at"),
    _moment("ended_at"),
    Index("ix_plan_revisions_plan_id", "plan_id"),
    Index("ix_plan_revisions_open", "id", postgresql_where=text("state IN ('submitted', 'stored')")),
)

proposals = Table(
    "proposals",
    metadata,
    # What a model was asked for and what it cost, whether or not anything came of it.
    Column("id", BigInteger, Identity(), primary_key=True),
    _tenant(),
    Column("plan_id", BigInteger, ForeignKey("plans.id", ondelete="CASCADE"), nullable=False),
    Column("task_key", Text, nullable=False),
    Column("model", Text, nullable=False),
    _list("subtasks"),  # as proposed; empty where the error says why there are none
    _words("error"),
    _count("requests", Integer),
    _count("input_tokens"),
    _count("output_tokens"),
    _count("cache_read_tokens"),
    _count("cache_write_tokens"),
    _count("cost_micros"),
    _now("created_at"),
    Index("ix_proposals_plan_id", "plan_id"),
)

notes = Table(
    "notes",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _tenant(),
    Column("plan_id", BigInteger, ForeignKey("plans.id", ondelete="CASCADE"), nullable=False),
    Column("task_id", BigInteger, ForeignKey("tasks.id", ondelete="CASCADE")),  # NULL = on the plan
    Column("token", BigInteger),  # of the attempt whose session wrote it; NULL = a person did
    Column("kind", Text, nullable=False),  # note, decision
    Column("text", Text, nullable=False),
    Column("is_told", Boolean, nullable=False, server_default=text("false")),  # by an event
    _now("created_at"),
    Index("ix_notes_untold", "id", postgresql_where=text("NOT is_told")),
    Index("ix_notes_plan_id", "plan_id", "id"),
    Index("ix_notes_task_id", "task_id"),
    # what every task of the plan is told
    Index("ix_notes_shared", "plan_id", "id", postgresql_where=text("kind = 'decision' OR task_id IS NULL")),
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _tenant(),
    Column("plan_id", BigInteger, ForeignKey("plans.id", ondelete="CASCADE"), nullable=False),
    Column("key", Text, nullable=False),
    Column("has_own_key", Boolean, nullable=False, server_default=text("false")),  # the author wrote it
    Column("is_removed", Boolean, nullable=False, server_default=text("false")),  # the author took it out
    Column("parent_id", BigInteger),
    Column("ordinal", Integer, nullable=False),  # place in the plan, from 0
    Column("kind", Text, nullable=False),
    Column("title", Text, nullable=False),
    _words("body"),
    Column("priority", Integer, nullable=False, server_default="2"),
    _count("rank"),  # longest downstream, ms: longer first
    Column("estimate_ms", BigInteger),
    _words("task_type"),
    _words("domain"),
    _words("agent_override"),  # agent type as the author wrote it
    _words("agent_type"),  # agent type by the routing rules; empty on containers
    _list("acceptance"),
    _list("touches"),
    _list("run"),
    _list("verify"),
    _words("manual"),
    _words("approve"),
    _object("options"),
    _words("source_file"),
    _count("line", Integer),
    Column("mark", Text, nullable=False, server_default="open"),  # as it stands in the file
    Column("mark_start", Integer),  # where it stands there, in characters; NULL where no mark can stand
    Column("mark_end", Integer),
    _words("notation"),
    # Keys may change hands within a revision, so they are compared at its end.
    UniqueConstraint("tenant_id", "plan_id", "key", deferrable=True),
    Index("ix_tasks_plan_ordinal", "plan_id", "ordinal"),
    Index("ix_tasks_parent_id", "parent_id"),
)

task_states = Table(
    "task_states",
    metadata,
    Column("task_id", BigInteger, ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    _tenant(),
    Column("plan_id", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    _words("reason"),  # why it is held, failed, cancelled or done ("by import, no evidence")
    _moment("not_before"),  # end of the back-off
    _count("attempts_used", Integer),
    _count("losses", Integer),  # in a row
    Column("wants", Text, nullable=False, server_default="work"),  # kind of its next attempt
    # A person has let it through, though its author wanted it held (`approve:`, `manual:`).
    Column("is_released", Boolean, nullable=False, server_default=text("false")),
    _count("budget_micros"),  # of all its attempts, as a person has set it; 0 = as its author says
    _count("version", Integer),  # guard of every update
    _now("updated_at"),
    # No index names what changes, so that every update stays within its page (docs/adr/0013).
    postgresql_with={"fillfactor": "70"},
)

task_dependencies = Table(
    "task_dependencies",
    metadata,
    _tenant(),
    Column("plan_id", BigInteger, ForeignKey("plans.id", ondelete="CASCADE"), nullable=False),
    Column("task_id", BigInteger, primary_key=True),
    Column("on_task_id", BigInteger, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("is_explicit", Boolean, nullable=False),
    _words("evidence"),
    _count("line", Integer),
    Column("confidence", Float, nullable=False, server_default="1"),
    Index("ix_task_dependencies_plan_id", "plan_id"),
)

routing_decisions = Table(
    "routing_decisions",
    metadata,
    Column("task_id", BigInteger, ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True),
    _tenant(),
    Column("agent_type", Text, nullable=False),
    Column("rule", Text, nullable=False),  # override, keyword, track, general
    _words("evidence"),
    _now("decided_at"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("token", BigInteger, primary_key=True, autoincrement=False),
    _tenant(),
    Column("plan_id", BigInteger, nullable=False),
    Column("task_id", BigInteger, ForeignKey("tasks.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),  # from 1, per task and kind
    Column("kind", Text, nullable=False),
    Column("agent_type", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("executor", Text, nullable=False),
    Column("cluster_id", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    _words("incarnation"),  # of the executor that started it
    _words("node_id"),  # Ray's id of the node where its processes are; empty = not known
    _words("end_reason"),  # `reported`: its executor has stored the result
    Column("failure_class", Text),
    _words("summary"),
    _words("detail"),
    Column("exit_code", Integer),
    Column("report", JSONB),
    _count("input_tokens"),
    _count("output_tokens"),
    _count("cache_read_tokens"),
    _count("cache_write_tokens"),
    _count("cost_micros"),
    _count("reserved_micros"),  # what it may spend; after its end, what counts as spent for want of a figure
    _count("requests", Integer),
    _now("leased_at"),
    _moment("started_at"),
    _moment("ended_at"),
    UniqueConstraint("task_id", "kind", "number"),
    Index("ix_attempts_plan_id", "plan_id"),
    # Its start and its end are updates, and both should find room on its page (docs/performance.md).
    postgresql_with={"fillfactor": "40"},
)

attempt_commits = Table(
    "attempt_commits",
    metadata,
    Column(
        "token",
        BigInteger,
        ForeignKey("attempts.token", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    _tenant(),
    Column("base_sha", Text, nullable=False),  # what it began with
    Column("head_sha", Text, nullable=False),  # what it left; equal if it changed nothing
    Column("branch", Text, nullable=False),  # its name in the repository
    Column("files", JSONB, nullable=False),  # [path, lines added, lines removed]; null for a binary file
)

leases = Table(
    "leases",
    metadata,
    Column("token", BigInteger, primary_key=True, autoincrement=False),
    _tenant(),
    # A task has one lease at most: it comes with its attempt and goes when the scheduler takes the end.
    Column("task_id", BigInteger, nullable=False, unique=True),
    _count("beat"),  # bumped by the executor; the scheduler watches whether it stands still
    Column("cancel_reason", Text),
    postgresql_with={"fillfactor": "70"},
)

transcript_chunks = Table(
    "transcript_chunks",
    metadata,
    Column("token", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    _tenant(),
    Column("key_id", Text),  # encryption key; NULL = compressed only
    Column("bytes", LargeBinary, nullable=False),  # zlib over JSON lines [ms since start, stream, text]
    _now("at"),
)

journal_entries = Table(
    "journal_entries",
    metadata,
    # Rows of attempts that are over go (store/journals.py); those of a lost one stay for the next.
    Column("token", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    _tenant(),
    Column("key_id", Text),  # encryption key; NULL = compressed only
    Column("bytes", LargeBinary, nullable=False),  # zlib over what sessions/models/journal.py writes
    _now("at"),
)

event_batches = Table(
    "event_batches",
    metadata,
    # What one batch of the committer says of one plan; the view `events` shows the events one by one. A row
    # for each of them was the dearest part of the protocol (docs/adr/0023).
    Column("last_seq", BigInteger, primary_key=True, autoincrement=False),  # seq order is commit order
    Column("first_seq", BigInteger, nullable=False),
    _tenant(),
    Column("plan_id", BigInteger),  # NULL = no plan's
    Column("epoch", BigInteger, nullable=False),
    # One element for each event, in their order; 0 = of no task, of no attempt.
    Column("types", ARRAY(Text), nullable=False),
    Column("task_ids", ARRAY(BigInteger), nullable=False),
    Column("tokens", ARRAY(BigInteger), nullable=False),
    Column("payloads", JSON, nullable=False),
    _now("at"),
    Index("ix_event_batches_plan_id_last_seq", "plan_id", "last_seq"),
)

#: Shows the events of all batches one by one: `seq`, the columns of its batch, and its element of each list.
EVENTS_VIEW = "events"

_make_events_view = DDL(  # type: ignore[no-untyped-call]
    """
CREATE VIEW events WITH (security_invoker = true) AS
SELECT b.first_seq + e.n - 1 AS seq, b.tenant_id, b.plan_id, nullif(e.task_id, 0) AS task_id,
       nullif(e.token, 0) AS token, b.epoch, e.type, e.payload::jsonb AS payload, b.at, b.last_seq
FROM event_batches AS b, ROWS FROM (
    unnest(b.types), unnest(b.task_ids), unnest(b.tokens), json_array_elements(b.payloads)
) WITH ORDINALITY AS e (type, task_id, token, payload, n)
"""
)
listen(event_batches, "after_create", _make_events_view)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", Text, primary_key=True, server_default="local"),
    Column("key", Text, primary_key=True),
    Column("body_digest", Text, nullable=False),
    Column("response", JSONB),
    _now("at"),
)

agent_types = Table(
    "agent_types",
    metadata,
    Column("tenant_id", Text, primary_key=True, server_default="local"),
    Column("name", Text, primary_key=True),  # with `@` and the plan for one that a plan brought along
    Column("plan_id", BigInteger, ForeignKey("plans.id", ondelete="CASCADE")),  # NULL = of everybody
    Column("definition", JSONB),  # as its file said when it could last be read; NULL = never
    _words("fault"),  # what is wrong with the file now
    _now("updated_at"),
    Index("ix_agent_types_plan_id", "plan_id"),
)

agent_task_affinity = Table(
    "agent_task_affinity",
    metadata,
    Column("tenant_id", Text, primary_key=True, server_default="local"),
    Column("agent_type", Text, primary_key=True),
    Column("task_type", Text, primary_key=True),
    Column("domain", Text, primary_key=True),
    _count("attempts"),
    _count("successes"),
    Column("success", Float, nullable=False, server_default="0"),  # EMA, 0 to 1
    Column("duration_ms", Float, nullable=False, server_default="0"),  # EMA
    Column("tokens", Float, nullable=False, server_default="0"),  # EMA, input + output
    Column("cost_micros", Float, nullable=False, server_default="0"),  # EMA
    _now("updated_at"),
    Index("ix_agent_task_affinity_updated_at", "updated_at"),
)

circuit_breakers = Table(
    "circuit_breakers",
    metadata,
    Column("tenant_id", Text, primary_key=True, server_default="local"),
    Column("agent_type", Text, primary_key=True),
    Column("state", Text, nullable=False),
    _count("failures", Integer),  # tasks that failed in a row when it moved
    _now("opened_at"),
    _now("updated_at"),
)

orchestrator_state = Table(
    "orchestrator_state",
    metadata,
    # `controls` (pause and limits that people set), `scheduler` (counts, every 30 s), `metrics` (last event
    # seq taken)
    Column("key", Text, primary_key=True),
    _tenant(),
    _object("value"),
    _now("updated_at"),
)

scheduler_term = Table(
    "scheduler_term",
    metadata,
    Column("only", Boolean, primary_key=True, server_default=text("true")),
    _tenant(),
    _count("epoch"),
    _words("cluster_id"),
    _words("incarnation"),
    _now("renewed_at"),
    _count("batch"),  # number of the last committed batch: check, renewal and outcome look-up in one row
    _count("last_seq"),  # of the last event, in any term
    Column("is_released", Boolean, nullable=False, server_default=text("true")),
    CheckConstraint('"only"', name="one_row"),
)
