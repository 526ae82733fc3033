"""What requests share: what they are about is found, and what cannot be met is refused with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.core.events import Requested
from orchestrator.core.moving import cancel_task
from orchestrator.core.state import Plan, State
from orchestrator.core.task import Task
from orchestrator.core.words import BUDGET_LOWERED, BY_FILE, CLOSED, PlanState
from orchestrator.money import BUDGET_MICROS_MAX

#: What is answered, as plain values.
Result = dict[str, object]


class Refusal(Exception):
    """The request cannot be met: the message names the thing and the reason, the remedy what to do."""

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class NotInMemory(Refusal):
    """It cannot be met now; asked again after its plan was loaded, it may."""


def task_of(s: State, event: Requested) -> Task:
    """Return the task that a request is about; raises Refusal."""
    task = s.tasks.get(event.task_id)
    if task is None or not _is_within(s, task.plan_id, event.tenant_id):
        raise NotInMemory(
            f"Task {event.task_id} is not in a plan that is loaded.", remedy="Name its plan as well."
        )
    if event.plan_id not in {0, task.plan_id}:
        raise Refusal(
            f"Task {event.task_id} is not in plan {event.plan_id}.", remedy="Name a task of this plan."
        )
    return task


def plan_of(s: State, event: Requested) -> Plan:
    """Return the plan that a request is about; raises Refusal."""
    if not _is_within(s, event.plan_id, event.tenant_id):
        raise not_loaded(event.plan_id)
    return s.plans[event.plan_id]


def _is_within(s: State, plan_id: int, tenant_id: str) -> bool:
    return is_loaded(s, plan_id) and s.plans[plan_id].tenant_id == tenant_id


def is_loaded(s: State, plan_id: int) -> bool:
    """Tell whether all of a plan is in memory."""
    plan = s.plans.get(plan_id)
    return plan is not None and plan.is_loaded


def not_loaded(plan_id: int) -> NotInMemory:
    """Return the refusal of what is about a plan that is not in memory."""
    return NotInMemory(f"Plan {plan_id} is not loaded.", remedy="Try again in a second.")


def refuse_if_cancelled(plan: Plan) -> None:
    """Nothing of a cancelled plan starts again."""
    if plan.state is PlanState.CANCELLED:
        raise Refusal(
            f"Plan {plan.plan_id} was cancelled.", remedy="Hand it in with --fresh to start it over."
        )


def refuse_out_of_bounds(budget_micros: int) -> None:
    """A budget is a sum that somebody may have."""
    if not 0 <= budget_micros <= BUDGET_MICROS_MAX:
        raise Refusal(
            f"A budget of {budget_micros} millionths of a dollar is out of bounds.",
            remedy=f"Give one from 0 (none) to {BUDGET_MICROS_MAX}.",
        )


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
    if reason in {BUDGET_LOWERED, BY_FILE}:  # words of ours, by which a task is not cancelled
        reason = f"by request: {reason}"
    open_ = [leaf for leaf in leaves if leaf.state not in CLOSED]
    for leaf in open_:
        cancel_task(s, leaf, reason)
    cancelling = sum(leaf.token != 0 for leaf in open_)
    return {"cancelled": len(open_) - cancelling, "cancelling": cancelling}
