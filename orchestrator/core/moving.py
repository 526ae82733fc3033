"""How tasks and plans move: the only functions that set their state, their counts and their queues."""

from __future__ import annotations

from heapq import heappush

from orchestrator.backends import without_key
from orchestrator.core import budget, fairness
from orchestrator.core.commands import AskCancel, CancelAttempt, SavePlan
from orchestrator.core.retry import backoff_ms, policy_of
from orchestrator.core.state import Attempt, Plan, State
from orchestrator.core.task import Task
from orchestrator.core.transitions import PLAN_MOVES, TASK_MOVES, check_move
from orchestrator.core.words import (
    AT_WORK,
    BUDGET_LOWERED,
    CLOSED,
    SATISFIED,
    AttemptKind,
    FailureClass,
    HoldReason,
    PlanState,
    TaskState,
)

#: What may still go on by itself.
_GOING = (TaskState.READY, TaskState.RUNNING, TaskState.VERIFYING, TaskState.MERGING)


def is_in_scope(plan: Plan, task: Task) -> bool:
    """Tell whether the task is within what the plan was last asked to do."""
    return plan.wanted is None or task.task_id in plan.wanted


def move_task(s: State, task: Task, new: TaskState, *, reason: str = "") -> None:
    """Set the state of a task, and everything that is derived from it."""
    check_move(TASK_MOVES, what=f"task {task.task_id}", old=task.state, new=new)
    plan = s.plans[task.plan_id]
    plan.queue.discard(task)
    old, task.state, task.reason = task.state, new, reason
    if not task.is_container and is_in_scope(plan, task):
        plan.counts[old] -= 1
        plan.counts[new] += 1
    task.is_overtaken = task.is_overtaken and new in AT_WORK
    s.touch(task)
    payload = {"reason": reason} if reason else {}
    s.record(f"task.{new.value}", plan, task_id=task.task_id, payload=payload)
    if task.parent_id:
        _child_moved(s, s.tasks[task.parent_id], old, new)
    if new in SATISFIED:
        _release_dependents(s, task)
    elif old in SATISFIED:
        _recall_dependents(s, task)


def _child_moved(s: State, parent: Task, old: TaskState, new: TaskState) -> None:
    parent.done_children += (new is TaskState.DONE) - (old is TaskState.DONE)
    parent.skipped_children += (new is TaskState.SKIPPED) - (old is TaskState.SKIPPED)
    parent.open_children += (old in CLOSED) - (new in CLOSED)
    if parent.open_children == 0 and parent.state is TaskState.WAITING:
        roll_up(s, parent)
    elif parent.open_children and parent.state in CLOSED:
        move_task(s, parent, TaskState.WAITING)


def roll_up(s: State, parent: Task) -> None:
    """Close a container whose children are all closed: done if any of them was, else skipped or cancelled."""
    if parent.done_children:
        finish_task(s, parent)
    elif parent.skipped_children:
        move_task(s, parent, TaskState.SKIPPED, reason="all of it was skipped")
    else:
        move_task(s, parent, TaskState.CANCELLED, reason="all of it was cancelled")


def finish_task(s: State, task: Task, *, reason: str = "") -> None:
    """Make a task done."""
    task.losses = task.rate_limits = task.not_before_ms = 0
    move_task(s, task, TaskState.DONE, reason=reason)


def cancel_task(s: State, task: Task, reason: str) -> None:
    """Cancel a leaf that is not closed; one with a live attempt once that has ended."""
    attempt = s.attempts.get(task.token)
    if attempt is None:
        move_task(s, task, TaskState.CANCELLED, reason=reason)
    elif not attempt.is_given_up:
        ask_cancel(s, attempt, reason)


def ask_cancel(s: State, attempt: Attempt, reason: str) -> None:
    """Ask a live attempt to end; its task follows when it has ended."""
    attempt.cancel_reason = reason
    s.out.append(AskCancel(token=attempt.token, reason=reason))
    s.out.append(CancelAttempt(token=attempt.token, executor=attempt.executor, reason=reason))


def end_beyond(s: State) -> None:
    """Ask the attempts to end that a lowered budget does not bear; their tasks go back to the queue."""
    for attempt in budget.beyond(s):
        ask_cancel(s, attempt, BUDGET_LOWERED)
    for attempt in s.attempts.values():
        attempt.is_counted_on |= attempt.cancel_reason != ""


def _release_dependents(s: State, task: Task) -> None:
    """Count a dependency as met. Nothing else releases dependents."""
    for dependent_id in task.dependents:
        dependent = s.tasks[dependent_id]
        dependent.unmet -= 1
        dependent.is_overtaken = dependent.is_overtaken and dependent.unmet > 0
        if dependent.unmet == 0 and dependent.state is TaskState.WAITING and not dependent.is_container:
            make_ready(s, dependent)


