"""Tasks as readers see them: in lists, in the order of their plan, and one with everything about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Select, case, exists, func, select, true

from orchestrator.core.words import SATISFIED, DependencyDecision, TaskState
from orchestrator.errors import Conflict, NotFound
from orchestrator.plan.model import DependencyKind
from orchestrator.store.engine import Connection
from orchestrator.store.tables import (
    attempt_commits,
    attempts,
    plans,
    routing_decisions,
    task_dependencies,
    task_states,
    tasks,
)
from orchestrator.text import id_in, storable
from orchestrator.views import (
    AttemptView,
    CommitsView,
    DependencyView,
    Page,
    PlanDependencyView,
    TaskDetail,
    TaskView,
)

_parents = tasks.alias("parents")
_on_states = task_states.alias("on_states")


async def task_page(
    connection: Connection, plan_id: int, *, state: str, after: str, limit: int
) -> Page[TaskView]:
    """Return tasks of a plan in the plan's order; `state` keeps those of one state."""
    seen = id_in(after)
    query = (
        _listed()
        .add_columns(tasks.c.ordinal)
        .where(tasks.c.plan_id == plan_id)
        .where(task_states.c.state == state if state else true())
        .where(tasks.c.ordinal > seen if seen is not None else true())
        .order_by(tasks.c.ordinal)
        .limit(limit + 1)
    )
    rows = (await connection.execute(query)).mappings().all()
    following = str(rows[limit - 1]["ordinal"]) if len(rows) > limit else ""
    return Page(items=tuple(TaskView(**_without_ordinal(row)) for row in rows[:limit]), next=following)


async def dependency_page(
    connection: Connection, plan_id: int, *, kind: str, after: str, limit: int
) -> Page[PlanDependencyView]:
    """Return the dependencies of `limit` tasks of a plan, in the plan's order."""
    e, t, on = task_dependencies.c, tasks.c, _parents.c
    seen = id_in(after)
    wanted = (
        select(t.id, t.key, t.ordinal)
        .where(t.plan_id == plan_id, t.ordinal > seen if seen is not None else true())
        .where(exists().where(e.task_id == t.id, e.kind == kind if kind else true()))
        .order_by(t.ordinal)
        .limit(limit)
        .cte("wanted")
    )
    query = (
        select(wanted.c.ordinal, wanted.c.key.label("task"), on.key.label("on"))
        .add_columns(e.kind, e.is_explicit, e.evidence, e.line, e.confidence)
        .select_from(wanted.join(task_dependencies, e.task_id == wanted.c.id))
        .join(_parents, on.id == e.on_task_id)
        .where(e.kind == kind if kind else true())
        .order_by(wanted.c.ordinal, on.ordinal, e.kind)
    )
    rows = (await connection.execute(query)).mappings().all()
    ordinals = {row["ordinal"] for row in rows}
    following = str(max(ordinals)) if len(ordinals) == limit else ""
    return Page(items=tuple(PlanDependencyView(**_without_ordinal(row)) for row in rows), next=following)


async def keys_of(connection: Connection, ids: Iterable[int]) -> Mapping[int, str]:
    """Return the keys of tasks by their ids."""
    query = select(tasks.c.id, tasks.c.key).where(tasks.c.id.in_(list(ids)))
    return {row.id: row.key for row in await connection.execute(query)}


async def ready_tasks(connection: Connection, plan_id: int, *, limit: int) -> tuple[TaskView, ...]:
    """Return the ready tasks of a plan, the next one first."""
    s = task_states.c
    query = (
        _listed()
        .where(s.plan_id == plan_id, s.state == TaskState.READY)
        .order_by(tasks.c.priority, tasks.c.rank.desc(), s.task_id)
        .limit(limit)
    )
    return tuple(TaskView(**row) for row in (await connection.execute(query)).mappings())


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownTask:
    """A stored task, as far as its identity goes."""

    id: int
    plan_id: int


async def find_task(connection: Connection, ref: str, *, plan_id: int | None) -> KnownTask:
    """Return the task that `ref` names: with a plan a key or else an id, without one an id or else a key.

    Raises:
        NotFound: there is none.
        Conflict: several plans have a task of that key, and no plan was named.
    """
    within = tasks.c.plan_id == plan_id if plan_id is not None else true()
    by_key = (tasks.c.key == storable(ref)) & within
    task_id = id_in(ref)
    by_id = (tasks.c.id == task_id) & within if task_id is not None else None
    for condition in (by_key, by_id) if plan_id is not None else (by_id, by_key):
        found = await _matches(connection, condition) if condition is not None else []
        if len(found) > 1:
            names = ", ".join(repr(row["name"]) for row in found)
            raise Conflict(f"Several plans have a task {ref}: {names}.", remedy="Name the plan too.")
        if found:
            return KnownTask(id=found[0]["id"], plan_id=found[0]["plan_id"])
    where = f"plan {plan_id}" if plan_id is not None else "any plan"
    raise NotFound(f"There is no task {ref!r} in {where}.", remedy="`orchestrator tasks PLAN` lists them.")


