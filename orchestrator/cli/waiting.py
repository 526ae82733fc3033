"""Why a task does not run now, and what a person can do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

from orchestrator.cli.summary import remedy_of
from orchestrator.cli.text import count, duration, money
from orchestrator.core.task import GATE_POOL
from orchestrator.core.words import (
    LIVE,
    SATISFIED,
    AttemptKind,
    AttemptState,
    BreakerState,
    PlanState,
    TaskKind,
    TaskState,
)

if TYPE_CHECKING:
    from orchestrator.status_views import BudgetView, GovernorView, LimitView, PoolView, StatusView
    from orchestrator.views import DependencyView, PlanView, TaskDetail

_MAY_START = frozenset({TaskState.READY, TaskState.VERIFYING})
_DEPENDENCIES_SHOWN_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One reason why a task does not run; `remedy` is empty when there is nothing to do but to wait."""

    reason: str
    remedy: str = ""


def why_waiting(task: TaskDetail, *, plan: PlanView, status: StatusView) -> tuple[Wait, ...]:
    """Return every reason why the task does not run now, what a person can do about first.

    Empty for a container, for what is at work and for what is settled.
    """
    is_live = any(attempt.state in LIVE for attempt in task.attempts)
    if task.kind == TaskKind.CONTAINER or is_live:
        return ()
    if task.state == TaskState.HELD:
        return (Wait(reason=task.reason, remedy=remedy_of(task.reason, key=task.key, plan=plan.name)),)
    if task.state == TaskState.FAILED:
        remedy = f"see `orchestrator logs {_named(task, plan)}`, then `orchestrator retry` or `skip` it"
        return (Wait(reason=task.reason or "out of attempts", remedy=remedy),)
    if task.state == TaskState.WAITING:
        return (*_of_plan(plan), *_of_dependencies(task, plan))
    if task.state not in _MAY_START:
        return ()
    found = (*_of_plan(plan), *_of_everything(status), *_of_pool(task, plan, status))
    return found or (Wait(reason=f"others come first: {_queued(task, status)}"),)


def _of_plan(plan: PlanView) -> Iterator[Wait]:
    if plan.state == PlanState.SUBMITTED:
        yield Wait(reason="the scheduler has not taken its plan yet")
    elif plan.state != PlanState.ACTIVE:
        remedy = "" if plan.ended_at else f"`orchestrator resume {quote(plan.name)}`"
        yield Wait(reason=f"its plan is {plan.state}", remedy=remedy)


def _of_everything(status: StatusView) -> Iterator[Wait]:
    if status.is_paused:
        yield Wait(reason=paused(status), remedy="`orchestrator resume --all`")
    if not status.is_ready:
        yield Wait(reason="the scheduler is starting or away", remedy="see `orchestrator status`")


def paused(status: StatusView) -> str:
    """Say that everything is paused, and why."""
    return f"everything is paused ({status.pause_reason or 'no reason was given'})"


def _of_dependencies(task: TaskDetail, plan: PlanView) -> Iterator[Wait]:
    missing = [edge for edge in task.depends_on if edge.kind == "blocks" and edge.state not in SATISFIED]
    for edge in missing[:_DEPENDENCIES_SHOWN_MAX]:
        yield Wait(reason=f"{edge.key} is {edge.state}: {edge.title}", remedy=_let_go(edge, plan))
    if len(missing) > _DEPENDENCIES_SHOWN_MAX:
        yield Wait(reason=f"and {len(missing) - _DEPENDENCIES_SHOWN_MAX} more")


def _let_go(edge: DependencyView, plan: PlanView) -> str:
    """What to do about a dependency that gets no further by itself."""
    if edge.state in {TaskState.FAILED, TaskState.CANCELLED}:
        return f"`orchestrator retry {_named(edge, plan)}`, or `orchestrator skip` it"
    return f"see `orchestrator show {_named(edge, plan)}`" if edge.state == TaskState.HELD else ""


def _named(task: TaskDetail | DependencyView, plan: PlanView) -> str:
    return f"{quote(task.key)} --plan {quote(plan.name)}"


