"""What people and programs ask for: cancel, retry, release, pause, resume. Answered after the commit.

Each handler returns the answer, or raises Refusal before it changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.core.commands import Answer, AskCancel, CancelAttempt
from orchestrator.core.events import Requested
from orchestrator.core.loading import set_scope
from orchestrator.core.moving import (
    CLOSED,
    RELEASED,
    cancel_task,
    enqueue,
    finish_task,
    make_ready,
    move_plan,
    move_task,
    save_plan,
)
from orchestrator.core.state import Plan, State, Task
from orchestrator.core.words import HoldReason, PlanState, TaskState

Result = dict[str, object]

_CANCELLED = "The plan was cancelled. Submit it fresh to start over."


class Refusal(Exception):
    """The request cannot be met; the message says why and what to do."""


def on_requested(s: State, event: Requested, *, at_ms: int) -> None:
    """Carry out one request and order its answer."""
    del at_ms
    try:
        result = _HANDLERS[event.kind](s, event)
    except Refusal as refusal:
        s.out.append(Answer(request_id=event.request_id, result={}, error=str(refusal)))
    else:
        s.out.append(Answer(request_id=event.request_id, result=result))


def _task(s: State, event: Requested) -> Task:
    task = s.tasks.get(event.task_id)
    if task is None:
        raise Refusal(f"Task {event.task_id} is not in an unfinished plan. Resume its plan first.")
    return task


def _plan(s: State, event: Requested) -> Plan:
    plan = s.plans.get(event.plan_id)
    if plan is None or not plan.is_loaded:
        raise Refusal(f"Plan {event.plan_id} is not loaded. Try again in a second.")
    return plan


def _leaves(s: State, task: Task) -> Iterator[Task]:
    """Yield the leaves of a task, itself if it is one."""
    if not task.is_container:
        yield task
        return
    below = {task.task_id}
    for task_id in s.plans[task.plan_id].task_ids:  # parents stand before their children
        other = s.tasks[task_id]
        if other.parent_id in below:
            below.add(task_id)
            if not other.is_container:
                yield other


def _cancel(s: State, task: Task, reason: str) -> str:
    attempt = s.attempts.get(task.token)
    if attempt is None:
        cancel_task(s, task, reason=reason)
        return task.state.value
    if not attempt.cancel_reason:
        attempt.cancel_reason = reason
        s.out.append(AskCancel(token=attempt.token, reason=reason))
        s.out.append(CancelAttempt(token=attempt.token, executor=attempt.executor, reason=reason))
    return "cancelling"


def _wake(s: State, plan: Plan) -> None:
    if plan.state in {PlanState.STALLED, PlanState.DONE}:
        move_plan(s, plan, PlanState.ACTIVE)


def _on_cancel_task(s: State, event: Requested) -> Result:
    task = _task(s, event)
    reason = event.reason or "by request"
    states = [_cancel(s, leaf, reason) for leaf in _leaves(s, task) if leaf.state not in CLOSED]
    if not states:
        raise Refusal(f"The task is {task.state.value} already; there is nothing to cancel.")
    _wake(s, s.plans[task.plan_id])  # it may be over now
    return {"cancelled": states.count("cancelled"), "cancelling": states.count("cancelling")}


def _again(s: State, task: Task) -> None:
    task.attempts_used = task.losses = task.not_before_ms = 0
    if task.unmet:
        move_task(s, task, TaskState.WAITING, reason=RELEASED if task.hold_when_ready is None else "")
    else:
        make_ready(s, task)


def _on_retry_task(s: State, event: Requested) -> Result:
    task = _task(s, event)
    again = {TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED}
    leaves = [leaf for leaf in _leaves(s, task) if leaf.state in again]
    if not leaves:
        raise Refusal(f"The task is {task.state.value}; only a failed, cancelled or skipped one is retried.")
    if s.plans[task.plan_id].state is PlanState.CANCELLED:
        raise Refusal(_CANCELLED)
    _wake(s, s.plans[task.plan_id])
    for leaf in leaves:
        _again(s, leaf)
    return {"retried": len(leaves)}


def _on_release_task(s: State, event: Requested) -> Result:
    task = _task(s, event)
    if task.state is not TaskState.HELD:
        raise Refusal(f"The task is {task.state.value}, not held; there is nothing to release.")
    if task.reason == HoldReason.NO_CREDENTIALS.value and not s.limits.has_credentials:
        raise Refusal("The task needs a model's credentials. Set ANTHROPIC_API_KEY and start again.")
    _wake(s, s.plans[task.plan_id])
    if task.hold_when_ready is HoldReason.MANUAL:
        finish_task(s, task, reason=event.reason or "by hand")
    else:
        task.hold_when_ready = None
        _again(s, task)
    return {"state": task.state.value}


def _on_cancel_plan(s: State, event: Requested) -> Result:
    plan = _plan(s, event)
    reason = event.reason or "plan cancelled"
    if plan.state is PlanState.CANCELLED:
        return {"state": plan.state.value, "cancelling": 0}
    if plan.state is PlanState.DONE:
        raise Refusal("The plan is done; there is nothing to cancel.")
    move_plan(s, plan, PlanState.CANCELLED, payload={"reason": reason})
    leaves = [task for task_id in plan.task_ids if not (task := s.tasks[task_id]).is_container]
    states = [_cancel(s, leaf, reason) for leaf in leaves if leaf.state not in CLOSED]
    return {"state": plan.state.value, "cancelling": states.count("cancelling")}


def _on_pause_plan(s: State, event: Requested) -> Result:
    plan = _plan(s, event)
    if plan.state not in {PlanState.ACTIVE, PlanState.STALLED, PlanState.PAUSED}:
        raise Refusal(f"The plan is {plan.state.value}; only one that is active can be paused.")
    if plan.state is not PlanState.PAUSED:
        move_plan(s, plan, PlanState.PAUSED, payload={"reason": event.reason or "by request"})
    return {"state": plan.state.value, "live": plan.live}


def _on_resume_plan(s: State, event: Requested) -> Result:
    """Go on with the scope of this request, and give the dead letters another chance."""
    plan = _plan(s, event)
    if plan.state is PlanState.CANCELLED:
        raise Refusal(_CANCELLED)
    plan.until_task = event.until_task
    set_scope(s, plan)
    if plan.state in {PlanState.PAUSED, PlanState.STALLED}:
        move_plan(s, plan, PlanState.ACTIVE, payload={"reason": event.reason or "by request"})
    else:
        save_plan(s, plan)  # its state stays, what is wanted of it may be new
    tasks = [s.tasks[task_id] for task_id in plan.task_ids]
    for task in tasks:
        plan.queue.discard(task.task_id)
    for task in tasks:
        if task.state is TaskState.FAILED and (plan.wanted is None or task.task_id in plan.wanted):
            _again(s, task)
        elif task.state in {TaskState.READY, TaskState.VERIFYING} and not task.token:
            enqueue(s, task)
    return {"state": plan.state.value}


_HANDLERS: dict[str, Callable[[State, Requested], Result]] = {
    "cancel_task": _on_cancel_task,
    "retry_task": _on_retry_task,
    "release_task": _on_release_task,
    "cancel_plan": _on_cancel_plan,
    "pause_plan": _on_pause_plan,
    "resume_plan": _on_resume_plan,
}

#: What may be asked for.
REQUEST_KINDS = frozenset(_HANDLERS)
