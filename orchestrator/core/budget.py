"""What an attempt may spend: reserved before it starts, settled when it has ended.

Five budgets bear an attempt, and the tightest one holds: its own cap, that of its task, its plan, its tenant,
and that of everybody's day. What is reserved is the cap, or what is left where that is less and nobody else
can give anything back. A session stops at its reservation, so that no budget is exceeded by more than the
last answer of each session. An attempt of which nobody knows what it spent counts as all that it reserved.
Where a budget is lowered below what is spent and reserved, attempts are ended, and their tasks start again
with what is left.

A plan that cannot afford its next attempt waits while its own attempts may give something back; then its
tasks are held. What its tenant or the day cannot afford stays ready until that budget, or the day, changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from orchestrator.core.events import ProposalsPaid
from orchestrator.core.limits import UNBOUNDED
from orchestrator.core.state import Attempt, Plan, Purse, State
from orchestrator.core.task import MODEL_BACKENDS, Task
from orchestrator.core.words import AttemptKind, AttemptState, HoldReason

#: A remainder below this, five cents, starts nothing.
LEAST_MICROS = 50_000

_DAY_MS = 86_400_000


def is_paid(task: Task) -> bool:
    """Tell whether the next attempt of a task costs money; a gate is a command."""
    return task.wants is not AttemptKind.GATE and task.next_backend in MODEL_BACKENDS


def is_affordable(s: State, plan: Plan, task: Task) -> bool:
    """Tell whether every budget bears one more attempt of the task now."""
    return not is_paid(task) or (not is_blown(s, plan) and share(s, plan, task) is not None)


def share(s: State, plan: Plan, task: Task) -> int | None:
    """Return what may be reserved for the next attempt of a task, in micros; None if a budget bears none."""
    found = _cap(s)
    for purse, most in (*_own(s, task), *_of_plan(plan), *shared(s, plan.tenant_id)):
        borne = bears(s, purse, most)
        if borne is None:
            return None
        found = min(found, borne)
    return found


def _cap(s: State) -> int:
    return s.policy.attempt_cost_micros or UNBOUNDED


def bears(s: State, purse: Purse, most: int) -> int | None:
    """Return how much of the cap of an attempt a budget bears; the last of it only when nothing is out."""
    cap, left = _cap(s), most - purse.spent - purse.reserved
    if left >= cap:
        return cap
    return left if not purse.reserved and left >= min(cap, LEAST_MICROS) else None


def of_task(s: State, task: Task) -> int:
    """Return what all attempts of a task may spend; 0 = no bound."""
    return task.budget_micros or task.rules.budget_micros or s.policy.task_budget_micros


def _own(s: State, task: Task) -> Iterator[tuple[Purse, int]]:
    if most := of_task(s, task):
        attempt = s.attempts.get(task.token)
        yield Purse(spent=task.spent_micros, reserved=attempt.reserved_micros if attempt else 0), most


def _of_plan(plan: Plan) -> Iterator[tuple[Purse, int]]:
    if plan.budget_micros:
        yield plan.purse, plan.budget_micros


def shared(s: State, tenant_id: str) -> Iterator[tuple[Purse, int]]:
    """Yield the budgets that the plans of a tenant share, and the most of each."""
    if most := s.bounds.tenant_budget(tenant_id):
        yield s.tenant(tenant_id).purse, most
    if most := s.bounds.day_budget:
        yield s.today, most


def is_short_of_shared(s: State, plan: Plan) -> bool:
    """Tell whether the tenant of a plan, or the day, cannot bear an attempt now."""
    return _is_short(s, shared(s, plan.tenant_id))


def is_short_of_own(s: State, task: Task) -> bool:
    """Tell whether the budget of a task cannot bear another attempt of it."""
    return _is_short(s, _own(s, task))


def _is_short(s: State, budgets: Iterable[tuple[Purse, int]]) -> bool:
    return any(bears(s, purse, most) is None for purse, most in budgets)


def is_lower(new: int, old: int) -> bool:
    """Tell whether a budget bears less than the one before; 0 = no bound."""
    return new > 0 and not 0 < old <= new


def beyond(s: State) -> list[Attempt]:
    """Return the live attempts that the budgets of now do not bear: the newest of them, as few as suffice.

    One without a reservation could spend without end: no budget bears it.
    """
    found: list[Attempt] = []
    coming_back: Counter[int] = Counter()  #: by id of a purse: what those reserved of it that end
    for attempt in sorted(s.attempts.values(), key=lambda each: (not each.cancel_reason, -each.token)):
        plan, task = s.plans[attempt.plan_id], s.tasks[attempt.task_id]
        if not attempt.cancel_reason:
            budgets = (*_own(s, task), *_of_plan(plan), *shared(s, plan.tenant_id))
            if attempt.backend not in MODEL_BACKENDS or not any(
                not attempt.reserved_micros or purse.spent + purse.reserved - coming_back[id(purse)] > most
                for purse, most in budgets
            ):
                continue
            found.append(attempt)
        for purse in _purses(s, plan):
            coming_back[id(purse)] += attempt.reserved_micros
    return found


def may_settle(s: State, plan: Plan, task: Task) -> bool:
    """Tell whether an attempt that is not affordable may be so later by itself: its task need not be held."""
    if is_short_of_own(s, task):
        return False
    return plan.purse.reserved > 0 or is_short_of_shared(s, plan)


def is_blown(s: State, plan: Plan) -> bool:
    """Tell whether a plan has spent what it may without progress (core/fuse.py)."""
    return 0 < s.policy.fuse_micros <= plan.fruitless_micros


def reason_to_hold(s: State, plan: Plan, task: Task) -> HoldReason:
    """Return why a task is held that cannot afford an attempt, or whose last one spent all that it may."""
    if is_blown(s, plan):
        return HoldReason.NO_PROGRESS
    if is_short_of_own(s, task):
        return HoldReason.TASK_BUDGET
    return HoldReason.BUDGET if _is_short(s, _of_plan(plan)) else HoldReason.ATTEMPT_BUDGET


def reserve(s: State, plan: Plan, attempt: Attempt) -> None:
    """Set aside what a live attempt may spend."""
    for purse in _purses(s, plan):
        purse.reserved += attempt.reserved_micros


def settle(s: State, plan: Plan, attempt: Attempt, cost_micros: int | None) -> int:
    """Give back what an attempt that has ended did not spend; None: nobody knows what it spent.

    Returns:
        What of its reservation counts as spent for want of a better figure.
    """
    kept = attempt.reserved_micros if cost_micros is None and attempt.state is AttemptState.STARTED else 0
    spent = kept if cost_micros is None else cost_micros
    for purse in _purses(s, plan):
        purse.reserved -= attempt.reserved_micros
        purse.spent += spent
    s.tasks[attempt.task_id].spent_micros += spent
    return kept


def on_proposals_paid(s: State, event: ProposalsPaid) -> None:
    """Count what the proposals of a plan have cost; until the plan is in memory it is only remembered."""
    plan = s.plans.get(event.plan_id)
    if plan is None:
        s.early_proposals[event.plan_id] = event.cost_micros
    else:
        count_proposals(s, plan, event.cost_micros)


def count_proposals(s: State, plan: Plan, cost_micros: int) -> None:
    """Count what all proposals of a plan have cost, as far as it is not counted."""
    more = max(0, cost_micros - plan.proposed_micros)
    plan.proposed_micros += more
    for purse in _purses(s, plan):
        purse.spent += more


def _purses(s: State, plan: Plan) -> tuple[Purse, ...]:
    return plan.purse, s.tenant(plan.tenant_id).purse, s.today


def turn_day(s: State, *, at_ms: int) -> bool:
    """Begin the spend of the day anew if it is another day, in UTC; tell whether it is."""
    day = at_ms // _DAY_MS
    is_another = day > s.day
    if is_another:
        s.day, s.today.spent = day, 0
    return is_another