def _recall_dependents(s: State, task: Task) -> None:
    """A dependency that was met is open again: what has not started waits for it, what has is overtaken."""
    for dependent_id in task.dependents:
        dependent = s.tasks[dependent_id]
        dependent.unmet += 1
        if dependent.state is TaskState.READY:
            move_task(s, dependent, TaskState.WAITING)
        dependent.is_overtaken = dependent.state in AT_WORK


def make_ready(s: State, task: Task) -> None:
    """Let a task go on as soon as it may: at once, after its back-off, or when its hold is released.

    One whose work is in goes on with its gate or its review: work is never paid for twice.
    """
    reason = reason_to_hold(s, task)
    if reason is not None:
        told = _told(s, task, reason)
        if task.state is not TaskState.HELD or task.reason != told:
            move_task(s, task, TaskState.HELD, reason=told)
        return
    is_work = task.wants is AttemptKind.WORK
    state = TaskState.READY if is_work else TaskState.VERIFYING
    if task.state is not state:
        move_task(s, task, state, reason="" if is_work else _stage(task))
    go_on(s, task)


def _stage(task: Task) -> str:
    """Return what a verifying task says of itself: that its gate is through."""
    return AttemptKind.REVIEW.value if task.wants is AttemptKind.REVIEW else ""


def reason_to_hold(s: State, task: Task) -> HoldReason | None:
    """Return why a task that could start may not, money aside."""
    if task.hold_when_ready is not None and not task.is_released:
        return task.hold_when_ready
    backends = _backends(task)
    if backends & s.keyless:
        return HoldReason.NO_CREDENTIALS
    return HoldReason.NOT_INSTALLED if backends & s.not_installed else None


def _backends(task: Task) -> set[str]:
    return {task.backend, task.rules.review_backend}


def _told(s: State, task: Task, reason: HoldReason) -> str:
    """Return a reason with what there is to say of it: whose credentials there are none of."""
    if reason is HoldReason.NO_CREDENTIALS:
        return f"{reason.value}: {without_key(_backends(task), s.keyless)}"
    return reason.value


def go_on(s: State, task: Task) -> None:
    """Queue a task for what it wants next; a step that its author has taken back counts as passed."""
    if _is_asked_for(task, task.wants):
        enqueue(s, task)
    else:
        verify_task(s, task, passed=task.wants)


def _is_asked_for(task: Task, kind: AttemptKind) -> bool:
    if kind is AttemptKind.WORK:
        return True
    return task.has_gate if kind is AttemptKind.GATE else task.rules.review_agent != ""


def enqueue(s: State, task: Task) -> None:
    """Put a ready or verifying task where the next pick finds it; one in back-off waits for the tick."""
    plan = s.plans[task.plan_id]
    if not is_in_scope(plan, task):
        return
    if task.not_before_ms:
        heappush(s.timers, (task.not_before_ms, task.task_id))
        return
    if plan.is_idle and plan.is_loaded and plan.state is PlanState.ACTIVE:
        fairness.join(s, plan)
    plan.is_idle = False
    s.ticket += 1
    plan.queue.push(task, ticket=s.ticket)
    fairness.offer(s, plan, task.pool)


def verify_task(s: State, task: Task, *, passed: AttemptKind) -> None:
    """Work, gate or review is through: send the task to what comes next, or make it done."""
    task.losses = task.rate_limits = 0
    if passed is AttemptKind.WORK and task.has_gate:
        task.wants = AttemptKind.GATE
    elif passed is not AttemptKind.REVIEW and task.rules.review_agent:
        task.wants = AttemptKind.REVIEW
    else:
        finish_task(s, task)
        return
    move_task(s, task, TaskState.VERIFYING, reason=_stage(task))
    enqueue(s, task)


def apply_failure(s: State, task: Task, failure: FailureClass, *, summary: str, at_ms: int) -> None:
    """Decide what follows a failed or lost attempt: again after a back-off, held, or a dead letter."""
    policy = policy_of(failure, task.wants)
    if policy.is_charged:
        task.attempts_used += 1
        task.wants = AttemptKind.WORK
    task.losses = task.losses + 1 if policy.counts_as_loss else 0
    task.rate_limits = task.rate_limits + 1 if failure is FailureClass.RATE_LIMITED else 0
    if task.losses >= s.policy.losses_max:
        move_task(s, task, TaskState.HELD, reason=HoldReason.POISON.value)
    elif failure is FailureClass.BUDGET and not budget.is_short_of_shared(s, s.plans[task.plan_id]):
        reason = budget.reason_to_hold(s, s.plans[task.plan_id], task)
        move_task(s, task, TaskState.HELD, reason=reason.value)
    elif not policy.is_retryable or task.attempts_used >= task.rules.attempts_max:
        move_task(s, task, TaskState.FAILED, reason=summary)
    else:
        task.not_before_ms = at_ms + _delay_ms(s, task)
        _retry(s, task)


