"""Taking plans into memory: slices first, inert; then the whole plan becomes active at once.

The same way serves a new plan and the recovery of one that was running: memory is built from rows only.
Almost all of the work is done slice by slice, so that a large plan never holds up a dispatch for long.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core import budget, fairness
from orchestrator.core.assign import register
from orchestrator.core.commands import StartAttempt
from orchestrator.core.events import AttemptLost, LiveAttempt, PlanLoaded, PlanSliceLoaded, PlanSpec
from orchestrator.core.moving import (
    cancel_task,
    enqueue,
    go_on,
    make_ready,
    move_plan,
    move_task,
    reason_to_hold,
    release_what_works,
    roll_up,
    start_or_wait,
)
from orchestrator.core.reports import on_attempt_lost
from orchestrator.core.state import Attempt, Plan, Purse, State
from orchestrator.core.task import Task
from orchestrator.core.words import (
    BUDGET_LOWERED,
    CLOSED,
    PLAN_CANCELLED,
    REMOVED,
    SATISFIED,
    AttemptState,
    HoldReason,
    PlanState,
    TaskState,
)


def on_slice_loaded(s: State, event: PlanSliceLoaded) -> None:
    """Add tasks to a plan that is not active yet."""
    plan = s.plans.get(event.plan.plan_id)
    if plan is None:
        plan = s.plans[event.plan.plan_id] = _plan_of(event.plan)
        budget.count_proposals(s, plan, s.early_proposals.pop(plan.plan_id, 0))  # stored since it was read
    take_tasks(s, plan, event.tasks, event.edges)
    for task in event.tasks:
        if task.state is TaskState.READY and plan.until_task == 0 and reason_to_hold(s, task) is None:
            enqueue(s, task)


def _plan_of(spec: PlanSpec) -> Plan:
    return Plan(
        plan_id=spec.plan_id,
        tenant_id=spec.tenant_id,
        state=spec.state,
        budget_micros=spec.budget_micros,
        purse=Purse(spent=spec.spent_micros),
        until_task=spec.until_task,
        fruitless_micros=spec.fruitless_micros,
        proposed_micros=spec.proposed_micros,
    )


def take_tasks(s: State, plan: Plan, tasks: Iterable[Task], edges: Iterable[tuple[int, int]]) -> None:
    """Count tasks, parents before their children, and edges into a plan; none of them starts by that."""
    for task in tasks:
        _take(s, plan, task)
    for task_id, on_id in edges:
        link(s, task_id, on_id)


def _take(s: State, plan: Plan, task: Task) -> None:
    task.plan_id = plan.plan_id
    s.tasks[task.task_id] = task
    plan.task_ids.append(task.task_id)
    if not task.is_container:
        plan.counts[task.state] += 1
    early = s.early_edges.pop(task.task_id, None)
    if early is not None:
        task.dependents = early
        if task.state in SATISFIED:
            for dependent_id in early:
                s.tasks[dependent_id].unmet -= 1
    if task.parent_id:
        parent = s.tasks[task.parent_id]
        parent.open_children += task.state not in CLOSED
        parent.done_children += task.state is TaskState.DONE
        parent.skipped_children += task.state is TaskState.SKIPPED


def link(s: State, task_id: int, on_id: int) -> None:
    """Let a task wait for another, which may come later."""
    on = s.tasks.get(on_id)
    if on is None:
        s.early_edges.setdefault(on_id, []).append(task_id)
    elif isinstance(on.dependents, list):
        on.dependents.append(task_id)
    else:
        on.dependents = [task_id]
    if on is None or on.state not in SATISFIED:
        s.tasks[task_id].unmet += 1


def on_plan_loaded(s: State, event: PlanLoaded, *, at_ms: int) -> None:
    """Make a wholly loaded plan runnable: adopt its live attempts, start what can start."""
    plan = s.plans[event.plan_id]
    if plan.until_task:
        set_scope(s, plan)
    plan.is_loaded = True
    if plan.state is PlanState.ACTIVE:
        fairness.join(s, plan)
    for live in event.attempts:
        _adopt(s, plan, live, at_ms=at_ms)
    if plan.state is PlanState.SUBMITTED:
        s.record("plan.taken", plan, payload={"tasks": len(plan.task_ids)})
        move_plan(s, plan, PlanState.ACTIVE)
    resume_tasks(s, plan)
    for live in event.attempts:
        if live.state is AttemptState.LOST:  # fenced, and the scheduler died before the task followed
            lost = AttemptLost(token=live.token, reason=live.end_reason)
            on_attempt_lost(s, lost, at_ms=at_ms)
    if plan.counts[TaskState.HELD] or plan.wanted is not None:
        release_what_works(s, plan)
    fairness.offer_all(s, plan)
    s.touched.add(plan.plan_id)


def set_scope(s: State, plan: Plan) -> None:
    """Work out which leaves the plan wants now, and count those."""
    plan.wanted = _needed_for(s, plan, plan.until_task) if plan.until_task else None
    plan.counts.clear()
    for task_id in plan.task_ids:
        task = s.tasks[task_id]
        if not task.is_container and (plan.wanted is None or task_id in plan.wanted):
            plan.counts[task.state] += 1


def _needed_for(s: State, plan: Plan, task_id: int) -> frozenset[int]:
    """Return the tasks that a task needs, directly or not, with itself and what containers roll up."""
    needs: dict[int, list[int]] = {}
    for other_id in plan.task_ids:
        other = s.tasks[other_id]
        if other.parent_id:
            needs.setdefault(other.parent_id, []).append(other_id)
        for dependent_id in other.dependents:
            needs.setdefault(dependent_id, []).append(other_id)
    return _reachable(task_id, needs)


def _reachable(first: int, needs: dict[int, list[int]]) -> frozenset[int]:
    found, front = {first}, [first]
    while front:
        following: Iterable[int] = needs.get(front.pop(), ())
        for on_id in following:
            if on_id not in found:
                found.add(on_id)
                front.append(on_id)
    return frozenset(found)


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
        state=_last_state(live),
        leased_at_ms=at_ms,
        beat_at_ms=at_ms,
        started_at_ms=at_ms,  # counted afresh, like its lease: clocks may have been set
        cancel_reason=live.cancel_reason,
        is_counted_on=live.cancel_reason == BUDGET_LOWERED,
        reserved_micros=live.reserved_micros,
    )
    register(s, plan, s.tasks[live.task_id], attempt)
    if live.state is AttemptState.LEASED:  # it may never have been sent: the same token again is harmless
        s.out.append(StartAttempt(token=live.token, executor=live.executor))


def _last_state(live: LiveAttempt) -> AttemptState:
    """Return the state that a fenced attempt was in; of any other, the one it is in."""
    if live.state is not AttemptState.LOST:
        return live.state
    return AttemptState.STARTED if live.started_at_ms else AttemptState.LEASED


def resume_tasks(s: State, plan: Plan) -> None:
    """Bring the tasks of a plan to where they belong by their rows and edges, and start what may start."""
    is_live = plan.state is not PlanState.CANCELLED
    for task_id in plan.task_ids:
        task = s.tasks[task_id]
        is_leaf_at_rest = task.unmet and not task.is_container and task.state is TaskState.WAITING
        if is_leaf_at_rest and is_live and not task.is_removed:
            continue  # most of a large plan; nothing else is decided meanwhile
        if task.is_container:
            _resume_container(s, task)
        elif task.state in CLOSED:
            continue
        elif task.is_removed:
            cancel_task(s, task, REMOVED)
        elif plan.state is PlanState.CANCELLED:  # a revision that was stored before adds nothing to it
            cancel_task(s, task, PLAN_CANCELLED)
        else:
            _resume(s, task)


def _resume_container(s: State, box: Task) -> None:
    if box.open_children == 0 and box.state is TaskState.WAITING:
        roll_up(s, box)
    elif box.open_children and box.state in CLOSED:  # a revision added to it
        move_task(s, box, TaskState.WAITING)


#: A hold for one of these ends when its author no longer asks for it.
_BY_AUTHOR = {HoldReason.APPROVAL.value, HoldReason.MANUAL.value}


def _resume(s: State, task: Task) -> None:
    match task.state:
        case TaskState.READY | TaskState.WAITING:
            if task.unmet:
                if task.state is TaskState.READY:  # a revision added the dependency
                    move_task(s, task, TaskState.WAITING)
            elif not task.ticket:
                make_ready(s, task)
        case TaskState.RUNNING | TaskState.VERIFYING:
            task.is_overtaken = task.unmet > 0
            if task.state is TaskState.VERIFYING and not task.token and not task.ticket:
                go_on(s, task)
        case TaskState.HELD:
            if task.reason in _BY_AUTHOR and task.hold_when_ready is None:
                start_or_wait(s, task)
