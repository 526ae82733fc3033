"""Where a task of a plan stands: by the marks of its file, until it is stored and has states of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestrator.core.words import HoldReason, TaskKind, TaskState
from orchestrator.plan.model import Mark, PlanTask


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a task, and why it is in it; the reason is empty where none was given."""

    state: TaskState
    reason: str = ""


#: Reasons of tasks whose state is the author's word.
DONE_BY_IMPORT = "by import, no evidence"
DEFERRED_IN_PLAN = "deferred in the plan"
CANCELLED_IN_PLAN = "cancelled in the plan"

STANDING_BY_MARK: Mapping[Mark, Standing] = {
    Mark.OPEN: Standing(TaskState.WAITING),
    Mark.DONE: Standing(TaskState.DONE, DONE_BY_IMPORT),
    Mark.IN_PROGRESS: Standing(TaskState.HELD, HoldReason.ELSEWHERE),
    Mark.BLOCKED: Standing(TaskState.HELD, HoldReason.BLOCKED_IN_PLAN),
    Mark.DEFERRED: Standing(TaskState.CANCELLED, DEFERRED_IN_PLAN),
    Mark.CANCELLED: Standing(TaskState.CANCELLED, CANCELLED_IN_PLAN),
    Mark.SKIPPED: Standing(TaskState.SKIPPED, CANCELLED_IN_PLAN),
}


def standings_by_marks(tasks: Iterable[PlanTask]) -> dict[str, Standing]:
    """Return where the leaves of a plan file stand, by key. What waits for nothing is left waiting too."""
    return {task.key: STANDING_BY_MARK[task.mark] for task in tasks if task.kind is TaskKind.LEAF}
