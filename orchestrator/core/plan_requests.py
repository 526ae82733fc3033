"""What people ask of plans, and of everything at once, one function for each kind of request.

Each returns the answer, or raises Refusal before it changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.core import budget, fairness, fuse
from orchestrator.core.asked import (
    Refusal,
    Result,
    cancel_leaves,
    plan_of,
    refuse_if_cancelled,
    refuse_out_of_bounds,
)
from orchestrator.core.commands import SaveControls
from orchestrator.core.events import Requested
from orchestrator.core.limits import Overrides
from orchestrator.core.loading import set_scope
from orchestrator.core.moving import end_beyond, enqueue, move_plan, release_holds, save_plan, start_afresh
from orchestrator.core.state import State
from orchestrator.core.words import BUDGET_LOWERED, PLAN_CANCELLED, HoldReason, PlanState, TaskState

# --- plans


def _on_cancel_plan(s: State, event: Requested) -> Result:
    plan = plan_of(s, event)
    reason = event.reason or PLAN_CANCELLED
    if plan.state is PlanState.CANCELLED:
        return {"state": plan.state.value, "cancelling": 0}
    if plan.state is PlanState.DONE:
        raise Refusal(
            f"Plan {plan.plan_id} is done; there is nothing to cancel.", remedy="Leave it as it is."
        )
    move_plan(s, plan, PlanState.CANCELLED, payload={"reason": reason})
    leaves = [task for task_id in plan.task_ids if not (task := s.tasks[task_id]).is_container]
    return {"state": plan.state.value, "cancelling": cancel_leaves(s, leaves, reason)["cancelling"]}


def _on_pause_plan(s: State, event: Requested) -> Result:
    plan = plan_of(s, event)
    if plan.state not in {PlanState.ACTIVE, PlanState.STALLED, PlanState.PAUSED}:
        raise Refusal(
            f"Plan {plan.plan_id} is {plan.state.value}; only one that is active can be paused.",
            remedy="Leave it as it is: nothing of it starts.",
        )
    if plan.state is not PlanState.PAUSED:
        move_plan(s, plan, PlanState.PAUSED, payload={"reason": event.reason or "by request"})
    return {"state": plan.state.value, "live": plan.live}


def _on_resume_plan(s: State, event: Requested) -> Result:
    """Go on with the scope of this request, and give the dead letters another chance."""
    plan = plan_of(s, event)
    refuse_if_cancelled(plan)
    if event.until_task and event.until_task not in plan.task_ids:
        raise Refusal(
            f"Task {event.until_task} is not in plan {plan.plan_id}.",
            remedy="Resume it up to one of its own tasks.",
        )
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
            start_afresh(s, task)
        elif task.state in {TaskState.READY, TaskState.VERIFYING} and not task.token:
            enqueue(s, task)
    return {"state": plan.state.value}


def _on_set_budget(s: State, event: Requested) -> Result:
    """Change what a plan may spend; the sessions end that a lower budget does not bear."""
    plan = plan_of(s, event)
    refuse_out_of_bounds(event.budget_micros)
    is_lower = budget.is_lower(event.budget_micros, plan.budget_micros)
    plan.budget_micros = event.budget_micros
    fuse.mend(s, plan)
    save_plan(s, plan)
    if is_lower:
        end_beyond(s)
    told: Result = {
        "budget_micros": plan.budget_micros,
        "spent_micros": plan.purse.spent,
        "reserved_micros": plan.purse.reserved,
        "ending": sum(
            attempt.plan_id == plan.plan_id and attempt.cancel_reason == BUDGET_LOWERED
            for attempt in s.attempts.values()
        ),
    }
    s.record("plan.budget", plan, payload=told)
    if plan.state not in {PlanState.DONE, PlanState.CANCELLED}:
        release_holds(s, plan, HoldReason.BUDGET)
        release_holds(s, plan, HoldReason.NO_PROGRESS)
        fairness.offer_all(s, plan)
    return told


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
    """Change limits while running; one on sessions that is lowered ends nothing that is live, a budget may.

    The answer is what was set: those of before may name other tenants.
    """
    newer = event.overrides
    if newer is None or any(value < 0 for value in newer.values()):
        raise Refusal(
            "A limit is missing or below zero.", remedy="Give a number from 1; 0 goes back to the settings."
        )
    before = _shared_budgets(s, newer)
    s.bounds.overrides = s.bounds.overrides.merged(newer)
    if any(map(budget.is_lower, _shared_budgets(s, newer), before)):
        end_beyond(s)
    fairness.offer_everybody(s)
    _save_controls(s)
    s.record_globally("scheduler.limits", s.bounds.overrides.as_json())
    return newer.as_json()


def _shared_budgets(s: State, named: Overrides) -> list[int]:
    """Return the budgets that hold now of the tenants that are named, and of the day."""
    return [*map(s.bounds.tenant_budget, named.tenant_budgets), s.bounds.day_budget]


PLAN_HANDLERS: Mapping[str, Callable[[State, Requested], Result]] = {
    "cancel_plan": _on_cancel_plan,
    "pause_plan": _on_pause_plan,
    "resume_plan": _on_resume_plan,
    "set_budget": _on_set_budget,
}

GLOBAL_HANDLERS: Mapping[str, Callable[[State, Requested], Result]] = {
    "pause_all": _on_pause_all,
    "resume_all": _on_resume_all,
    "set_limits": _on_set_limits,
}
