"""The fuse of a plan: what it has spent since a task of it was last done.

Beyond the bound of the policy its paid tasks are held: a person looks before more is spent. Work that waits
for its gate or its review is not counted until that has spoken.
"""

from __future__ import annotations

from orchestrator.core.moving import save_plan
from orchestrator.core.state import Plan, State
from orchestrator.core.task import Task
from orchestrator.core.words import AttemptKind, TaskState


def judge(s: State, plan: Plan, task: Task, cost_micros: int) -> None:
    """An attempt has ended and its task has moved: see whether the spend was for something."""
    if task.state is TaskState.VERIFYING and task.wants is not AttemptKind.WORK:
        task.unjudged_micros += cost_micros
        return
    is_progress = task.state is TaskState.DONE
    fruitless = 0 if is_progress else plan.fruitless_micros + task.unjudged_micros + cost_micros
    task.unjudged_micros = 0
    _set(s, plan, fruitless)


def mend(s: State, plan: Plan) -> None:
    """A person has looked: what is spent without progress is counted from here."""
    _set(s, plan, 0)


def _set(s: State, plan: Plan, fruitless_micros: int) -> None:
    if fruitless_micros != plan.fruitless_micros:
        plan.fruitless_micros = fruitless_micros
        save_plan(s, plan)
