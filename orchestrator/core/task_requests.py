"""What people and programs ask of tasks, one function for each kind of request.

Each returns the answer, or raises Refusal before it changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from orchestrator.backends import key_names, without_key
from orchestrator.core import budget, fuse
from orchestrator.core.asked import (
    Refusal,
    Result,
    cancel_leaves,
    leaves_of,
    refuse_if_cancelled,
    refuse_out_of_bounds,
    task_of,
)
from orchestrator.core.commands import ReleaseTask, SaveTaskBudget
from orchestrator.core.events import Requested
from orchestrator.core.moving import (
    ask_cancel,
    end_beyond,
    finish_task,
    is_held_for,
    move_task,
    reason_to_hold,
    release_holds,
    start_afresh,
    wake,
)
from orchestrator.core.relinking import add_dependency, drop_dependency, rescope, ring
from orchestrator.core.state import State
from orchestrator.core.task import Task
from orchestrator.core.words import (
    AT_WORK,
    BUDGET_LOWERED,
    BY_FILE,
    CLOSED,
    SATISFIED,
    AttemptKind,
    HoldReason,
    TaskState,
)

# --- ending tasks


def _ended_already(task: Task, what: str) -> Refusal:
    return Refusal(
        f"Task {task.task_id} is {task.state.value} already; there is nothing to {what}.",
        remedy="Leave it; or have it done again, by `reopen` if it is done and else by `retry`.",
    )


def _on_cancel_task(s: State, event: Requested) -> Result:
    task = task_of(s, event)
    result = cancel_leaves(s, leaves_of(s, task), event.reason or "by request")
    if not any(result.values()):
        raise _ended_already(task, "cancel")
    wake(s, s.plans[task.plan_id])  # it may be over now
    return result


def _idle_leaves(s: State, event: Requested, what: str) -> list[Task]:
    """Return the leaves of the task that are not over; none of them may have a live attempt."""
    task = task_of(s, event)
    leaves = [leaf for leaf in leaves_of(s, task) if leaf.state not in CLOSED]
    if not leaves:
        raise _ended_already(task, what)
    if any(leaf.token for leaf in leaves):
        raise Refusal(
            f"A session works on task {task.task_id}.",
            remedy=f"Wait for its end; or pause the plan, cancel and retry the task, and {what} it then.",
        )
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
    task = task_of(s, event)
    met = {TaskState.DONE, TaskState.SKIPPED}
    leaves = [leaf for leaf in leaves_of(s, task) if leaf.state not in met and not leaf.is_removed]
    if not leaves:
        raise _ended_already(task, "tick")
    plan = s.plans[task.plan_id]
    refuse_if_cancelled(plan)
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
                f"Task {dependent.task_id}, which depends on task {task.task_id}, is at work.",
                remedy="Wait for its end, or cancel it first.",
            )


def _to_restart(s: State, event: Requested, *, states: frozenset[TaskState], remedy: str) -> list[Task]:
    """Return the leaves of a task that are in one of the states and may start again."""
    task = task_of(s, event)
    leaves = [leaf for leaf in leaves_of(s, task) if leaf.state in states and not leaf.is_removed]
    if not leaves:
        what = "taken out of its plan" if task.is_removed else task.state.value
        raise Refusal(f"Task {task.task_id} is {what}; there is nothing to do again.", remedy=remedy)
    refuse_if_cancelled(s.plans[task.plan_id])
    return leaves


def _start_over(s: State, leaves: Iterable[Task]) -> None:
    for leaf in leaves:
        wake(s, s.plans[leaf.plan_id])
        leaf.wants = AttemptKind.WORK
        start_afresh(s, leaf)


def _restart(s: State, event: Requested, *, states: frozenset[TaskState], remedy: str) -> int:
    """Start the leaves of a task again that are in one of the states; return how many there are."""
    leaves = _to_restart(s, event, states=states, remedy=remedy)
    for leaf in leaves:
        _refuse_if_relied_on(s, leaf)
    _start_over(s, leaves)
    return len(leaves)


def _on_retry_task(s: State, event: Requested) -> Result:
    states = frozenset({TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED})
    remedy = "Retry what has failed, or was cancelled or skipped; reopen what is done."
    return {"retried": _restart(s, event, states=states, remedy=remedy)}


#: What a reopened task was.
_DONE = frozenset({TaskState.DONE})
_ONLY_DONE = "Reopen only what is done; retry what has failed, or was cancelled or skipped."


def _on_reopen_task(s: State, event: Requested) -> Result:
    return {"reopened": _restart(s, event, states=_DONE, remedy=_ONLY_DONE)}


def _on_untick_task(s: State, event: Requested) -> Result:
    """Its author has taken the tick away: it starts again, and what relied on it is flagged."""
    leaves = _to_restart(s, event, states=_DONE, remedy=_ONLY_DONE)
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
_HOLDS = {r.value for r in (HoldReason.BY_REQUEST, HoldReason.ELSEWHERE, HoldReason.BLOCKED_IN_PLAN)}


def _on_hold_task(s: State, event: Requested) -> Result:
    task = task_of(s, event)
    holdable = {TaskState.WAITING, TaskState.READY}
    leaves = [leaf for leaf in leaves_of(s, task) if leaf.state in holdable]
    if not leaves:
        raise Refusal(
            f"Task {task.task_id} is {task.state.value}; only one that waits or is ready can be held.",
            remedy="Cancel it if it is not to go on.",
        )
    by_request = HoldReason.BY_REQUEST.value
    said = event.reason or by_request
    reason = said if said in _HOLDS else f"{by_request}: {said}"
    for leaf in leaves:
        move_task(s, leaf, TaskState.HELD, reason=reason)
    return {"held": len(leaves)}


def _held(s: State, event: Requested) -> Task:
    task = task_of(s, event)
    if task.state is not TaskState.HELD:
        raise Refusal(
            f"Task {task.task_id} is {task.state.value}, not held.",
            remedy="Leave it: `orchestrator show` tells what it waits for.",
        )
    return task


def _on_release_task(s: State, event: Requested) -> Result:
    """Let a held task go on, or all that is held by request in a container.

    A task that a person does counts as done then.
    """
    if (box := task_of(s, event)).is_container:
        return _release_all_in(s, box)
    task = _held(s, event)
    lacking = reason_to_hold(s, task)
    if is_held_for(task, HoldReason.NO_CREDENTIALS) and lacking is HoldReason.NO_CREDENTIALS:
        keys = key_names(without_key((task.backend, task.rules.review_backend), s.keyless))
        raise Refusal(
            f"Task {task.task_id} needs a model, and there are no credentials.",
            remedy=f"Set {keys}, and start the stack again: `orchestrator down`, `orchestrator up`.",
        )
    if task.reason == HoldReason.NOT_INSTALLED.value and lacking is HoldReason.NOT_INSTALLED:
        raise Refusal(
            f"Task {task.task_id} needs a program that is not installed.",
            remedy="Install it, as `orchestrator doctor` says, and start the stack again.",
        )
    plan = s.plans[task.plan_id]
    wake(s, plan)
    if task.reason == HoldReason.NO_PROGRESS.value:
        fuse.mend(s, plan)
    if task.reason == HoldReason.MANUAL.value:
        finish_task(s, task, reason=event.reason or "by hand")
    else:
        if task.hold_when_ready is not None and task.reason == task.hold_when_ready.value:
            task.is_released = True
            s.out.append(ReleaseTask(task_id=task.task_id))
        start_afresh(s, task)
    return {"state": task.state.value}


def _release_all_in(s: State, box: Task) -> Result:
    held = [leaf for leaf in leaves_of(s, box) if is_held_for(leaf, HoldReason.BY_REQUEST)]
    if not held:
        raise Refusal(
            f"Nothing in task {box.task_id} is held by request.",
            remedy="Release what is held for another reason by itself.",
        )
    wake(s, s.plans[box.plan_id])
    for leaf in held:
        start_afresh(s, leaf)
    return {"state": box.state.value, "released": len(held)}


def _awaiting_approval(s: State, event: Requested) -> Task:
    task = _held(s, event)
    if task.reason != HoldReason.APPROVAL.value:
        raise Refusal(
            f"Task {task.task_id} is held for another reason than approval: {task.reason}.",
            remedy="Release it once that is settled, or cancel it.",
        )
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


# --- budgets


def _on_set_task_budget(s: State, event: Requested) -> Result:
    """Change what all attempts of a task may spend; 0 = as its author says, or the settings."""
    task = task_of(s, event)
    refuse_out_of_bounds(event.budget_micros)
    if task.is_container:
        raise Refusal(
            f"Task {task.task_id} only contains others, which have budgets of their own.",
            remedy="Name one of these.",
        )
    before = budget.of_task(s, task)
    task.budget_micros = event.budget_micros
    s.out.append(SaveTaskBudget(task_id=task.task_id, budget_micros=event.budget_micros))
    if budget.is_lower(budget.of_task(s, task), before):
        end_beyond(s)
    plan, attempt = s.plans[task.plan_id], s.attempts.get(task.token)
    told: Result = {
        "budget_micros": budget.of_task(s, task),
        "spent_micros": task.spent_micros,
        "reserved_micros": attempt.reserved_micros if attempt else 0,
        "ending": int(attempt is not None and attempt.cancel_reason == BUDGET_LOWERED),
    }
    s.record("task.budget", plan, task_id=task.task_id, payload=told)
    release_holds(s, plan, HoldReason.TASK_BUDGET)
    return told


# --- dependencies


def _on(s: State, event: Requested, task: Task) -> Task:
    on = s.tasks.get(event.on_task)
    if on is None or on.plan_id != task.plan_id:
        raise Refusal(f"Task {event.on_task} is not in plan {task.plan_id}.", remedy="Name one of its tasks.")
    for each in (task, on):
        if each.is_removed:
            raise Refusal(
                f"Task {each.task_id} was taken out of plan {task.plan_id} by its author.",
                remedy="Name a task that is in it.",
            )
    return on


def _on_add_dependency(s: State, event: Requested) -> Result:
    """A task waits for another one from now on; of a container all leaves do."""
    task = task_of(s, event)
    on = _on(s, event, task)
    leaves = list(leaves_of(s, task))
    if found := ring(s, leaves, on):
        way = " → ".join(f"task {task_id}" for task_id in (*found, on.task_id))
        raise Refusal(
            f"These tasks would wait for each other: {way}.", remedy="Drop one of their dependencies first."
        )
    for leaf in leaves:
        add_dependency(s, leaf, on)
    rescope(s, s.plans[task.plan_id])
    return {
        "waits": sum(leaf.unmet > 0 for leaf in leaves),
        "flagged": [t.task_id for t in leaves if t.is_overtaken],
    }


def _on_drop_dependency(s: State, event: Requested) -> Result:
    """A task has nothing to do with another one from now on."""
    task = task_of(s, event)
    on = _on(s, event, task)
    leaves = list(leaves_of(s, task))
    for leaf in leaves:
        drop_dependency(s, leaf, on)
    rescope(s, s.plans[task.plan_id])
    return {"waits": sum(leaf.unmet > 0 for leaf in leaves)}


TASK_HANDLERS: Mapping[str, Callable[[State, Requested], Result]] = {
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
    "set_task_budget": _on_set_task_budget,
    "add_dependency": _on_add_dependency,
    "drop_dependency": _on_drop_dependency,
}
