"""Taking plans into memory: slices first, inert; then the whole plan becomes active at once.

The same way serves a new plan and the recovery of one that was running: memory is built from rows only.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core.assign import register
from orchestrator.core.commands import StartAttempt
from orchestrator.core.events import AttemptLost, LiveAttempt, PlanLoaded, PlanSliceLoaded, PlanSpec, TaskSpec
from orchestrator.core.moving import (
    CLOSED,
    MODEL_BACKENDS,
    RELEASED,
    enqueue,
    make_ready,
    move_plan,
    release_credential_holds,
    roll_up,
)
from orchestrator.core.reports import on_attempt_lost
from orchestrator.core.state import Attempt, Plan, State, Task
from orchestrator.core.words import AttemptState, HoldReason, PlanState, TaskState


def on_slice_loaded(s: State, event: PlanSliceLoaded) -> None:
    """Add tasks to a plan that is not active yet."""
    plan = s.plans.get(event.plan.plan_id)
    if plan is None:
        plan = s.plans[event.plan.plan_id] = _plan_of(event.plan)
    for spec in event.tasks:
        task = _task_of(spec, plan.plan_id)
        task.dependents = s.early_edges.pop(task.task_id, [])
        s.tasks[task.task_id] = task
        plan.task_ids.append(task.task_id)
    for task_id, on_id in event.edges:
        on = s.tasks.get(on_id)
        (on.dependents if on is not None else s.early_edges.setdefault(on_id, [])).append(task_id)


def _plan_of(spec: PlanSpec) -> Plan:
    return Plan(
        plan_id=spec.plan_id,
        tenant_id=spec.tenant_id,
        state=spec.state,
        budget_micros=spec.budget_micros,
        spent_micros=spec.spent_micros,
        until_task=spec.until_task,
    )


def _task_of(spec: TaskSpec, plan_id: int) -> Task:
    return Task(
        task_id=spec.task_id,
        plan_id=plan_id,
        parent_id=spec.parent_id,
        is_container=spec.is_container,
        state=spec.state,
        reason=spec.reason,
        agent_type=spec.agent_type,
        backend=spec.backend,
        task_type=spec.task_type,
        domain=spec.domain,
        priority=spec.priority,
        rank=spec.rank,
        estimate_ms=spec.estimate_ms,
        not_before_ms=spec.not_before_ms,
        attempts_used=spec.attempts_used,
        attempts_max=spec.attempts_max,
        losses=spec.losses,
        has_gate=spec.has_gate,
        hold_when_ready=None if _was_released(spec) else spec.hold_when_ready,
        work_number=spec.work_number,
        gate_number=spec.gate_number,
        version=spec.version,
    )


#: Holds that come after a person's: what waits for means has been let through.
_MEANS = frozenset({HoldReason.NO_CREDENTIALS.value, HoldReason.BUDGET.value})


def _was_released(spec: TaskSpec) -> bool:
    """A person let it through already: it has run, may run, or was released while it waited."""
    never_ran = {TaskState.WAITING, TaskState.HELD, TaskState.CANCELLED, TaskState.SKIPPED}
    may_run = spec.state not in never_ran
    lacks_means = spec.state is TaskState.HELD and spec.reason in _MEANS
    return may_run or lacks_means or spec.work_number > 0 or spec.reason == RELEASED


def on_plan_loaded(s: State, event: PlanLoaded, *, at_ms: int) -> None:
    """Make a wholly loaded plan runnable: count, adopt its live attempts, start what can start."""
    plan = s.plans[event.plan_id]
    tasks = [s.tasks[task_id] for task_id in plan.task_ids]
    _derive(s, plan, tasks)
    plan.is_loaded = True
    _join_queue(s, plan)
    for live in event.attempts:
        _adopt(s, plan, live, at_ms=at_ms)
    if plan.state is PlanState.SUBMITTED:
        s.record("plan.taken", plan, payload={"tasks": len(tasks)})
        move_plan(s, plan, PlanState.ACTIVE)
    for task in tasks:
        _resume(s, task)
    for live in event.attempts:
        if live.state is AttemptState.LOST:  # fenced, and the scheduler died before the task followed
            on_attempt_lost(
                s, AttemptLost(at_ms=at_ms, token=live.token, reason=live.end_reason), at_ms=at_ms
            )
    if s.limits.has_credentials:
        release_credential_holds(s, plan)
    s.touched.add(plan.plan_id)


def _derive(s: State, plan: Plan, tasks: Iterable[Task]) -> None:
    for task in tasks:
        if task.state is not TaskState.DONE:
            for dependent_id in task.dependents:
                s.tasks[dependent_id].unmet += 1
        if task.parent_id:
            parent = s.tasks[task.parent_id]
            parent.open_children += task.state not in CLOSED
            parent.done_children += task.state is TaskState.DONE
    set_scope(s, plan)


def set_scope(s: State, plan: Plan) -> None:
    """Work out which leaves the plan wants now, and count those."""
    plan.wanted = needed_for(s, plan, plan.until_task) if plan.until_task else None
    plan.counts.clear()
    for task_id in plan.task_ids:
        task = s.tasks[task_id]
        if not task.is_container and (plan.wanted is None or task_id in plan.wanted):
            plan.counts[task.state] += 1


def needed_for(s: State, plan: Plan, task_id: int) -> frozenset[int]:
    """Return the tasks that a task needs, directly or not, with itself and what containers roll up."""
    needs: dict[int, list[int]] = {}
    for other_id in plan.task_ids:
        other = s.tasks[other_id]
        if other.parent_id:
            needs.setdefault(other.parent_id, []).append(other_id)
        for dependent_id in other.dependents:
            needs.setdefault(dependent_id, []).append(other_id)
    found, front = {task_id}, [task_id]
    while front:
        for on_id in needs.get(front.pop(), ()):
            if on_id not in found:
                found.add(on_id)
                front.append(on_id)
    return frozenset(found)


def _join_queue(s: State, plan: Plan) -> None:
    """A late comer starts level with whoever had the fewest starts, not with a claim to all the past."""
    others = [p for p in s.plans.values() if p.is_loaded and p is not plan and p.state is PlanState.ACTIVE]
    same = [p.ran for p in others if p.tenant_id == plan.tenant_id]
    plan.ran = max(plan.ran, min(same, default=0))
    if not same and others:
        level = min(s.ran_by_tenant[p.tenant_id] for p in others)
        s.ran_by_tenant[plan.tenant_id] = max(s.ran_by_tenant[plan.tenant_id], level)


def _adopt(s: State, plan: Plan, live: LiveAttempt, *, at_ms: int) -> None:
    attempt = Attempt(
        token=live.token,
        task_id=live.task_id,
        plan_id=plan.plan_id,
        kind=live.kind,
        number=live.number,
        agent_type=live.agent_type,
        backend=live.backend,
        executor=live.executor,
        state=AttemptState.STARTED if live.state is AttemptState.LOST else live.state,
        leased_at_ms=at_ms,
        beat_at_ms=at_ms,
        cancel_reason=live.cancel_reason,
        reserved_micros=s.policy.attempt_cost_micros if live.backend in MODEL_BACKENDS else 0,
    )
    s.tasks[live.task_id].token = live.token
    register(s, plan, attempt)
    if live.state is AttemptState.LEASED:  # it may never have been sent: the same token again is harmless
        s.out.append(StartAttempt(token=live.token, executor=live.executor))


def _resume(s: State, task: Task) -> None:
    if task.is_container:
        if task.state is TaskState.WAITING and task.open_children == 0:
            roll_up(s, task)
    elif task.state is TaskState.READY or (task.state is TaskState.WAITING and task.unmet == 0):
        make_ready(s, task)
    elif task.token == 0 and task.state is TaskState.VERIFYING:
        enqueue(s, task)