def _delay_ms(s: State, task: Task) -> int:
    """Return the back-off after the last failure: only what it was counted as is not zero."""
    policy = s.policy
    return backoff_ms(
        delays_ms=policy.rate_limited_backoff_ms if task.rate_limits else policy.backoff_ms,
        jitter=policy.jitter,
        seed=policy.seed,
        task_id=task.task_id,
        number=task.rate_limits or task.losses or task.attempts_used,
    )


def _retry(s: State, task: Task) -> None:
    if task.state is TaskState.VERIFYING and task.wants is not AttemptKind.WORK:
        s.touch(task)
        go_on(s, task)
    else:
        start_or_wait(s, task)


def move_plan(s: State, plan: Plan, new: PlanState, *, payload: dict[str, object] | None = None) -> None:
    """Set the state of a plan; none stays active with nothing to do."""
    check_move(PLAN_MOVES, what=f"plan {plan.plan_id}", old=plan.state, new=new)
    plan.state = new
    save_plan(s, plan)
    s.record(f"plan.{new.value}", plan, payload=payload or {})
    if new is PlanState.ACTIVE:
        fairness.join(s, plan)
        fairness.offer_all(s, plan)


def save_plan(s: State, plan: Plan) -> None:
    """Order the row of a plan to be written; it is settled when the event ends."""
    s.touched.add(plan.plan_id)
    s.out.append(
        SavePlan(
            plan_id=plan.plan_id,
            state=plan.state,
            until_task=plan.until_task,
            budget_micros=plan.budget_micros,
            fruitless_micros=plan.fruitless_micros,
        )
    )


def wake(s: State, plan: Plan, *, reason: str = "") -> None:
    """Make a plan that had come to rest by itself active again."""
    if plan.state in {PlanState.STALLED, PlanState.DONE}:
        move_plan(s, plan, PlanState.ACTIVE, payload={"reason": reason} if reason else {})


def settle_plan(s: State, plan: Plan) -> None:
    """Notice that an active plan has ended, or that nothing in it can go on by itself."""
    if plan.state is not PlanState.ACTIVE or not plan.is_loaded or plan.live:
        return
    if any(plan.counts[state] for state in _GOING):
        return
    counts = {state.value: count for state, count in plan.counts.items() if count}
    is_over = all(state in CLOSED for state, count in plan.counts.items() if count)
    if is_over and plan.wanted is None:
        move_plan(s, plan, PlanState.DONE, payload={"tasks": counts})
    elif is_over:
        reason = "the task asked for is done"
        move_plan(s, plan, PlanState.PAUSED, payload={"tasks": counts, "reason": reason})
    else:
        move_plan(s, plan, PlanState.STALLED, payload={"tasks": counts})


def start_or_wait(s: State, task: Task) -> None:
    """Let a task go on if its dependencies are done; else it waits for them."""
    if task.unmet:
        move_task(s, task, TaskState.WAITING)
    else:
        make_ready(s, task)


def start_afresh(s: State, task: Task) -> None:
    """Let a task start again as if it had never been tried."""
    task.attempts_used = task.losses = task.rate_limits = task.not_before_ms = 0
    start_or_wait(s, task)


def release_what_works(s: State, plan: Plan) -> None:
    """Let those tasks of a plan start that could not work, or had no money of their own left, and can now."""
    for reason in (HoldReason.NO_CREDENTIALS, HoldReason.NOT_INSTALLED, HoldReason.TASK_BUDGET):
        release_holds(s, plan, reason)


def release_holds(s: State, plan: Plan, reason: HoldReason) -> None:
    """What the tasks of a plan were held for has gone away: they may start."""
    tasks = [task for task_id in plan.task_ids if is_held_for(task := s.tasks[task_id], reason)]
    held = [task for task in tasks if not _is_lacking(s, task, reason)]
    if held:
        wake(s, plan, reason=f"no longer held: {reason.value}")
    for task in held:
        task.not_before_ms = 0
        start_or_wait(s, task)


def is_held_for(task: Task, reason: HoldReason) -> bool:
    """Tell whether a task is held for a reason, whatever else is said of it."""
    return task.state is TaskState.HELD and task.reason.partition(": ")[0] == reason.value


def _is_lacking(s: State, task: Task, reason: HoldReason) -> bool:
    """Tell whether a task still lacks what it was held for."""
    if reason is HoldReason.TASK_BUDGET:
        return budget.is_short_of_own(s, task)
    return reason_to_hold(s, task) is reason
