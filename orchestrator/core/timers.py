"""What the passing of time does to tasks and plans; attempts have leases.py."""

from __future__ import annotations

from heapq import heappop

from orchestrator.core.moving import enqueue
from orchestrator.core.state import State
from orchestrator.core.words import FINISHED, TaskState


def end_backoffs(s: State, *, at_ms: int) -> None:
    """Queue the tasks whose back-off is over."""
    while s.timers and s.timers[0][0] <= at_ms:
        not_before_ms, task_id = heappop(s.timers)
        task = s.tasks.get(task_id)
        if task is not None and task.not_before_ms == not_before_ms and task.token == 0:
            task.not_before_ms = 0
            if task.state in {TaskState.READY, TaskState.VERIFYING}:
                enqueue(s, task)


def forget_plans(s: State) -> None:
    """Let go of plans that are over; their rows remain."""
    for plan in [p for p in s.plans.values() if p.state in FINISHED and p.is_loaded and not p.live]:
        for task_id in plan.task_ids:
            del s.tasks[task_id]
        del s.plans[plan.plan_id]
