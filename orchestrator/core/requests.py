"""What people and programs ask for, one function for each kind of request. Answered after the commit.

Each handler returns the answer, or raises Refusal before it changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from orchestrator.core import fairness
from orchestrator.core.commands import (
    Answer,
    ReleaseTask,
    SaveAnswer,
    SaveControls,
)
from orchestrator.core.events import Requested
from orchestrator.core.loading import set_scope
from orchestrator.core.moving import (
    ask_cancel,
    cancel_task,
    enqueue,
    finish_task,
    move_plan,
    move_task,
    release_holds,
    save_plan,
    start_or_wait,
    wake,
)
from orchestrator.core.relinking import add_dependency, drop_dependency, rescope, ring
from orchestrator.core.state import Plan, State
from orchestrator.core.task import Task
from orchestrator.core.words import (
    AT_WORK,
    BY_FILE,
    CLOSED,
    PLAN_CANCELLED,
    SATISFIED,
    AttemptKind,
    HoldReason,
    PlanState,
    TaskState,
)

Result = dict[str, object]

#: Largest budget: a billion dollars.
BUDGET_MICROS_MAX = 10**15

_CANCELLED = "The plan was cancelled. Submit it fresh to start over."


class Refusal(Exception):
    """The request cannot be met; the message says why and what to do."""


class NotInMemory(Refusal):
    """It cannot be met now; asked again after its plan was loaded, it may."""


def on_requested(s: State, event: Requested) -> None:
    """Carry out one request and order its answer; one with a key is also written, if it is the last word."""
    result: Result = {}
    error, is_final = "", True
    try:
        result = _HANDLERS[event.kind](s, event)
    except Refusal as refusal:
        error, is_final = str(refusal), not isinstance(refusal, NotInMemory)
    if event.key and is_final:
        s.out.append(
            SaveAnswer(
                tenant_id=event.tenant_id, key=event.key, digest=event.digest, result=result, error=error
            )
        )
    s.out.append(Answer(request_id=event.request_id, result=result, error=error))


def _task(s: State, event: Requested) -> Task:
    task = s.tasks.get(event.task_id)
    if task is None or s.plans[task.plan_id].tenant_id != event.tenant_id:
        raise NotInMemory(f"Task {event.task_id} is not in an unfinished plan. Resume its plan first.")
    if event.plan_id not in {0, task.plan_id}:
        raise Refusal(f"Task {event.task_id} is not in plan {event.plan_id}.")
    return task


def _plan(s: State, event: Requested) -> Plan:
    plan = s.plans.get(event.plan_id)
    if plan is None or not plan.is_loaded or plan.tenant_id != event.tenant_id:
        raise NotInMemory(f"Plan {event.plan_id} is not loaded. Try again in a second.")
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


# --- ending tasks


def _cancel(s: State, leaves: Iterable[Task], reason: str) -> Result:
    """Cancel those of the leaves that are not closed, and count them."""
    open_ = [leaf for leaf in leaves if leaf.state not in CLOSED]
    for leaf in open_:
        cancel_task(s, leaf, reason)
    cancelling = sum(leaf.token != 0 for leaf in open_)
    return {"cancelled": len(open_) - cancelling, "cancelling": cancelling}


def _on_cancel_task(s: State, event: Requested) -> Result:
    task = _task(s, event)
    result = _cancel(s, _leaves(s, task), event.reason or "by request")
    if not any(result.values()):
        raise Refusal(f"The task is {task.state.value} already; there is nothing to cancel.")
    wake(s, s.plans[task.plan_id])  # it may be over now
    return result


def _idle_leaves(s: State, event: Requested, what: str) -> list[Task]:
    """Return the leaves of the task that are not over; none of them may have a live attempt."""
    task = _task(s, event)
    leaves = [leaf for leaf in _leaves(s, task) if leaf.state not in CLOSED]
    if not leaves:
        raise Refusal(f"The task is {task.state.value} already; there is nothing to {what}.")
    if any(leaf.token for leaf in leaves):
        raise Refusal(f"A session works on the task. Cancel it, then {what} the task.")
    return leaves


def _on_skip_task(s: State, event: Requested) -> Result:
    """Give up on a task; what depends on it goes on without it."""
    leaves = _idle_leaves(s, event, "skip")
    wake(s, s.plans[leaves[0].plan_id])
    for leaf in leaves:
        move_task(s, leaf, TaskState.SKIPPED, reason=event.reason or "by request")
    return {"skipped": len(leaves)}


def _on_finish_task(s: State, event: Requested) -> Result:
    """A person says that it is done."""
    leaves = _idle_leaves(s, event, "finish")
    wake(s, s.plans[leaves[0].plan_id])
    for leaf in leaves:
        finish_task(s, leaf, reason=event.reason or "by hand")
    return {"finished": len(leaves)}


def _on_tick_task(s: State, event: Requested) -> Result:
    """Its author has ticked it in the file: it is done, once what works on it has ended."""
    task = _task(s, event)
    met = {TaskState.DONE, TaskState.SKIPPED}
    leaves = [leaf for leaf in _leaves(s, task) if leaf.state not in met and not leaf.is_removed]
    if not leaves:
        raise Refusal("The task is done already; there is nothing to tick.")
    plan = s.plans[task.plan_id]
    if plan.state is PlanState.CANCELLED:
        raise Refusal(_CANCELLED)
    wake(s, plan)
    for leaf in leaves:
        attempt = s.attempts.get(leaf.token)
        if attempt is None:
            finish_task(s, leaf, reason=BY_FILE)
        elif attempt.cancel_reason != BY_FILE:
            ask_cancel(s, attempt, BY_FILE)
    cancelling = sum(leaf.token != 0 for leaf in leaves)
    return {"finished": len(leaves) - cancelling, "cancelling": cancelling}


# --- starting tasks again


def _relying(s: State, task: Task) -> Iterator[Task]:
    """Yield what depends on a task, or on a container of it, and could start because it is done."""
    relied: Task | None = task
    while relied is not None:
        for dependent_id in relied.dependents if relied.state in SATISFIED else ():
            yield s.tasks[dependent_id]
        relied = s.tasks.get(relied.parent_id)


def _refuse_if_relied_on(s: State, task: Task) -> None:
    """A satisfied dependency is not opened again under work that relies on it."""
    for dependent in _relying(s, task):
        if dependent.state in AT_WORK:
            raise Refusal(
                f"Task {dependent.task_id}, which depends on it, is at work. Cancel that one first."
            )


def _again(s: State, task: Task) -> None:
    task.attempts_used = task.losses = task.rate_limits = task.not_before_ms = 0
    start_or_wait(s, task)


def _to_restart(s: State, event: Requested, states: frozenset[TaskState], refusal: str) -> list[Task]:
    """Return the leaves of a task that are in one of the states and may start again."""
    task = _task(s, event)
    leaves = [leaf for leaf in _leaves(s, task) if leaf.state in states and not leaf.is_removed]
    if not leaves:
        raise Refusal(f"The task is {task.state.value}; {refusal}")
    if s.plans[task.plan_id].state is PlanState.CANCELLED:
        raise Refusal(_CANCELLED)
    return leaves


def _start_over(s: State, leaves: Iterable[Task]) -> None:
    for leaf in leaves:
        wake(s, s.plans[leaf.plan_id])
        leaf.wants = AttemptKind.WORK
        _again(s, leaf)


def _restart(s: State, event: Requested, states: frozenset[TaskState], refusal: str) -> int:
    """Start the leaves of a task again that are in one of the states; return how many there are."""
    leaves = _to_restart(s, event, states, refusal)
    for leaf in leaves:
        _refuse_if_relied_on(s, leaf)
    _start_over(s, leaves)
    return len(leaves)


def _on_retry_task(s: State, event: Requested) -> Result:
    states = frozenset({TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED})
    return {"retried": _restart(s, event, states, "only a failed, cancelled or skipped one is retried.")}


def _on_reopen_task(s: State, event: Requested) -> Result:
    return {"reopened": _restart(s, event, frozenset({TaskState.DONE}), "only one that is done is reopened.")}


def _on_untick_task(s: State, event: Requested) -> Result:
    """Its author has taken the tick away: it starts again, and what relied on it is flagged."""
    leaves = _to_restart(s, event, frozenset({TaskState.DONE}), "only one that is done is opened again.")
    started = AT_WORK | {TaskState.DONE}
    flagged = {
        other.task_id: leaf for leaf in leaves for other in _relying(s, leaf) if other.state in started
    }
    _start_over(s, leaves)
    for task_id, leaf in flagged.items():
        payload = {"reason": "what it relied on was opened again", "on": leaf.task_id}
        s.record("task.flagged", s.plans[leaf.plan_id], task_id=task_id, payload=payload)
    return {"reopened": len(leaves), "flagged": sorted(flagged)}


# --- holding and releasing

#: Reasons that a request to hold may give: the author has marked the task so in the file.
_HOLDS = {reason.value for reason in (HoldReason.ELSEWHERE, HoldReason.BLOCKED_IN_PLAN)}


def _on_hold_task(s: State, event: Requested) -> Result:
    task = _task(s, event)
    holdable = {TaskState.WAITING, TaskState.READY}
    leaves = [leaf for leaf in _leaves(s, task) if leaf.state in holdable]
    if not leaves:
        raise Refusal(f"The task is {task.state.value}; only one that waits or is ready can be held.")
    for leaf in leaves:
        reason = event.reason if event.reason in _HOLDS else HoldReason.BY_REQUEST.value
        move_task(s, leaf, TaskState.HELD, reason=reason)
    return {"held": len(leaves)}


def _held(s: State, event: Requested) -> Task:
    task = _task(s, event)
    if task.state is not TaskState.HELD:
        raise Refusal(f"The task is {task.state.value}, not held; there is nothing to release.")
    return task


def _on_release_task(s: State, event: Requested) -> Result:
    """Let a held task go on, or all that is held by request in a container.

    A task that a person does counts as done then.
    """
    if (box := _task(s, event)).is_container:
        return _release_all_in(s, box)
    task = _held(s, event)
    if task.reason == HoldReason.NO_CREDENTIALS.value and not s.has_credentials:
        raise Refusal("The task needs a model's credentials. Set ANTHROPIC_API_KEY and start again.")
    wake(s, s.plans[task.plan_id])
    if task.reason == HoldReason.MANUAL.value:
        finish_task(s, task, reason=event.reason or "by hand")
    else:
        if task.hold_when_ready is not None and task.reason == task.hold_when_ready.value:
            task.is_released = True
            s.out.append(ReleaseTask(task_id=task.task_id))
        _again(s, task)
    return {"state": task.state.value}


def _release_all_in(s: State, box: Task) -> Result:
    by_request = (TaskState.HELD, HoldReason.BY_REQUEST.value)
    held = [leaf for leaf in _leaves(s, box) if (leaf.state, leaf.reason) == by_request]
    if not held:
        raise Refusal("Nothing in it is held by request. Release what is held for another reason by itself.")
    wake(s, s.plans[box.plan_id])
    for leaf in held:
        _again(s, leaf)
    return {"state": box.state.value, "released": len(held)}


def _awaiting_approval(s: State, event: Requested) -> Task:
    task = _held(s, event)
    if task.reason != HoldReason.APPROVAL.value:
        raise Refusal(f"The task is held for another reason ({task.reason}), not for approval.")
    return task


def _on_approve_task(s: State, event: Requested) -> Result:
    _awaiting_approval(s, event)
    return _on_release_task(s, event)


def _on_reject_task(s: State, event: Requested) -> Result:
    """A person says no: the task becomes a dead letter, from which it can be retried."""
    task = _awaiting_approval(s, event)
    wake(s, s.plans[task.plan_id])
    move_task(s, task, TaskState.FAILED, reason=f"rejected: {event.reason or 'by request'}")
    return {"state": task.state.value}


# --- dependencies


def _on(s: State, event: Requested, task: Task) -> Task:
    on = s.tasks.get(event.on_task)
    if on is None or on.plan_id != task.plan_id:
        raise Refusal(f"Task {event.on_task} is not in the same plan. Name one of its tasks.")
    return on


def _on_add_dependency(s: State, event: Requested) -> Result:
    """A task waits for another one from now on; of a container all leaves do."""
    task = _task(s, event)
    on = _on(s, event, task)
    leaves = list(_leaves(s, task))
    if found := ring(s, leaves, on):
        way = " → ".join(f"task {task_id}" for task_id in (*found, on.task_id))
        raise Refusal(f"These tasks would wait for each other: {way}. Drop one of their dependencies first.")
    for leaf in leaves:
        add_dependency(s, leaf, on)
    rescope(s, s.plans[task.plan_id])
    return {
        "waits": sum(leaf.unmet > 0 for leaf in leaves),
        "flagged": [t.task_id for t in leaves if t.is_overtaken],
    }


def _on_drop_dependency(s: State, event: Requested) -> Result:
    """A task has nothing to do with another one from now on."""
    task = _task(s, event)
    on = _on(s, event, task)
    leaves = list(_leaves(s, task))
    for leaf in leaves:
        drop_dependency(s, leaf, on)
    rescope(s, s.plans[task.plan_id])
    return {"waits": sum(leaf.unmet > 0 for leaf in leaves)}


# --- plans


def _on_cancel_plan(s: State, event: Requested) -> Result:
    plan = _plan(s, event)
    reason = event.reason or PLAN_CANCELLED
    if plan.state is PlanState.CANCELLED:
        return {"state": plan.state.value, "cancelling": 0}
    if plan.state is PlanState.DONE:
        raise Refusal("The plan is done; there is nothing to cancel.")
    move_plan(s, plan, PlanState.CANCELLED, payload={"reason": reason})
    leaves = [task for task_id in plan.task_ids if not (task := s.tasks[task_id]).is_container]
    return {"state": plan.state.value, "cancelling": _cancel(s, leaves, reason)["cancelling"]}


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
    if event.until_task and event.until_task not in plan.task_ids:
        raise Refusal(f"Task {event.until_task} is not in the plan. Resume up to one of its own tasks.")
    plan.until_task = event.until_task
    tasks = [s.tasks[task_id] for task_id in plan.task_ids]
    for task in tasks:
        plan.queue.discard(task)
    set_scope(s, plan)
    if plan.state in {PlanState.PAUSED, PlanState.STALLED}:
        move_plan(s, plan, PlanState.ACTIVE, payload={"reason": event.reason or "by request"})
    else:
        save_plan(s, plan)  # its state stays, what is wanted of it may be new
    for task in tasks:
        if task.state is TaskState.FAILED and (plan.wanted is None or task.task_id in plan.wanted):
            _again(s, task)
        elif task.state in {TaskState.READY, TaskState.VERIFYING} and not task.token:
            enqueue(s, task)
    return {"state": plan.state.value}


def _on_set_budget(s: State, event: Requested) -> Result:
    plan = _plan(s, event)
    if not 0 <= event.budget_micros <= BUDGET_MICROS_MAX:
        raise Refusal(f"A budget is a number of micro-dollars from 0 (none) to {BUDGET_MICROS_MAX}.")
    plan.budget_micros = event.budget_micros
    save_plan(s, plan)
    payload = {"budget_micros": plan.budget_micros, "spent_micros": plan.spent_micros}
    s.record("plan.budget", plan, payload=payload)
    if plan.state not in {PlanState.DONE, PlanState.CANCELLED}:
        release_holds(s, plan, HoldReason.BUDGET)
        fairness.offer_all(s, plan)
    return {"budget_micros": plan.budget_micros, "spent_micros": plan.spent_micros}


# --- everything


def _save_controls(s: State) -> None:
    controls = SaveControls(is_paused=s.is_paused, pause_reason=s.pause_reason, overrides=s.bounds.overrides)
    s.out.append(controls)


def _on_pause_all(s: State, event: Requested) -> Result:
    reason = event.reason or s.pause_reason or "by request"
    if not s.is_paused or reason != s.pause_reason:
        s.is_paused, s.pause_reason = True, reason
        _save_controls(s)
        s.record_globally("scheduler.paused", {"reason": reason})
    return {"is_paused": True, "live": len(s.attempts)}


def _on_resume_all(s: State, event: Requested) -> Result:
    if s.is_paused:
        s.is_paused, s.pause_reason = False, ""
        _save_controls(s)
        s.record_globally("scheduler.resumed", {"reason": event.reason or "by request"})
    return {"is_paused": False, "live": len(s.attempts)}


def _on_set_limits(s: State, event: Requested) -> Result:
    """Change limits while running; a limit that is lowered ends nothing that is live.

    The answer is what was set: those of before may name other tenants.
    """
    newer = event.overrides
    if newer is None or any(value < 0 for value in newer.values()):
        raise Refusal("A limit is a number from 1; 0 goes back to the settings.")
    s.bounds.overrides = s.bounds.overrides.merged(newer)
    fairness.offer_everybody(s)
    _save_controls(s)
    s.record_globally("scheduler.limits", s.bounds.overrides.as_json())
    return newer.as_json()


_HANDLERS: dict[str, Callable[[State, Requested], Result]] = {
    "cancel_task": _on_cancel_task,
    "skip_task": _on_skip_task,
    "tick_task": _on_tick_task,
    "untick_task": _on_untick_task,
    "finish_task": _on_finish_task,
    "retry_task": _on_retry_task,
    "reopen_task": _on_reopen_task,
    "hold_task": _on_hold_task,
    "release_task": _on_release_task,
    "approve_task": _on_approve_task,
    "reject_task": _on_reject_task,
    "add_dependency": _on_add_dependency,
    "drop_dependency": _on_drop_dependency,
    "cancel_plan": _on_cancel_plan,
    "pause_plan": _on_pause_plan,
    "resume_plan": _on_resume_plan,
    "set_budget": _on_set_budget,
    "pause_all": _on_pause_all,
    "resume_all": _on_resume_all,
    "set_limits": _on_set_limits,
}

#: What may be asked for.
REQUEST_KINDS = frozenset(_HANDLERS)
