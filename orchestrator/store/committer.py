"""The scheduler's one writer: a batch of row commands in, one transaction out.

The term's row is updated first in every transaction: that checks the epoch, renews the term and numbers the
batch in one statement, so the outcome of a commit whose answer was lost can be looked up. Rows travel as one
array per column (`UPDATE … FROM unnest`), statements in pipeline mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import psycopg
from psycopg.types.json import Json

from orchestrator.core.commands import (
    AskCancel,
    EndAttempt,
    LeaseAttempt,
    MarkStarted,
    RecordEvent,
    RowCommand,
    SaveAnswer,
    SaveBreaker,
    SaveControls,
    SavePlan,
    SaveTask,
)
from orchestrator.core.words import FINISHED
from orchestrator.errors import Fenced, InvariantViolation
from orchestrator.ports import Term
from orchestrator.store.hot import TOKEN_BLOCK, HotConnection
from orchestrator.store.listener import CHANNEL

_Row = TypeVar("_Row", bound=RowCommand)

#: How the server's activity view shows the one connection that writes.
_NAME = "orchestrator-committer"

#: Columns of a statement: the type of the array and how a row gives the value.
_Columns = tuple[tuple[str, Callable[[Any], object]], ...]

#: What it writes, the statement, its values, and how many rows it must hit (None = any).
_Statement = tuple[str, str, dict[str, Any], int | None]

_SAVE_TASKS: _Columns = (
    ("bigint", lambda r: r.task_id),
    ("text", lambda r: r.state.value),
    ("text", lambda r: r.reason),
    ("int", lambda r: r.unmet_dependencies),
    ("bigint", lambda r: r.not_before_ms),
    ("int", lambda r: r.attempts_used),
    ("int", lambda r: r.losses),
    ("int", lambda r: r.expected),
    ("int", lambda r: r.version),
)
_LEASE_ATTEMPTS: _Columns = (
    ("bigint", lambda r: r.token),
    ("text", lambda r: r.tenant_id),
    ("bigint", lambda r: r.plan_id),
    ("bigint", lambda r: r.task_id),
    ("text", lambda r: r.kind.value),
    ("int", lambda r: r.number),
    ("text", lambda r: r.agent_type),
    ("text", lambda r: r.backend),
    ("text", lambda r: r.executor),
)
_MARK_STARTED: _Columns = (("bigint", lambda r: r.token),)
_END_ATTEMPTS: _Columns = (
    ("bigint", lambda r: r.token),
    ("text", lambda r: r.state.value),
    ("text", lambda r: r.end_reason),
    ("text", lambda r: r.failure_class.value if r.failure_class else None),
)
_ASK_CANCEL: _Columns = (("bigint", lambda r: r.token), ("text", lambda r: r.reason))
_SAVE_PLANS: _Columns = (
    ("bigint", lambda r: r.plan_id),
    ("text", lambda r: r.state.value),
    ("bool", lambda r: r.state in FINISHED),
    ("bigint", lambda r: r.until_task),
    ("bigint", lambda r: r.budget_micros),
)
_SAVE_BREAKERS: _Columns = (
    ("text", lambda r: r.agent_type),
    ("text", lambda r: r.state.value),
    ("int", lambda r: r.failures),
    ("bigint", lambda r: r.opened_at_ms),
)
_SAVE_CONTROLS: _Columns = (
    ("jsonb", lambda r: Json({"is_paused": r.is_paused, "limits": r.overrides.as_json()})),
)
_SAVE_ANSWERS: _Columns = (
    ("text", lambda r: r.tenant_id),
    ("text", lambda r: r.key),
    ("text", lambda r: r.digest),
    ("jsonb", lambda r: Json({"result": dict(r.result), "error": r.error})),
)
_RECORD_EVENTS: _Columns = (
    ("text", lambda r: r.type),
    ("text", lambda r: r.tenant_id),
    ("bigint", lambda r: r.plan_id or None),
    ("bigint", lambda r: r.task_id or None),
    ("bigint", lambda r: r.token or None),
    ("jsonb", lambda r: Json(dict(r.payload))),
)

_RENEW = """
UPDATE scheduler_term SET batch = %(batch)s, renewed_at = clock_timestamp()
WHERE epoch = %(epoch)s AND NOT is_released
"""

#: Key of what people have set for everything, in `orchestrator_state`.
CONTROLS = "controls"

#: It waits for a commit of ours that the server is still working on, whose connection we have lost.
_LAST_BATCH_SQL = "SELECT batch FROM scheduler_term WHERE epoch = %(epoch)s FOR UPDATE"

_TERM_SQL = """
SELECT epoch, cluster_id, is_released, batch || ' ' || renewed_at, incarnation FROM scheduler_term
"""

#: Ends what a frozen holder left open, which locks the term's row for as long as it is frozen. The server's
#: idle_in_transaction_session_timeout does not: psycopg ends a pipeline with a Flush, which stops its clock.
_END_FROZEN_SQL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = %(name)s AND datname = current_database() AND usename = current_user
    AND wait_event = 'ClientRead' AND xact_start IS NOT NULL
    AND state_change < clock_timestamp() - interval '1 second'
"""

