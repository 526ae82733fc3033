"""What the scheduler reads: plans in slices, stored starts and results, beats, history; and fencing.

It has a connection of its own, so that reading never waits behind, or holds up, a commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Json

from orchestrator.core.events import (
    AffinityRow,
    AttemptEnded,
    AttemptStarted,
    LiveAttempt,
    PlanSpec,
    TaskSpec,
)
from orchestrator.core.words import (
    AttemptKind,
    AttemptState,
    FailureClass,
    HoldReason,
    PlanState,
    TaskKind,
    TaskState,
)
from orchestrator.errors import NotFound
from orchestrator.plan.model import ESTIMATE_MS_DEFAULT
from orchestrator.ports import Fate, PlanSlice
from orchestrator.store.committer import Committer
from orchestrator.store.hot import HotConnection
from orchestrator.text import id_in

#: Tasks in one slice of a plan: small enough that taking a slice does not hold up a dispatch.
SLICE = 2_000

_PLAN_SQL = """
SELECT p.id, p.tenant_id, p.state, p.budget_micros, p.backend, coalesce(u.id, 0) AS until_task,
       coalesce((SELECT sum(a.cost_micros) FROM attempts AS a WHERE a.plan_id = p.id), 0)::bigint AS spent
FROM plans AS p LEFT JOIN tasks AS u ON u.plan_id = p.id AND u.key = p.until_key AND p.until_key <> ''
WHERE p.id = %(plan)s
"""

_TASKS_SQL = """
SELECT t.id, coalesce(t.parent_id, 0) AS parent_id, t.kind, t.agent_type, t.task_type, t.domain,
       t.run <> '[]'::jsonb AS has_run, t.verify <> '[]'::jsonb AS has_gate, t.manual <> '' AS is_manual,
       t.approve <> '' AS needs_approval, coalesce(t.estimate_ms, %(estimate)s) AS estimate_ms,
       coalesce(t.options ->> 'attempts', '') AS attempts, s.state, s.reason, s.not_before, s.attempts_used,
       s.losses, s.priority, s.rank, s.version,
       (SELECT coalesce(max(number), 0) FROM attempts WHERE task_id = t.id AND kind = 'work') AS work,
       (SELECT coalesce(max(number), 0) FROM attempts WHERE task_id = t.id AND kind = 'gate') AS gate
FROM tasks AS t JOIN task_states AS s ON s.task_id = t.id
WHERE t.plan_id = %(plan)s AND t.id > %(after)s ORDER BY t.id LIMIT %(limit)s
"""

_EDGES_SQL = """
SELECT task_id, on_task_id FROM task_dependencies
WHERE plan_id = %(plan)s AND kind = 'blocks' AND task_id BETWEEN %(first)s AND %(last)s
"""

_LIVE_SQL = """
SELECT a.token, a.task_id, a.kind, a.number, a.agent_type, a.backend, a.executor, a.state,
       coalesce(l.cancel_reason, '') AS cancel_reason, a.end_reason
