"""What the scheduler reads: plans in slices, stored starts and results, beats, history; and fencing.

It has a connection of its own, so that reading never waits behind, or holds up, a commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import Json

from orchestrator.agent_types import name_and_plan
from orchestrator.core.events import (
    AffinityRow,
    AttemptEnded,
    AttemptStarted,
    BreakerRow,
    ControlsRead,
    LiveAttempt,
    NotesWritten,
    ProposalsPaid,
)
from orchestrator.core.limits import Overrides
from orchestrator.core.words import BreakerState
from orchestrator.errors import NotFound
from orchestrator.ports import Fate, PlanSlice, Revision, StoredAnswer, Term
from orchestrator.store.agent_type_sql import SCHEDULED_SQL
from orchestrator.store.arrays import array
from orchestrator.store.batches import CONTROLS
from orchestrator.store.committer import Committer
from orchestrator.store.hot import HotConnection
from orchestrator.store.revising import take_revision
from orchestrator.store.scheduler_rows import TASKS_SQL, Tasks, ended, live_attempt, plan_spec, to_ms

#: Tasks in one slice of a plan: small enough that taking a slice does not hold up a dispatch.
SLICE = 1_000

_PLAN_SQL = """
SELECT p.id, p.tenant_id, p.state, p.budget_micros, p.fruitless_micros, p.backend,
       coalesce(u.id, 0) AS until_task,
       coalesce((SELECT sum(cost_micros) FROM proposals WHERE plan_id = p.id), 0)::bigint AS proposed_micros
FROM plans AS p LEFT JOIN tasks AS u ON u.plan_id = p.id AND u.key = p.until_key AND p.until_key <> ''
WHERE p.id = %(plan)s
"""

_REVISIONS_SQL = "SELECT id, plan_id FROM plan_revisions WHERE state IN ('submitted', 'stored') ORDER BY id"

#: With what the attempts whose end is written have spent; see core/budget.py.
_PAST_SQL = """
SELECT a.task_id, a.kind, max(a.number),
       coalesce(sum(a.cost_micros + a.reserved_micros) FILTER (WHERE l.token IS NULL), 0)::bigint
FROM attempts AS a LEFT JOIN leases AS l USING (token) WHERE a.plan_id = %(plan)s GROUP BY 1, 2
"""

_SPENT_SQL = """
WITH paid AS (
    SELECT a.tenant_id, a.ended_at AS at, a.cost_micros + a.reserved_micros AS micros
    FROM attempts AS a LEFT JOIN leases AS l USING (token) WHERE l.token IS NULL
    UNION ALL SELECT tenant_id, created_at, cost_micros FROM proposals
)
SELECT tenant_id, sum(micros)::bigint AS spent,
       coalesce(sum(micros) FILTER (
           WHERE at >= date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
       ), 0)::bigint AS today
FROM paid GROUP BY 1
"""

#: Of the plans that have new ones.
_PROPOSALS_SQL = """
SELECT plan_id, sum(cost_micros)::bigint AS cost, max(id) AS last FROM proposals
WHERE plan_id IN (SELECT plan_id FROM proposals WHERE id > %(after)s) GROUP BY 1
"""

_NOTES_SQL = "SELECT id FROM notes WHERE NOT is_told ORDER BY id LIMIT 1000"

_EDGES_SQL = """
SELECT task_id, on_task_id FROM task_dependencies
WHERE kind = 'blocks' AND task_id = ANY(%(tasks)s::bigint[])
"""

#: An attempt keeps its lease until the scheduler has taken its end, who else may have written it: its
#: executor with its result, or whoever fenced it. What a stored result cost is set aside until then.
_LIVE_SQL = """
SELECT a.token, a.task_id, a.kind, a.number, a.agent_type, a.backend, a.executor, a.end_reason,
       CASE WHEN a.end_reason = 'reported' THEN 'started' ELSE a.state END AS state,
       a.started_at, coalesce(l.cancel_reason, '') AS cancel_reason,
       CASE WHEN a.end_reason = 'reported' THEN a.cost_micros ELSE a.reserved_micros END AS reserved_micros
