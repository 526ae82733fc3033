"""Plans as rows, and the row commands that the scheduler would write about them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Json

from orchestrator.core.commands import EndAttempt, LeaseAttempt, RecordEvent, SaveTask
from orchestrator.core.words import AttemptKind, AttemptState, FailureClass, TaskState
from orchestrator.store.scheduler import PostgresSchedulerStore
from orchestrator.store.urls import DatabaseUrls

TASKS = """
INSERT INTO tasks (plan_id, key, ordinal, kind, title, agent_type, run, options)
SELECT %(plan)s, 'T' || n, n, 'leaf', 'Task ' || n, 'coder', '["true"]', %(options)s
FROM generate_series(1, %(count)s) AS n RETURNING id
"""
STATES = """
INSERT INTO task_states (task_id, plan_id, state)
SELECT id, plan_id, 'waiting' FROM tasks WHERE plan_id = %(plan)s
"""
EDGES = """
INSERT INTO task_dependencies (plan_id, task_id, on_task_id, kind, is_explicit)
SELECT %(plan)s, u.task_id, u.on_id, 'blocks', true
FROM unnest(%(tasks)s::bigint[], %(ons)s::bigint[]) AS u(task_id, on_id)
"""
LOCKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


class Rows:
    """Looks at the tables, and fills them, as the role `service`."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self._url = urls.service

    def all(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Run a statement; return its rows."""
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def column(self, statement: str, *values: object) -> list[Any]:
        """Run a statement; return the first column."""
        return [next(iter(row.values())) for row in self.all(statement, *values)]

    def plan(
        self,
        count: int,
        *,
        edges: Iterable[tuple[int, int]] = (),
        options: dict[str, str] | None = None,
        state: str = "submitted",
    ) -> tuple[int, list[int]]:
        """Store a plan of so many tasks; `edges` are (task, on) by position. Return its id and theirs."""
        with psycopg.connect(self._url) as connection:
            row = connection.execute(
                "INSERT INTO plans (name, source_digest, state, tasks_total) "
                "VALUES (gen_random_uuid()::text, '', %s, %s) RETURNING id",
                (state, count),
            ).fetchone()
            assert row is not None
            values = {"plan": row[0], "count": count, "options": Json(options or {})}
            ids = sorted(found[0] for found in connection.execute(TASKS.encode(), values))
            pairs = [(ids[task], ids[on]) for task, on in edges]
            tasks, ons = [task for task, _ in pairs], [on for _, on in pairs]
            connection.execute(EDGES.encode(), {"plan": row[0], "tasks": tasks, "ons": ons})
            connection.execute(STATES.encode(), values)
        return row[0], ids

    def attempts(self) -> dict[int, str]:
        """Return the state of every attempt, by token."""
        return {
            row["token"]: row["state"] for row in self.all("SELECT token, state FROM attempts ORDER BY 1")
        }


async def somebody_waits_for_a_lock(rows: Rows) -> None:
    """Wait until a statement waits for a lock; the server tells nobody of it, so it is asked."""
    async with asyncio.timeout(60):
        while rows.column(LOCKED) == [0]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def make_store(url: str, *, cluster_id: str = "c1") -> PostgresSchedulerStore:
    """Return the store of a scheduler."""
    return PostgresSchedulerStore(
        url, cluster_id=cluster_id, attempts_max=3, choose_backend=lambda *_: "command"
    )


def save(task_id: int, *, expected: int = 0, version: int = 1, **changes: Any) -> SaveTask:
    """Return the write of a task that becomes ready."""
    base = SaveTask(
        task_id=task_id,
        state=TaskState.READY,
        reason="",
        not_before_ms=0,
        attempts_used=0,
        losses=0,
        wants=AttemptKind.WORK,
        expected=expected,
        version=version,
    )
    return replace(base, **changes)


def lease(token: int, *, plan_id: int, task_id: int, number: int = 1, executor: str = "x1") -> LeaseAttempt:
    """Return the lease of a work attempt."""
    return LeaseAttempt(
        token=token,
        tenant_id="local",
        plan_id=plan_id,
        task_id=task_id,
        kind=AttemptKind.WORK,
        number=number,
        agent_type="coder",
        backend="command",
        executor=executor,
    )


def end(token: int, state: AttemptState = AttemptState.LOST, **changes: Any) -> EndAttempt:
    """Return the end of an attempt that stored no result."""
    failure = FailureClass.TIMEOUT if state is AttemptState.TIMED_OUT else FailureClass.INFRASTRUCTURE
    base = EndAttempt(token=token, state=state, end_reason="executor lost", failure_class=failure)
    return replace(base, **changes)


#: Appends an event, in a batch of its own.
APPEND_EVENT = """
INSERT INTO event_batches (last_seq, first_seq, plan_id, epoch, types, task_ids, tokens, payloads)
SELECT seq, seq, %(plan)s::bigint, 1, ARRAY[%(type)s], ARRAY[%(task)s::bigint], ARRAY[%(token)s::bigint],
       '[{}]'
FROM (SELECT coalesce(max(last_seq), 0) + 1 AS seq FROM event_batches) AS next
RETURNING last_seq
"""


def record(kind: str, *, plan_id: int, **payload: object) -> RecordEvent:
    """Return an event."""
    return RecordEvent(type=kind, tenant_id="local", plan_id=plan_id, payload=payload)


@contextmanager
def frozen(rows: Rows, name: str) -> Iterator[None]:
    """Freeze the server's process of the one connection that has the name; its socket stays open."""
    (pid,) = rows.column(
        "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND datname = current_database()", name
    )
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