def _of_pool(task: TaskDetail, plan: PlanView, status: StatusView) -> Iterator[Wait]:
    """What keeps an attempt of its pool from starting: back-off, breaker, limits, executors."""
    if task.not_before is not None:
        yield Wait(reason=f"it is tried again at {task.not_before.astimezone():%H:%M:%S}, after a pause")
    name = pool_of(task)
    pool = next((pool for pool in status.pools if pool.agent_type == name), None)
    if pool is not None and pool.breaker != BreakerState.CLOSED:
        yield Wait(reason=breaker_line(pool), remedy=f"see why tasks of {name} fail")
    for limit in status.limits:
        of = {"total": "", "agent": name, "plan": str(plan.id)}.get(limit.scope, limit.name)
        if limit.sessions_max is not None and limit.live >= limit.sessions_max and limit.name == of:
            yield _of_limit(limit, plan)
    if not task.run:
        yield from (_of_budget(budget) for budget in status.budgets if budget.is_short)
    if pool is None or not pool.executors:
        why = f": {pool.waits_for}" if pool is not None and pool.waits_for else " yet: one is being started"
        yield Wait(reason=f"no executor of {name} is there{why}")
    elif pool.running >= pool.slots:
        why = f", and there is no room for more: {pool.waits_for}" if pool.waits_for else ""
        yield Wait(reason=f"all {count(pool.slots, 'slot')} of {name} are taken{why}")


def pool_of(task: TaskDetail) -> str:
    """Return the pool that runs the next attempt of a task: of its agent type, the gates, or its reviewer."""
    passed = [attempt.kind for attempt in task.attempts if attempt.state == AttemptState.SUCCEEDED]
    if task.state != TaskState.VERIFYING:
        return task.agent_type
    is_gated = not task.verify or (passed and passed[-1] == AttemptKind.GATE)
    return task.options.get("review", "") if is_gated else GATE_POOL


def breaker_line(pool: PoolView) -> str:
    """Say that the breaker of a pool is shut, since how many failures, and when it lets its probe through."""
    what = count(pool.breaker_failures, "task") if pool.breaker_failures else "tasks"
    if pool.breaker_probe_in_s is None:
        when = "one probe runs or is next, and decides"
    else:
        when = f"in {duration(pool.breaker_probe_in_s)} one probe may run, and decides"
    return f"the breaker of {pool.agent_type} is {pool.breaker}: {what} failed one after the other; {when}"


def governor_line(governor: GovernorView) -> str:
    """Say how requests to a provider of models stand, and for how long it wants none."""
    if governor.is_away:
        return f"{governor.credential}: its governor does not answer; executors go on slowly, each for itself"
    busy = f"{governor.in_flight} of {governor.at_once_max} under way, {governor.waiting} waiting"
    line = f"{governor.credential}: {busy}"
    if governor.pause_s:
        return (
            f"{line}; the provider wants none for {duration(governor.pause_s)}, and nobody is charged for it"
        )
    left = ", ".join(
        f"{count:,} {kind} of {model}"
        for model, kinds in governor.left.items()
        for kind, count in kinds.items()
    )
    return f"{line}; left in a minute: {left}" if left else line


def _of_limit(limit: LimitView, plan: PlanView) -> Wait:
    option, of = {
        "total": ("--total N", ""),
        "agent": (f"--agent {limit.name}=N", f" of {limit.name}"),
        "tenant": (f"--tenant {limit.name}=N", f" of the tenant {limit.name}"),
        "plan": (f"--plan {quote(plan.name)}=N", " of its plan"),
    }[limit.scope]
    reason = f"the limit{of} is reached: {limit.live} of {count(limit.sessions_max or 0, 'session')}"
    return Wait(reason=reason, remedy=f"wait, or `orchestrator limits {option}`")


def _of_budget(budget: BudgetView) -> Wait:
    spent, reserved, most = map(money, (budget.spent_micros, budget.reserved_micros, budget.budget_micros))
    if budget.scope == "day":
        of, option, wait = "the day", "--day-budget USD", "wait for midnight, UTC"
    else:
        of, wait = f"the tenant {budget.name}", "wait for what is live"
        option = f"--tenant-budget {quote(budget.name)}=USD"
    reason = f"the budget of {of} bears no more: {spent} of {most} spent, {reserved} set aside"
    return Wait(reason=reason, remedy=f"{wait}, or `orchestrator limits {option}`")


def _queued(task: TaskDetail, status: StatusView) -> str:
    queued = next((pool.queued for pool in status.pools if pool.agent_type == pool_of(task)), 0)
    return f"{count(queued, 'task')} of {pool_of(task)} may start now"
