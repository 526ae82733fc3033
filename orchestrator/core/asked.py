"""What requests share: what they are about is found, and what cannot be met is refused with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.core.events import Requested
from orchestrator.core.moving import cancel_task
from orchestrator.core.state import Plan, State
from orchestrator.core.task import Task
from orchestrator.core.words import CLOSED

#: What is answered, as plain values.
Result = dict[str, object]

#: Why nothing of a cancelled plan starts again.
CANCELLED = "The plan was cancelled. Submit it fresh to start over."


class Refusal(Exception):
    """The request cannot be met; the message says why and what to do."""


class NotInMemory(Refusal):
    """It cannot be met now; asked again after its plan was loaded, it may."""


def task_of(s: State, event: Requested) -> Task:
    """Return the task that a request is about; raises Refusal."""
    task = s.tasks.get(event.task_id)
    if task is None or s.plans[task.plan_id].tenant_id != event.tenant_id:
        raise NotInMemory(f"Task {event.task_id} is not in an unfinished plan. Resume its plan first.")
    if event.plan_id not in {0, task.plan_id}:
        raise Refusal(f"Task {event.task_id} is not in plan {event.plan_id}.")
    return task


def plan_of(s: State, event: Requested) -> Plan:
    """Return the plan that a request is about; raises Refusal."""
    plan = s.plans.get(event.plan_id)
    if plan is None or not plan.is_loaded or plan.tenant_id != event.tenant_id:
        raise NotInMemory(f"Plan {event.plan_id} is not loaded. Try again in a second.")
    return plan


def leaves_of(s: State, task: Task) -> Iterator[Task]:
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


def cancel_leaves(s: State, leaves: Iterable[Task], reason: str) -> Result:
    """Cancel those of the leaves that are not closed, and count them."""
    open_ = [leaf for leaf in leaves if leaf.state not in CLOSED]
    for leaf in open_:
        cancel_task(s, leaf, reason)
    cancelling = sum(leaf.token != 0 for leaf in open_)
    return {"cancelled": len(open_) - cancelling, "cancelling": cancelling}