FROM leases AS l JOIN attempts AS a USING (token) WHERE a.plan_id = %(plan)s ORDER BY a.token
"""

_RESULTS_SQL = """
SELECT r.token, r.state, r.failure_class, r.summary, r.cost_micros
FROM attempts AS a JOIN results AS r USING (token) WHERE a.state IN ('leased', 'started') ORDER BY r.at
"""

_STARTS_SQL = """
SELECT s.token FROM attempts AS a JOIN starts AS s USING (token) WHERE a.state = 'leased' ORDER BY s.at
"""

_AFFINITY_SQL = """
SELECT agent_type, task_type, domain, attempts, success, duration_ms, updated_at FROM agent_task_affinity
WHERE updated_at > %(since)s ORDER BY updated_at
"""

_STATE_SQL = """
INSERT INTO orchestrator_state (key, value) VALUES (%(key)s, %(value)s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now()
"""

#: Gives the backend of a task from the plan's choice and whether the task has `run:` lines.
BackendChoice = Callable[[str, bool], str]


class PostgresSchedulerStore(Committer):
    """Implements ports.SchedulerStore: the committer, and a second connection that reads.

    Args:
        attempts_max: charged attempts of a task that names no number of its own.
        choose_backend: see BackendChoice.
    """

    def __init__(
        self, url: str, *, cluster_id: str, attempts_max: int, choose_backend: BackendChoice
    ) -> None:
        super().__init__(url, cluster_id=cluster_id)
        self._attempts_max = attempts_max
        self._choose_backend = choose_backend
        self._side = HotConnection(url, name="orchestrator-scheduler", row_factory=dict_row)
        self._affinity_since = datetime.fromtimestamp(0, UTC)

    async def unfinished_plans(self) -> list[int]:
        """Return the plans that are neither done nor cancelled, or still have a lease."""
        rows = await self._all(
            "SELECT id FROM plans WHERE state NOT IN ('done', 'cancelled') UNION "
            "SELECT plan_id FROM leases JOIN attempts USING (token) ORDER BY 1"
        )
        return [row["id"] for row in rows]

    async def submitted_plans(self) -> list[int]:
        """Return the plans that no scheduler has taken yet."""
        rows = await self._all("SELECT id FROM plans WHERE state = 'submitted' ORDER BY id")
        return [row["id"] for row in rows]

    async def load_plan(self, plan_id: int) -> AsyncIterator[PlanSlice]:
        """Yield a plan in slices; raises NotFound."""
        found = await self._all(_PLAN_SQL, {"plan": plan_id})
        if not found:
            raise NotFound(f"There is no plan {plan_id}.", remedy="`orchestrator status` lists the plans.")
        plan, backend, after = _plan_spec(found[0]), found[0]["backend"], 0
        while True:
            values = {"plan": plan_id, "after": after, "limit": SLICE, "estimate": ESTIMATE_MS_DEFAULT}
            rows = await self._all(_TASKS_SQL, values)
            tasks = tuple(self._task_spec(row, backend) for row in rows)
            is_last = len(rows) < SLICE
            edges: tuple[tuple[int, int], ...] = ()
            if rows:
                after = rows[-1]["id"]
                bounds = {"plan": plan_id, "first": rows[0]["id"], "last": after}
                edges = tuple((r["task_id"], r["on_task_id"]) for r in await self._all(_EDGES_SQL, bounds))
            attempts = await self._live_attempts(plan_id) if is_last else ()
            yield PlanSlice(plan=plan, tasks=tasks, edges=edges, attempts=attempts)
            if is_last:
                return

    async def _live_attempts(self, plan_id: int) -> tuple[LiveAttempt, ...]:
        rows = await self._all(_LIVE_SQL, {"plan": plan_id})
        return tuple(
            LiveAttempt(**{**row, "kind": AttemptKind(row["kind"]), "state": AttemptState(row["state"])})
            for row in rows
        )

    def _task_spec(self, row: Mapping[str, Any], plan_backend: str) -> TaskSpec:
        is_container = row["kind"] == TaskKind.CONTAINER.value
        hold = HoldReason.MANUAL if row["is_manual"] else None
        if row["needs_approval"]:
            hold = HoldReason.APPROVAL
        return TaskSpec(
            task_id=row["id"],
            parent_id=row["parent_id"],
            is_container=is_container,
            state=TaskState(row["state"]),
            reason=row["reason"],
            agent_type=row["agent_type"],
            backend="" if is_container else self._choose_backend(plan_backend, row["has_run"]),
            task_type=row["task_type"],
            domain=row["domain"],
            priority=row["priority"],
            rank=row["rank"],
            estimate_ms=row["estimate_ms"],
            not_before_ms=_ms(row["not_before"]),
            attempts_used=row["attempts_used"],
            attempts_max=id_in(row["attempts"]) or self._attempts_max,
            losses=row["losses"],
            has_gate=row["has_gate"],
            hold_when_ready=None if is_container else hold,
            work_number=row["work"],
            gate_number=row["gate"],
            version=row["version"],
        )

    async def reports(self) -> list[AttemptStarted | AttemptEnded]:
        """Return stored starts and results that live attempts do not show yet; `at_ms` is left at 0."""
        starts = await self._all(_STARTS_SQL)
        results = await self._all(_RESULTS_SQL)
        return [
            *(AttemptStarted(at_ms=0, token=row["token"]) for row in starts),
            *(_ended(row) for row in results),
        ]

    async def beats(self) -> dict[int, int]:
        """Return the beats of all leases."""
        return {row["token"]: row["beat"] for row in await self._all("SELECT token, beat FROM leases")}

    async def fate(self, token: int, *, is_proven_gone: bool, reason: str) -> Fate:
        """Lock the attempt, then see in a second statement what is stored, then settle it.

        The executor takes the same row FOR SHARE before it stores a start or a result; so either its row
        is there when we look, or it comes after us and is refused.
        """
        async with self._side.use() as connection:
            cursor = await connection.execute(
                "SELECT state FROM attempts WHERE token = %s FOR UPDATE", (token,)
            )
            attempt = await cursor.fetchone()
            if attempt is None or attempt["state"] not in {"leased", "started"}:
                await connection.rollback()
                is_fenced = attempt is not None and attempt["state"] == "lost"
                return Fate(verdict="fenced" if is_fenced else "over")
            fate = await self._stored(connection, token)
            if fate is not None and (fate.verdict == "result" or not is_proven_gone):
                await connection.rollback()
                return fate
            await connection.execute(
                "UPDATE attempts SET state = 'lost', end_reason = %s, ended_at = now() WHERE token = %s",
                (reason, token),
            )
            await connection.commit()
            return Fate(verdict="fenced")

    @staticmethod
    async def _stored(connection: psycopg.AsyncConnection[dict[str, Any]], token: int) -> Fate | None:
        cursor = await connection.execute(
            "SELECT token, state, failure_class, summary, cost_micros FROM results WHERE token = %s", (token,)
        )
        result = await cursor.fetchone()
        if result is not None:
            return Fate(verdict="result", result=_ended(result))
        cursor = await connection.execute("SELECT token FROM starts WHERE token = %s", (token,))
        return Fate(verdict="started") if await cursor.fetchone() is not None else None

    async def changed_affinity(self) -> tuple[AffinityRow, ...]:
        """Return the affinity rows that changed since the last call."""
        rows = await self._all(_AFFINITY_SQL, {"since": self._affinity_since})
        if rows:
            self._affinity_since = rows[-1]["updated_at"]
        return tuple(AffinityRow(**{k: v for k, v in row.items() if k != "updated_at"}) for row in rows)

    async def save_state(self, key: str, value: Mapping[str, object]) -> None:
        """Write a row of `orchestrator_state`."""
        async with self._side.use() as connection:
            await connection.execute(_STATE_SQL, {"key": key, "value": Json(dict(value))})
            await connection.commit()

    async def close(self) -> None:
        """Close both connections."""
        await super().close()
        await self._side.close()

    async def _all(self, statement: str, values: Mapping[str, Any] | None = None) -> Sequence[dict[str, Any]]:
        async with self._side.use() as connection:
            cursor = await connection.execute(statement.encode(), values)
            rows = await cursor.fetchall()
            await connection.rollback()
            return rows


def _plan_spec(row: Mapping[str, Any]) -> PlanSpec:
    return PlanSpec(
        plan_id=row["id"],
        tenant_id=row["tenant_id"],
        state=PlanState(row["state"]),
        budget_micros=row["budget_micros"],
        spent_micros=row["spent"],
        until_task=row["until_task"],
    )


def _ms(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.timestamp() * 1000)


def _ended(row: Mapping[str, Any]) -> AttemptEnded:
    return AttemptEnded(
        at_ms=0,
        token=row["token"],
        state=AttemptState(row["state"]),
        failure_class=FailureClass(row["failure_class"]) if row["failure_class"] else None,
        summary=row["summary"],
        cost_micros=row["cost_micros"],
    )
