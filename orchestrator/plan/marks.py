"""What the mark of a task in a file and its state in the database say of each other."""

from __future__ import annotations

from typing import assert_never

from orchestrator.core.words import AT_WORK, BY_FILE, CLOSED, HoldReason, TaskState
from orchestrator.plan.model import Mark
from orchestrator.plan.standing import CANCELLED_IN_PLAN, DEFERRED_IN_PLAN, Standing

_MARK_OF_REASON = {
    HoldReason.ELSEWHERE.value: Mark.IN_PROGRESS,
    HoldReason.BLOCKED_IN_PLAN.value: Mark.BLOCKED,
    DEFERRED_IN_PLAN: Mark.DEFERRED,
    CANCELLED_IN_PLAN: Mark.CANCELLED,
}


def agrees(mark: Mark, standing: Standing) -> bool:
    """Tell whether a mark says what the database says of the task, so that neither need follow the other."""
    state = standing.state
    match mark:
        case Mark.DONE:
            return state in {TaskState.DONE, TaskState.SKIPPED}
        case Mark.IN_PROGRESS:
            return state in AT_WORK or state is TaskState.HELD
        case Mark.BLOCKED:
            return state is TaskState.HELD
        case Mark.DEFERRED | Mark.CANCELLED | Mark.SKIPPED:
            return state in {TaskState.CANCELLED, TaskState.SKIPPED}
        case Mark.OPEN:
            return state not in CLOSED and standing.reason not in _MARK_OF_REASON
        case _:
            assert_never(mark)


def mark_of(standing: Standing) -> Mark | None:
    """Return the mark that a file gets for a state; None for what is no business of the file.

    A task that was skipped or cancelled by a command stays as its author wrote it: cancelling a plan does not
    rewrite the plan.
    """
    if standing.state is TaskState.DONE:
        return Mark.DONE
    if standing.reason in _MARK_OF_REASON:
        return _MARK_OF_REASON[standing.reason]
    return None if standing.state in CLOSED else Mark.OPEN


def request_for(mark: Mark, standing: Standing) -> tuple[str, str]:
    """Return the kind of request that makes a task follow the mark set by its author, and its reason."""
    match mark:
        case Mark.DONE:
            return "tick_task", BY_FILE
        case Mark.IN_PROGRESS:
            return "hold_task", HoldReason.ELSEWHERE.value
        case Mark.BLOCKED:
            return "hold_task", HoldReason.BLOCKED_IN_PLAN.value
        case Mark.DEFERRED:
            return "cancel_task", DEFERRED_IN_PLAN
        case Mark.CANCELLED:
            return "cancel_task", CANCELLED_IN_PLAN
        case Mark.SKIPPED:
            return "skip_task", CANCELLED_IN_PLAN
        case Mark.OPEN:
            if standing.state is TaskState.DONE:
                return "untick_task", BY_FILE
            return "release_task" if standing.state is TaskState.HELD else "retry_task", BY_FILE
        case _:
            assert_never(mark)
