"""Plans as readers see them: the row and its roll-up, two statements for any number of plans."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, RowMapping, func, literal, select, true

from orchestrator.core.words import FINISHED, LIVE, SETTLED, AttemptKind, AttemptState, TaskKind, TaskState
from orchestrator.store.engine import Connection
from orchestrator.store.tables import attempts, event_batches, plans, proposals, task_states, tasks
from orchestrator.text import id_in
from orchestrator.views import AgentTypeProgress, Page, PlanView

#: What a plan used up: its attempts, and what a model was asked of it besides.
_USAGE = ("input_tokens", "output_tokens", "cost_micros")
_RUNNING = frozenset({TaskState.RUNNING, TaskState.VERIFYING, TaskState.MERGING})


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafCount:
    """How many leaves of one agent type stand in one state, and what their authors estimate.

    Attributes:
        estimate_ms: sum over those that have an estimate; `estimated` is how many have one.
    """

    agent_type: str
    state: TaskState
    tasks: int
    estimate_ms: int
    estimated: int


async def plan_view(connection: Connection, plan_id: int) -> PlanView:
    """Return one plan; it must exist."""
    (view,) = await _views(connection, plans.c.id == plan_id, limit=1)
    return view


async def plan_page(connection: Connection, *, after: str, limit: int) -> Page[PlanView]:
    """Return plans, newest first. `after` is the `next` of the page before."""
    seen = id_in(after)
    condition = plans.c.id < seen if seen is not None else true()
    views = await _views(connection, condition, limit=limit + 1)
    has_more = len(views) > limit
    return Page(items=tuple(views[:limit]), next=str(views[limit - 1].id) if has_more else "")


async def counts(connection: Connection) -> tuple[dict[str, int], dict[str, int]]:
    """Return the plans by state, and the leaves of unfinished plans by state."""
    by_state = select(plans.c.state, func.count()).group_by(plans.c.state)
    leaves = (
        select(task_states.c.state, func.count())
        .join(tasks, tasks.c.id == task_states.c.task_id)
        .join(plans, plans.c.id == task_states.c.plan_id)
        .where(plans.c.state.not_in(FINISHED), tasks.c.kind == TaskKind.LEAF)
        .group_by(task_states.c.state)
    )
    found = [(await connection.execute(query)).all() for query in (by_state, leaves)]
    return {row[0]: row[1] for row in found[0]}, {row[0]: row[1] for row in found[1]}


def eta_s(leaves: Iterable[LeafCount], *, live: int, mean_ms: float | None) -> float | None:
    """Estimate the seconds to the end: open leaves times their duration, over the current width.

    Args:
        live: attempts that are live now: the width.
        mean_ms: mean duration of the plan's own work attempts so far; without it the authors' estimates
            count, if every open leaf has one.

    Returns:
        0 when no leaf is open; None when nothing is live, or when no duration is known.
    """
    still_open = [leaf for leaf in leaves if leaf.state not in SETTLED]
    count = sum(leaf.tasks for leaf in still_open)
    if not count:
        return 0.0
    if not live:
        return None
    if mean_ms is not None:
        return count * mean_ms / min(live, count) / 1000
    if any(leaf.estimated < leaf.tasks for leaf in still_open):
        return None
    return sum(leaf.estimate_ms for leaf in still_open) / min(live, count) / 1000


async def _views(connection: Connection, condition: ColumnElement[bool], *, limit: int) -> list[PlanView]:
    rows = await _plan_rows(connection, condition, limit=limit)
    leaves = await _leaf_counts(connection, [row["id"] for row in rows])
    return [_view(row, leaves[row["id"]]) for row in rows]


async def _plan_rows(
    connection: Connection, condition: ColumnElement[bool], *, limit: int
) -> Sequence[RowMapping]:
    a = attempts.c
    is_sample = (a.kind == AttemptKind.WORK) & (a.state == AttemptState.SUCCEEDED)
    duration_ms = func.extract("epoch", a.ended_at - a.started_at) * literal(1000.0)
    used = (
        select(
            func.count().label("attempts"),
            func.count().filter(a.state.in_(LIVE)).label("sessions"),
            func.coalesce(func.sum(a.reserved_micros).filter(a.state.in_(LIVE)), 0).label("reserved_micros"),
            *(func.coalesce(func.sum(a[name]), 0).label(name) for name in _USAGE),
            func.avg(duration_ms).filter(is_sample).label("mean_ms"),
        )
        .where(a.plan_id == plans.c.id)
        .lateral("used")
    )
    asked = (
        select(*(func.coalesce(func.sum(proposals.c[name]), 0).label(name) for name in _USAGE))
        .where(proposals.c.plan_id == plans.c.id)
        .lateral("asked")
    )
    last = select(func.coalesce(func.max(event_batches.c.last_seq), 0).label("last_seq"))
    seen = last.where(event_batches.c.plan_id == plans.c.id).lateral("seen")
    p = plans.c
    repository = func.coalesce(p.repository["url"].astext, "").label("repository")
    columns = (p.id, p.name, p.title, p.format, p.state, p.backend, p.workdir, repository, p.tasks_total)
    query = (
        select(*columns, p.budget_micros, p.created_at, p.ended_at, func.now().label("read_at"), seen)
        .add_columns(used.c.attempts, used.c.sessions, used.c.reserved_micros, used.c.mean_ms)
        .add_columns(*((used.c[name] + asked.c[name]).label(name) for name in _USAGE))
        .select_from(plans)
        .join(used, true())
        .join(asked, true())
        .join(seen, true())
        .where(condition)
        .order_by(p.id.desc())
        .limit(limit)
    )
    return (await connection.execute(query)).mappings().all()


async def _leaf_counts(connection: Connection, plan_ids: Sequence[int]) -> Mapping[int, list[LeafCount]]:
    t, s = tasks.c, task_states.c
    sums = (func.count(), func.coalesce(func.sum(t.estimate_ms), 0), func.count(t.estimate_ms))
    query = (
        select(t.plan_id, t.agent_type, s.state, *sums)
        .join(task_states, s.task_id == t.id)
        .where(t.plan_id.in_(plan_ids), t.kind == TaskKind.LEAF)
        .group_by(t.plan_id, t.agent_type, s.state)
        .order_by(t.agent_type)
    )
    found: defaultdict[int, list[LeafCount]] = defaultdict(list)
    for plan_id, agent_type, state, count, estimate_ms, estimated in await connection.execute(query):
        leaf = LeafCount(
            agent_type=agent_type,
            state=TaskState(state),
            tasks=count,
            estimate_ms=int(estimate_ms),
            estimated=estimated,
        )
        found[plan_id].append(leaf)
    return found


def _view(row: RowMapping, leaves: Sequence[LeafCount]) -> PlanView:
    by_state: Counter[str] = Counter()
    for leaf in leaves:
        by_state[leaf.state.value] += leaf.tasks
    fields = dict(row)
    mean_ms = fields.pop("mean_ms")
    return PlanView(
        **fields,
        tasks=dict(by_state),
        agent_types=_progress(leaves),
        eta_s=eta_s(leaves, live=row["sessions"], mean_ms=float(mean_ms) if mean_ms is not None else None),
    )


def _progress(leaves: Sequence[LeafCount]) -> tuple[AgentTypeProgress, ...]:
    by_type: defaultdict[str, Counter[TaskState]] = defaultdict(Counter)
    for leaf in leaves:
        by_type[leaf.agent_type][leaf.state] += leaf.tasks
    return tuple(
        AgentTypeProgress(
            agent_type=agent_type,
            tasks=states.total(),
            done=states[TaskState.DONE],
            failed=states[TaskState.FAILED],
            running=sum(states[state] for state in _RUNNING),
        )
        for agent_type, states in by_type.items()
    )
