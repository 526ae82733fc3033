"""Taking a new text of a plan: its tasks and edges are replaced, what has happened to them stays.

Memory is then what it would be if the plan were read afresh, except that nothing live is touched: attempts,
their slots and back-offs go on. So it does no harm to take the same revision twice.
"""

from __future__ import annotations

from orchestrator.core import budget, fairness
from orchestrator.core.asked import is_loaded, not_loaded
from orchestrator.core.commands import Answer, EndRevision, SaveTaskBudget
from orchestrator.core.events import PlanRevised
from orchestrator.core.loading import resume_tasks, set_scope, take_tasks
from orchestrator.core.moving import end_beyond, release_holds, wake
from orchestrator.core.ready import PlanQueue
from orchestrator.core.state import Plan, State
from orchestrator.core.task import Task
from orchestrator.core.words import CLOSED, HoldReason, PlanState

#: What the author has written of a task, or what follows from that; all else is its history.
WRITTEN = (
    *("parent_id", "is_container", "agent_type", "backend", "task_type", "domain", "priority", "rank"),
    *("has_gate", "hold_when_ready", "rules", "is_removed"),
)


def on_plan_revised(s: State, event: PlanRevised) -> None:
    """Replace the tasks and edges of a plan in memory; one that is not is asked for again once it is."""
    if not is_loaded(s, event.plan_id):
        refusal = not_loaded(event.plan_id)
        s.out.append(Answer(request_id=event.request_id, result={}, error=refusal.message, is_absent=True))
        return
    plan = s.plans[event.plan_id]
    known = [s.tasks[task.task_id] for task in event.tasks if task.task_id in s.tasks]
    budgets = [(task, task.rules.budget_micros, budget.of_task(s, task)) for task in known]
    tasks = [_with_history(s, task) for task in event.tasks]
    _clear(plan, tasks)
    take_tasks(s, plan, tasks, event.edges)
    if plan.until_task:
        set_scope(s, plan)
    s.record("plan.revised", plan, payload={"revision": event.revision_id, "tasks": len(tasks)})
    _wake_for_new(s, plan)
    resume_tasks(s, plan)
    for task, written, _ in budgets:
        if task.budget_micros and task.rules.budget_micros != written:
            task.budget_micros = 0  # its author has the last word
            s.out.append(SaveTaskBudget(task_id=task.task_id, budget_micros=0))
    if any(budget.is_lower(budget.of_task(s, task), before) for task, _, before in budgets):
        end_beyond(s)
    release_holds(s, plan, HoldReason.TASK_BUDGET)
    fairness.offer_all(s, plan)
    s.touched.add(plan.plan_id)
    s.out.append(EndRevision(revision_id=event.revision_id))
    s.out.append(Answer(request_id=event.request_id, result={"revision": event.revision_id}))


def _with_history(s: State, written: Task) -> Task:
    """Return the task in memory with what is written of it now; a new one as it is."""
    known = s.tasks.get(written.task_id)
    if known is None:
        return written
    for name in WRITTEN:
        setattr(known, name, getattr(written, name))
    return known


def _clear(plan: Plan, tasks: list[Task]) -> None:
    """Forget everything that is derived from tasks and edges."""
    plan.queue = PlanQueue()
    plan.task_ids.clear()
    plan.counts.clear()
    for task in tasks:
        task.ticket = task.unmet = task.open_children = task.done_children = task.skipped_children = 0
        task.dependents, task.is_overtaken = (), False


def _wake_for_new(s: State, plan: Plan) -> None:
    """A plan that had come to rest goes on if it has something to do again."""
    has_open = any(count and state not in CLOSED for state, count in plan.counts.items())
    if has_open or plan.state is PlanState.STALLED:
        wake(s, plan, reason="revised")