async def agent_types_in_use(connection: Connection, names: Sequence[str]) -> frozenset[str]:
    """Return those of the names that a task has as its agent type or its reviewer."""
    review = tasks.c.options["review"].astext
    query = select(tasks.c.agent_type, review).where(tasks.c.agent_type.in_(names) | review.in_(names))
    rows = (await connection.execute(query.distinct())).all()
    return frozenset(name for row in rows for name in row if name in names)


async def require_task(connection: Connection, task_id: int) -> KnownTask:
    """Return the task of that id.

    Raises:
        NotFound: there is none.
    """
    found = await _matches(connection, tasks.c.id == task_id)
    if not found:
        raise NotFound(f"There is no task {task_id}.", remedy="`orchestrator tasks PLAN` lists them.")
    return KnownTask(id=task_id, plan_id=found[0]["plan_id"])


async def task_detail(connection: Connection, task_id: int) -> TaskDetail:
    """Return a task with its words, dependencies and attempts; it must exist."""
    t, d = tasks.c, routing_decisions.c
    query = (
        _listed()
        .add_columns(t.body, t.acceptance, t.run, t.verify, t.manual, t.approve, t.estimate_ms)
        .add_columns(t.task_type, t.domain, t.options)
        .add_columns(d.rule.label("routing_rule"), d.evidence.label("routing_evidence"))
        .outerjoin(routing_decisions, d.task_id == t.id)
        .where(t.id == task_id)
    )
    fields = dict((await connection.execute(query)).mappings().one())
    fields["routing_rule"] = fields["routing_rule"] or ""  # containers are not routed
    fields["routing_evidence"] = fields["routing_evidence"] or ""
    e = task_dependencies.c
    return TaskDetail(
        **fields,
        depends_on=await _neighbours(connection, other=e.on_task_id, where=e.task_id == task_id),
        dependents=await _neighbours(connection, other=e.task_id, where=e.on_task_id == task_id),
        attempts=await _attempts(connection, task_id),
    )


def _listed() -> Select[Any]:
    t, s = tasks.c, task_states.c
    written = (t.id, t.plan_id, t.key, t.kind, t.title, t.agent_type, t.priority, t.line)
    # a back-off that is over stands in the row until the next attempt
    back_off = case((s.not_before > func.now(), s.not_before)).label("not_before")
    moving = (s.state, s.reason, _unmet(), back_off, s.attempts_used, s.losses)
    return (
        select(*written, *moving, func.coalesce(_parents.c.key, "").label("parent_key"))
        .select_from(tasks)
        .join(task_states, s.task_id == t.id)
        .outerjoin(_parents, _parents.c.id == t.parent_id)
    )


def _unmet() -> ColumnElement[int]:
    """Count what a task still waits for; the edges tell, so no row has to be kept in step."""
    e, on = task_dependencies.c, _on_states.c
    query = (
        select(func.count())
        .select_from(task_dependencies.join(_on_states, on.task_id == e.on_task_id))
        .where(e.task_id == tasks.c.id, e.kind == DependencyKind.BLOCKS, on.state.not_in(SATISFIED))
        .correlate(tasks)
    )
    return query.scalar_subquery().label("unmet_dependencies")


def _without_ordinal(row: RowMapping) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "ordinal"}


async def _matches(connection: Connection, condition: ColumnElement[bool]) -> Sequence[RowMapping]:
    columns = (tasks.c.id, tasks.c.plan_id, plans.c.name)
    query = select(*columns).join(plans, plans.c.id == tasks.c.plan_id).where(condition)
    return (await connection.execute(query.order_by(plans.c.id.desc()).limit(5))).mappings().all()


async def _neighbours(
    connection: Connection, *, other: ColumnElement[int], where: ColumnElement[bool]
) -> tuple[DependencyView, ...]:
    t, e = tasks.c, task_dependencies.c
    query = (
        select(t.key, t.title, task_states.c.state, e.kind, e.is_explicit, e.evidence)
        .select_from(task_dependencies)
        .join(tasks, t.id == other)
        .join(task_states, task_states.c.task_id == other)
        .where(where, e.kind != DependencyDecision.DROPPED)
        .order_by(t.ordinal)
    )
    return tuple(DependencyView(**row) for row in (await connection.execute(query)).mappings())


async def _attempts(connection: Connection, task_id: int) -> tuple[AttemptView, ...]:
    columns = [attempts.c[name] for name in AttemptView.model_fields if name != "commits"]
    c = attempt_commits.c
    query = (
        select(*columns, c.base_sha, c.head_sha, c.branch, c.files)
        .outerjoin(attempt_commits, c.token == attempts.c.token)
        .where(attempts.c.task_id == task_id)
        .order_by(attempts.c.token)
    )
    return tuple(_attempt(row) for row in (await connection.execute(query)).mappings())


def _attempt(row: RowMapping) -> AttemptView:
    fields = dict(row)
    commits = {name: fields.pop(name) for name in CommitsView.model_fields}
    return AttemptView(**fields, commits=CommitsView(**commits) if commits["head_sha"] else None)