_TAKE_SQL = """
INSERT INTO scheduler_term AS t (epoch, cluster_id, incarnation, is_released)
VALUES (1, %(cluster)s, %(incarnation)s, false)
ON CONFLICT ("only") DO UPDATE
SET epoch = t.epoch + 1, cluster_id = excluded.cluster_id, incarnation = excluded.incarnation, batch = 0,
    is_released = false, renewed_at = clock_timestamp()
WHERE t.epoch = %(epoch)s
RETURNING epoch, extract(epoch FROM clock_timestamp()) * 1000
"""

_TASKS_SQL = """
UPDATE task_states AS t
SET state = u.state, reason = u.reason, unmet_dependencies = u.unmet,
    not_before = CASE WHEN u.not_before = 0 THEN NULL ELSE to_timestamp(u.not_before / 1000.0) END,
    attempts_used = u.used, losses = u.losses, version = u.version, updated_at = now()
FROM unnest({}) AS u(id, state, reason, unmet, not_before, used, losses, expected, version)
WHERE t.task_id = u.id AND t.version = u.expected
"""

_ATTEMPTS_SQL = """
WITH leased AS (
    INSERT INTO attempts (token, tenant_id, plan_id, task_id, kind, number, agent_type, backend, executor,
                          cluster_id, epoch, state)
    SELECT u.*, %(cluster_id)s, %(epoch)s, 'leased' FROM unnest({}) AS u
    RETURNING token, tenant_id
)
INSERT INTO leases (token, tenant_id) SELECT token, tenant_id FROM leased
"""

_STARTED_SQL = """
UPDATE attempts AS a SET state = 'started', started_at = coalesce(s.at, now())
FROM unnest({}) AS u(token) LEFT JOIN starts AS s ON s.token = u.token
WHERE a.token = u.token AND a.state = 'leased'
"""

#: `starts` and `results` stand beside: usage and words come from the stored result.
_ENDED_SQL = """
UPDATE attempts AS a
SET state = u.state, end_reason = u.reason, failure_class = u.class, ended_at = coalesce(r.at, now()),
    started_at = coalesce(a.started_at, s.at),
    summary = coalesce(r.summary, ''), detail = coalesce(r.detail, ''), exit_code = r.exit_code,
    report = r.report, input_tokens = coalesce(r.input_tokens, 0),
    output_tokens = coalesce(r.output_tokens, 0), cache_read_tokens = coalesce(r.cache_read_tokens, 0),
    cache_write_tokens = coalesce(r.cache_write_tokens, 0), cost_micros = coalesce(r.cost_micros, 0),
    requests = coalesce(r.requests, 0)
FROM unnest({}) AS u(token, state, reason, class)
    LEFT JOIN results AS r ON r.token = u.token
    LEFT JOIN starts AS s ON s.token = u.token
WHERE a.token = u.token
  AND (a.state IN ('leased', 'started') OR (a.state = 'lost' AND u.state IN ('lost', 'timed_out')))
"""

_FREE_LEASES_SQL = "DELETE FROM leases WHERE token = ANY(%(tokens)s)"

_CANCEL_SQL = """
UPDATE leases AS l SET cancel_reason = u.reason
FROM unnest({}) AS u(token, reason) WHERE l.token = u.token
"""

_PLANS_SQL = """
UPDATE plans AS p
SET state = u.state, ended_at = CASE WHEN u.is_over THEN now() END, until_key = coalesce(t.key, ''),
    budget_micros = u.budget
FROM unnest({}) AS u(id, state, is_over, until_task, budget) LEFT JOIN tasks AS t ON t.id = u.until_task
WHERE p.id = u.id
"""

