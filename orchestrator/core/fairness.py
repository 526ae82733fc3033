"""Whose turn it is: stride scheduling over tenants, then over their plans, for each pool.

Whoever has had the fewest starts is next (Waldspurger and Weihl 1995, with equal tickets and integer passes).
Who had nothing to start for a while comes back level with the others: what they ran meanwhile is no debt.
Each pool keeps a heap of tenants and, for each tenant, a heap of plans. What has run only grows, so the key
of an entry may be too low and never too high: the top is brought up to date until it is true. A plan or a
tenant that cannot start is taken out, and offered again when it can. So a pick costs O(log n).
"""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace

from orchestrator.core import budget
from orchestrator.core.ready import Entry
from orchestrator.core.state import Plan, Pool, State
from orchestrator.core.words import PlanState


def offer(s: State, plan: Plan, pool_name: str) -> None:
    """Let a plan have its turns at a pool; harmless if it has them."""
    if pool_name in plan.offered:
        return
    plan.offered.add(pool_name)
    pool, tenant_id = s.pool(pool_name), plan.tenant_id
    heappush(pool.plans.setdefault(tenant_id, []), (plan.ran, plan.plan_id))
    _present(s, pool, tenant_id)


def offer_all(s: State, plan: Plan) -> None:
    """Let a plan have its turns wherever it has something to start."""
    plan.is_parked = False
    for pool_name in plan.queue.sizes:
        offer(s, plan, pool_name)


def offer_tenant(s: State, tenant_id: str) -> None:
    """Let the plans of a tenant have their turns again."""
    s.tenant(tenant_id).is_parked = False
    for pool in s.pools.values():
        if pool.plans.get(tenant_id):
            _present(s, pool, tenant_id)


def offer_everybody(s: State) -> None:
    """Limits have changed, or a shared budget: whoever was left out may have a turn again."""
    s.is_short = False
    for plan in s.plans.values():
        if plan.is_parked:
            offer_all(s, plan)
    for tenant_id, tenant in s.tenants.items():
        if tenant.is_parked:
            offer_tenant(s, tenant_id)


def _present(s: State, pool: Pool, tenant_id: str) -> None:
    if tenant_id not in pool.present:
        pool.present.add(tenant_id)
        heappush(pool.tenants, (s.tenant(tenant_id).ran, tenant_id))


def join(s: State, plan: Plan) -> None:
    """Who comes, or comes back, starts level with the others at work: the past is no claim."""
    plan.is_idle = False
    others = [p for p in s.plans.values() if p is not plan]
    at_work = [p for p in others if p.is_loaded and p.state is PlanState.ACTIVE and not p.is_idle]
    same_tenant = [p for p in at_work if p.tenant_id == plan.tenant_id]
    beside = [p.ran for p in others if p.tenant_id == plan.tenant_id]
    plan.ran = max(plan.ran, _level([p.ran for p in same_tenant], beside))
    if not same_tenant:
        tenant = s.tenant(plan.tenant_id)
        turns = [s.tenant(p.tenant_id).ran for p in at_work]
        tenant.ran = max(tenant.ran, _level(turns, [t.ran for t in s.tenants.values()]))


def _level(at_work: list[int], everybody: list[int]) -> int:
    """Return how much those have run among whom one comes; where all were idle, all are equal."""
    return min(at_work) if at_work else max(everybody, default=0)


def next_of_pool(s: State, pool_name: str, pool: Pool) -> tuple[Plan, Entry] | None:
    """Return whose turn it is at a pool, and with which task; None if nobody has anything to start there."""
    while pool.tenants:
        ran, tenant_id = pool.tenants[0]
        tenant = s.tenant(tenant_id)
        if ran != tenant.ran:
            heapreplace(pool.tenants, (tenant.ran, tenant_id))
            continue
        if tenant.live >= s.bounds.of_tenant(tenant_id):
            tenant.is_parked = True
        elif (found := _next_of_tenant(s, pool_name, pool.plans[tenant_id])) is not None:
            return found
        heappop(pool.tenants)
        pool.present.discard(tenant_id)
    return None


def _next_of_tenant(s: State, pool_name: str, plans: list[tuple[int, int]]) -> tuple[Plan, Entry] | None:
    while plans:
        ran, plan_id = plans[0]
        plan = s.plans.get(plan_id)
        if plan is not None and ran != plan.ran:
            heapreplace(plans, (plan.ran, plan_id))
            continue
        if plan is not None:
            entry = _startable(s, plan, pool_name)
            if entry is not None:
                return plan, entry
            plan.offered.discard(pool_name)
        heappop(plans)
    return None


def _startable(s: State, plan: Plan, pool_name: str) -> Entry | None:
    """Return the plan's next task at the pool; None if it may start none now."""
    if plan.state is not PlanState.ACTIVE or not plan.is_loaded:
        return None
    entry = plan.queue.top(pool_name)
    if entry is None:
        return None
    is_full = plan.live >= s.bounds.of_plan(plan.plan_id)
    if is_full or (not budget.is_affordable(s, plan, entry[3]) and budget.may_settle(s, plan, entry[3])):
        plan.is_parked = True  # until one of its attempts has ended, or one that shares its budget
        s.is_short |= budget.is_short_of_shared(s, plan)
        return None
    return entry
