"""Dependencies that a person adds to a plan, or takes out of it, while it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from orchestrator.core.commands import SaveDependency
from orchestrator.core.loading import link, set_scope
from orchestrator.core.moving import enqueue, make_ready, move_task, wake
from orchestrator.core.state import Plan, State
from orchestrator.core.task import Task
from orchestrator.core.words import AT_WORK, SATISFIED, DependencyDecision, TaskState


def ring(s: State, leaves: Sequence[Task], on: Task) -> list[int]:
    """Return the tasks that would wait for each other if the leaves waited for `on`; empty if none would.

    They are told from `on` to the leaf that it waits for, directly or not: the way is the shortest.
    """
    came_from = {leaf.task_id: 0 for leaf in leaves}
    waiting = deque(came_from)
    while waiting:
        task_id = waiting.popleft()
        if task_id == on.task_id:
            found = [task_id]
            while came_from[found[-1]]:
                found.append(came_from[found[-1]])
            return found
        task = s.tasks[task_id]
        for then_id in (*task.dependents, task.parent_id):
            if then_id and then_id not in came_from:
                came_from[then_id] = task_id
                waiting.append(then_id)
    return []


def add_dependency(s: State, task: Task, on: Task) -> None:
    """Let a leaf wait for a task; one that is at work goes on and is flagged."""
    plan = s.plans[task.plan_id]
    if task.task_id not in on.dependents:
        link(s, task.task_id, on.task_id)
        if on.state not in SATISFIED:
            _call_back(s, plan, task, on)
    _save(s, plan, task, on, DependencyDecision.BLOCKS)


def _call_back(s: State, plan: Plan, task: Task, on: Task) -> None:
    if task.state is TaskState.READY:
        move_task(s, task, TaskState.WAITING)
    elif task.state in AT_WORK:
        task.is_overtaken = True
        payload = {"reason": "a dependency was added", "on": on.task_id}
        s.record("task.flagged", plan, task_id=task.task_id, payload=payload)


def drop_dependency(s: State, task: Task, on: Task) -> None:
    """Take out what a leaf has with a task, also what does not order them; from now on there is nothing."""
    plan = s.plans[task.plan_id]
    if task.task_id in on.dependents:
        on.dependents = [other_id for other_id in on.dependents if other_id != task.task_id]
        if on.state not in SATISFIED:
            task.unmet -= 1
            task.is_overtaken = task.is_overtaken and task.unmet > 0
            if task.unmet == 0 and task.state is TaskState.WAITING:
                wake(s, plan, reason="a dependency was dropped")
                make_ready(s, task)
    _save(s, plan, task, on, DependencyDecision.DROPPED)


def rescope(s: State, plan: Plan) -> None:
    """A plan that is to stop at a task may want other tasks for it now."""
    if not plan.until_task:
        return
    tasks = [s.tasks[task_id] for task_id in plan.task_ids]
    for task in tasks:
        plan.queue.discard(task)
    set_scope(s, plan)
    for task in tasks:
        if task.state in {TaskState.READY, TaskState.VERIFYING} and not task.token:
            enqueue(s, task)


def _save(s: State, plan: Plan, task: Task, on: Task, decision: DependencyDecision) -> None:
    s.touched.add(plan.plan_id)
    s.out.append(
        SaveDependency(
            tenant_id=plan.tenant_id,
            plan_id=plan.plan_id,
            task_id=task.task_id,
            on_task_id=on.task_id,
            decision=decision,
        )
    )
    payload = {"on": on.task_id, "decision": decision.value}
    s.record("task.dependency", plan, task_id=task.task_id, payload=payload)