_BREAKERS_SQL = """
INSERT INTO circuit_breakers (agent_type, state, failures, opened_at)
SELECT u.agent_type, u.state, u.failures, to_timestamp(u.opened_at / 1000.0) FROM unnest({})
    AS u(agent_type, state, failures, opened_at)
ON CONFLICT (tenant_id, agent_type) DO UPDATE
SET state = excluded.state, failures = excluded.failures, opened_at = excluded.opened_at, updated_at = now()
"""

_CONTROLS_SQL = """
INSERT INTO orchestrator_state (key, value) SELECT %(controls)s, u.value FROM unnest({}) AS u(value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now()
"""

#: A key that a submission took in the same moment stays that submission's.
_ANSWERS_SQL = """
INSERT INTO idempotency_keys (tenant_id, key, body_digest, response) SELECT u.* FROM unnest({}) AS u
ON CONFLICT DO NOTHING
"""

_EVENTS_SQL = """
WITH written AS (
    INSERT INTO events (type, tenant_id, plan_id, task_id, token, payload, epoch)
    SELECT u.type, u.tenant_id, u.plan_id, u.task_id, u.token, u.payload, %(epoch)s
    FROM unnest({}) WITH ORDINALITY AS u(type, tenant_id, plan_id, task_id, token, payload, n) ORDER BY u.n
    RETURNING seq
)
SELECT pg_notify(%(channel)s, max(seq)::text) FROM written
"""