FROM leases AS l JOIN attempts AS a USING (token) WHERE a.plan_id = %(plan)s ORDER BY a.token
"""

_RESULTS_SQL = """
SELECT token, a.state, a.failure_class, a.summary, a.cost_micros
FROM leases JOIN attempts AS a USING (token) WHERE a.end_reason = 'reported' ORDER BY a.ended_at
"""

_STARTS_SQL = """
SELECT token FROM leases JOIN attempts AS a USING (token) WHERE a.state = 'started' ORDER BY a.started_at
"""

_FATE_SQL = """
SELECT token, a.state, a.end_reason, a.node_id, a.failure_class, a.summary, a.cost_micros,
       l.token IS NOT NULL AS is_leased
FROM attempts AS a LEFT JOIN leases AS l USING (token) WHERE token = %s FOR UPDATE OF a
"""

_FENCE_SQL = "UPDATE attempts SET state = 'lost', end_reason = %s, ended_at = now() WHERE token = %s"

_AFFINITY_SQL = """
SELECT agent_type, task_type, domain, attempts, success, duration_ms, updated_at FROM agent_task_affinity
WHERE updated_at > %(since)s ORDER BY updated_at
"""

_STATE_SQL = """
INSERT INTO orchestrator_state (key, value) VALUES (%(key)s, %(value)s)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = now()
"""

_CONTROLS_SQL = "SELECT value FROM orchestrator_state WHERE key = %(key)s"

_BREAKERS_SQL = "SELECT agent_type, state, failures, opened_at FROM circuit_breakers"

_ANSWER_SQL = """
SELECT body_digest, response FROM idempotency_keys WHERE tenant_id = %(tenant)s AND key = %(key)s
"""

#: Gives the backend of a task from what the files of agent types name, what the plan asks for, its agent
#: type, and whether the task has `run:` lines.
BackendChoice = Callable[[Mapping[str, str], str, str, bool], str]


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
        self._last_proposal = 0

    async def take_term(self, *, incarnation: str, is_starting: bool, patience_s: float) -> Term:
        """Wait until the term may be taken, and take it; memory begins anew, and reads all of history."""
        self._affinity_since = datetime.fromtimestamp(0, UTC)
        return await super().take_term(
            incarnation=incarnation, is_starting=is_starting, patience_s=patience_s
        )

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

    async def open_revisions(self) -> list[Revision]:
        """Return the revisions that no scheduler runs by yet, oldest first."""
        rows = await self._all(_REVISIONS_SQL)
        return [Revision(id=row["id"], plan_id=row["plan_id"]) for row in rows]

    async def store_revision(self, revision_id: int) -> bool:
        """Make the rows of the plan those of the revision; False if it was refused."""
        async with self._side.use() as connection:
            is_taken = await take_revision(connection, revision_id, epoch=self.epoch)
            await connection.commit()
            return is_taken

    async def load_plan(self, plan_id: int) -> AsyncIterator[PlanSlice]:
        """Yield a plan in slices; raises NotFound."""
        found = await self._all(_PLAN_SQL, {"plan": plan_id})
        if not found:
            raise NotFound(f"There is no plan {plan_id}.", remedy="`orchestrator status` lists the plans.")
        plan, after = plan_spec(found[0]), -1
        kinds = await self._all(SCHEDULED_SQL, {"plan": plan_id})
        backends = {row["name"]: row["backend"] for row in kinds}
        own = {name_and_plan(row["name"])[0]: row["name"] for row in kinds if row["plan_id"] == plan_id}
        made = Tasks(
            attempts_max=self._attempts_max,
            choose_backend=partial(self._choose_backend, backends, found[0]["backend"]),
            own_names=own,
        )
        for past in await self._tuples(_PAST_SQL, {"plan": plan_id}):
            made.take_past(*past)
        plan = replace(plan, spent_micros=made.spent + plan.proposed_micros)
        while True:
            rows = await self._tuples(TASKS_SQL, {"plan": plan_id, "after": after, "limit": SLICE})
            tasks = tuple(made.task(row) for row in rows)
            is_last = len(rows) < SLICE
            edges: tuple[tuple[int, int], ...] = ()
            if rows:
                after = rows[-1][0]
                edges = tuple(await self._tuples(_EDGES_SQL, {"tasks": array([row[1] for row in rows])}))
            attempts = await self._open_attempts(plan_id) if is_last else ()
            yield PlanSlice(plan=plan, tasks=tasks, edges=edges, attempts=attempts)
            if is_last:
                return

    async def _open_attempts(self, plan_id: int) -> tuple[LiveAttempt, ...]:
        return tuple(live_attempt(row) for row in await self._all(_LIVE_SQL, {"plan": plan_id}))

    async def reports(self) -> Sequence[AttemptStarted | AttemptEnded | ProposalsPaid | NotesWritten]:
        """Return what others have stored; see ports.SchedulerStore."""
        starts = await self._all(_STARTS_SQL)
        results = await self._all(_RESULTS_SQL)
        notes = tuple(row["id"] for row in await self._all(_NOTES_SQL))
        # last: what was paid is read once, so nothing after it may fail
        paid = await self._all(_PROPOSALS_SQL, {"after": self._last_proposal})
        self._last_proposal = max((row["last"] for row in paid), default=self._last_proposal)
        return [
            *(AttemptStarted(token=row["token"]) for row in starts),
            *(ended(row) for row in results),
            *(ProposalsPaid(plan_id=row["plan_id"], cost_micros=row["cost"]) for row in paid),
            *([NotesWritten(note_ids=notes)] if notes else ()),
        ]

    async def beats(self) -> dict[int, int]:
        """Return the beats of all leases."""
        return {row["token"]: row["beat"] for row in await self._all("SELECT token, beat FROM leases")}

    async def fate(self, token: int, *, may_fence: bool, reason: str) -> Fate:
        """Lock the attempt, so that its executor writes before us or is refused, then settle it."""
        async with self._side.use() as connection, connection.transaction():
            row = await (await connection.execute(_FATE_SQL, (token,))).fetchone()
            known = _known_fate(row, may_fence=may_fence)
            if known is not None:
                return known
            await connection.execute(_FENCE_SQL, (reason, token))
            return Fate(verdict="fenced", reason=reason)

    async def controls(self) -> ControlsRead:
        """Return what people have set for everything, the circuit breakers, and what was spent."""
        rows = await self._all(_CONTROLS_SQL, {"key": CONTROLS})
        value = rows[0]["value"] if rows else {}
        breakers = tuple(
            BreakerRow(
                agent_type=row["agent_type"],
                state=BreakerState(row["state"]),
                failures=row["failures"],
                opened_at_ms=to_ms(row["opened_at"]),
            )
            for row in await self._all(_BREAKERS_SQL)
        )
        spent = await self._all(_SPENT_SQL)
        return ControlsRead(
            is_paused=bool(value.get("is_paused")),
            pause_reason=str(value.get("pause_reason", "")),
            overrides=Overrides.from_json(value.get("limits", {})),
            breakers=breakers,
            spent={row["tenant_id"]: row["spent"] for row in spent},
            spent_today=sum(row["today"] for row in spent),
        )

    async def stored_answer(self, *, tenant_id: str, key: str) -> StoredAnswer | None:
        """Return the answer that was written under the key, or None."""
        rows = await self._all(_ANSWER_SQL, {"tenant": tenant_id, "key": key})
        if not rows:
            return None
        response = rows[0]["response"] or {}
        return StoredAnswer(
            digest=rows[0]["body_digest"],
            result=response.get("result", {}),
            error=response.get("error", ""),
            remedy=response.get("remedy", ""),
        )

    async def agent_sessions(self) -> dict[str, int | None]:
        """Return how many sessions of each agent type its file allows at once; None = it says nothing."""
        rows = await self._all(SCHEDULED_SQL, {"plan": 0})
        return {row["name"]: row["sessions"] for row in rows}

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

    async def _tuples(self, statement: str, values: Mapping[str, Any]) -> Sequence[tuple[Any, ...]]:
        async with self._side.use() as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            await cursor.execute(statement.encode(), values)
            rows = await cursor.fetchall()
            await connection.rollback()
            return rows


def _known_fate(row: Mapping[str, Any] | None, *, may_fence: bool) -> Fate | None:
    """Return what an attempt's row says of its end; None if it is to be fenced."""
    if row is None:
        return Fate(verdict="over")
    match row["state"]:
        case "leased":
            return None
        case "started":
            return None if may_fence else Fate(verdict="started", node_id=row["node_id"])
        case "lost":
            return Fate(verdict="fenced", reason=row["end_reason"])
        case _:
            return Fate(verdict="result", result=ended(row)) if row["is_leased"] else Fate(verdict="over")