class Committer:
    """The hot connection, used by one caller at a time: the scheduler's loop.

    Args:
        url: libpq URL of the service role, past any connection pooler.
        cluster_id: identity of the Ray cluster whose executors may still run attempts of ours.
    """

    def __init__(self, url: str, *, cluster_id: str) -> None:
        self._cluster_id = cluster_id
        self._epoch = 0
        self._hot = HotConnection(url, name=_NAME)

    @property
    def epoch(self) -> int:
        """The term under which this committer writes."""
        return self._epoch

    async def commit(self, batch: int, rows: Sequence[RowCommand]) -> None:
        """Write everything or nothing; see ports.SchedulerStore."""
        async with self._hot.use() as connection:
            counts = await self._write(connection, batch, rows)
            for what, hit, meant in counts:
                if hit == meant:
                    continue
                await connection.rollback()
                if what == "term":
                    raise Fenced(f"Epoch {self._epoch} no longer holds the scheduler's term.")
                raise InvariantViolation(f"Batch {batch}: memory has {meant} rows of {what}, {hit} are so.")
            await connection.commit()

    async def _write(
        self, connection: psycopg.AsyncConnection[Any], batch: int, rows: Sequence[RowCommand]
    ) -> list[tuple[str, int, int]]:
        """Send every statement in one round trip; return (what, rows hit, rows meant) of the guarded ones."""
        statements: list[_Statement] = [("term", _RENEW, {"batch": batch, "epoch": self._epoch}, 1)]
        statements += self._statements(rows)
        cursors: list[tuple[str, psycopg.AsyncCursor[Any], int | None]] = []
        async with connection.pipeline():
            for what, statement, values, meant in statements:
                cursor = connection.cursor()
                await cursor.execute(statement.encode(), values)
                cursors.append((what, cursor, meant))
        return [(what, cursor.rowcount, meant) for what, cursor, meant in cursors if meant is not None]

    def _statements(self, rows: Sequence[RowCommand]) -> list[_Statement]:
        found: list[_Statement] = []

        def add(what: str, statement: str, columns: _Columns, chosen: Sequence[Any], *, guard: bool) -> None:
            if chosen:
                arrays = ", ".join(f"%({n})s::{kind}[]" for n, (kind, _) in enumerate(columns))
                values: dict[str, Any] = {
                    str(n): [value(row) for row in chosen] for n, (_, value) in enumerate(columns)
                }
                values |= {"epoch": self._epoch, "cluster_id": self._cluster_id, "channel": CHANNEL}
                values["controls"] = CONTROLS
                found.append((what, statement.format(arrays), values, len(chosen) if guard else None))

        ended = _of(rows, EndAttempt)
        add("task_states", _TASKS_SQL, _SAVE_TASKS, _last_saves(_of(rows, SaveTask)), guard=True)
        add("attempts ended", _ENDED_SQL, _END_ATTEMPTS, ended, guard=True)
        add("attempts leased", _ATTEMPTS_SQL, _LEASE_ATTEMPTS, _of(rows, LeaseAttempt), guard=True)
        add("attempts started", _STARTED_SQL, _MARK_STARTED, _of(rows, MarkStarted), guard=False)
        add("leases", _CANCEL_SQL, _ASK_CANCEL, _of(rows, AskCancel), guard=False)
        add("plans", _PLANS_SQL, _SAVE_PLANS, _last_plans(_of(rows, SavePlan)), guard=True)
        add("breakers", _BREAKERS_SQL, _SAVE_BREAKERS, _last_breakers(_of(rows, SaveBreaker)), guard=False)
        add("controls", _CONTROLS_SQL, _SAVE_CONTROLS, _of(rows, SaveControls)[-1:], guard=False)
        add("answers", _ANSWERS_SQL, _SAVE_ANSWERS, _of(rows, SaveAnswer), guard=False)
        if ended:
            found.append(("leases freed", _FREE_LEASES_SQL, {"tokens": [row.token for row in ended]}, None))
        add("events", _EVENTS_SQL, _RECORD_EVENTS, _of(rows, RecordEvent), guard=False)
        return found

    async def take_term(self, *, incarnation: str, is_starting: bool, patience_s: float) -> Term:
        """Wait until the term may be taken, and take it; see ports.SchedulerStore."""
        seen: tuple[int, object] | None = None
        since = 0.0
        loop = asyncio.get_running_loop()
        while True:
            async with self._hot.use() as connection:
                row = await self._one(connection, _TERM_SQL)
                is_free = row is None or row[2] or row[4] == incarnation
                is_free = is_free or (is_starting and row is not None and row[1] == self._cluster_id)
                still = (row[0], row[3]) if row is not None else None
                if still != seen:
                    seen, since = still, loop.time()
                if is_free or loop.time() - since >= patience_s:
                    await connection.execute(_END_FROZEN_SQL, {"name": _NAME})
                    epoch = row[0] if row else 0
                    values = {"cluster": self._cluster_id, "incarnation": incarnation, "epoch": epoch}
                    taken = await self._one(connection, _TAKE_SQL, values)
                    await connection.commit()
                    if taken is not None:
                        self._epoch = taken[0]
                        return Term(epoch=taken[0], now_ms=int(taken[1]))
                await connection.rollback()
            await asyncio.sleep(min(1.0, patience_s / 5))

    async def release_term(self) -> None:
        """Give the term back."""
        async with self._hot.use() as connection:
            await connection.execute(
                "UPDATE scheduler_term SET is_released = true WHERE epoch = %s", (self._epoch,)
            )
            await connection.commit()

    async def last_batch(self) -> int:
        """Return the number of the last committed batch; see ports.SchedulerStore."""
        async with self._hot.use() as connection:
            row = await self._one(connection, _LAST_BATCH_SQL, {"epoch": self._epoch})
            await connection.rollback()
        if row is None:
            raise Fenced(f"Epoch {self._epoch} no longer holds the scheduler's term.")
        return int(row[0])

    async def reserve_tokens(self) -> tuple[int, int]:
        """Take a block of tokens from the sequence."""
        async with self._hot.use() as connection:
            row = await self._one(connection, "SELECT nextval('attempt_tokens')")
            await connection.commit()
        assert row is not None
        return int(row[0]), TOKEN_BLOCK

    async def close(self) -> None:
        """Close the connection."""
        await self._hot.close()

    @staticmethod
    async def _one(
        connection: psycopg.AsyncConnection[Any], statement: str, values: dict[str, Any] | None = None
    ) -> tuple[Any, ...] | None:
        cursor = await connection.execute(statement.encode(), values or {})
        return await cursor.fetchone()


def _of(rows: Sequence[RowCommand], kind: type[_Row]) -> list[_Row]:
    return [row for row in rows if isinstance(row, kind)]


def _last_saves(saves: Sequence[SaveTask]) -> list[SaveTask]:
    """Fold the writes of one task into one: the last values, guarded by the first version."""
    folded: dict[int, SaveTask] = {}
    for save in saves:
        first = folded.get(save.task_id)
        folded[save.task_id] = save if first is None else replace(save, expected=first.expected)
    return list(folded.values())


def _last_plans(saves: Sequence[SavePlan]) -> list[SavePlan]:
    return list({save.plan_id: save for save in saves}.values())


def _last_breakers(saves: Sequence[SaveBreaker]) -> list[SaveBreaker]:
    return list({save.agent_type: save for save in saves}.values())
