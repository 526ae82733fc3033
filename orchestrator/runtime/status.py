"""What a scheduler tells of its pools and limits, from its memory; the shapes are those of views.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.core import budget
from orchestrator.core.limits import UNBOUNDED
from orchestrator.core.state import Breaker, Purse, State
from orchestrator.core.words import BreakerState

_CLOSED = Breaker()


def pool_rows(state: State, demand: dict[str, int], *, now_ms: int) -> list[dict[str, object]]:
    """Return a PoolView as JSON for each pool that has executors or work, or is shut by its breaker.

    Args:
        demand: how many sessions each pool could run now, those that run included.
        now_ms: the time, on the clock of the events.
    """
    return [
        {
            "agent_type": name,
            "executors": len(pool.executors),
            "slots": sum(executor.slots for executor in pool.executors.values()),
            "running": pool.live,
            "queued": max(0, demand.get(name, 0) - pool.live),
            **_breaker_fields(state, name, now_ms=now_ms),
        }
        for name, pool in sorted(state.pools.items())
        if pool.executors or name in demand or _is_shut(state, name)
    ]


def _is_shut(state: State, pool: str) -> bool:
    return state.breakers.get(pool, _CLOSED).state is not BreakerState.CLOSED


def _breaker_fields(state: State, pool: str, *, now_ms: int) -> dict[str, object]:
    breaker = state.breakers.get(pool, _CLOSED)
    probe_in_ms = max(0, breaker.opened_at_ms + state.policy.breaker_open_ms - now_ms)
    return {
        "breaker": breaker.state.value,
        "breaker_failures": len(breaker.failed),
        "breaker_probe_in_s": probe_in_ms / 1000 if breaker.state is BreakerState.OPEN else None,
    }


def limit_rows(state: State) -> list[dict[str, object]]:
    """Return a LimitView as JSON for the total, and for each limit that is set or bounds what is live.

    `tenant_id` tells whose it is, empty = everybody's. Plans that are over are left out.
    """
    return list(_limit_rows(state))


def budget_rows(state: State) -> list[dict[str, object]]:
    """Return a BudgetView as JSON for the day and for each tenant, if they have a budget."""
    rows = []
    if most := state.bounds.day_budget:
        rows.append(_budget_row(state, "day", "", state.today, most))
    for tenant_id, tenant in sorted(state.tenants.items()):
        if most := state.bounds.tenant_budget(tenant_id):
            rows.append(_budget_row(state, "tenant", tenant_id, tenant.purse, most))
    return rows


def _budget_row(state: State, scope: str, tenant_id: str, purse: Purse, most: int) -> dict[str, object]:
    return {
        "scope": scope,
        "name": tenant_id,
        "spent_micros": purse.spent,
        "reserved_micros": purse.reserved,
        "budget_micros": most,
        "is_short": budget.bears(state, purse, most) is None,
        "tenant_id": tenant_id,
    }


def seen_by_tenant(rows: Iterable[Mapping[str, Any]], tenant_id: str) -> list[dict[str, Any]]:
    """Return the limits or budgets that a tenant may see: not those of others."""
    seen = (row for row in rows if row["tenant_id"] in {"", tenant_id})
    return [{name: value for name, value in row.items() if name != "tenant_id"} for row in seen]


def _limit_rows(state: State) -> Iterator[dict[str, object]]:
    bounds = state.bounds
    told, limits = bounds.overrides, bounds.limits
    yield _row("total", "", len(state.attempts), bounds.total, is_set=told.sessions_max is not None)
    live = {name: pool.live for name, pool in state.pools.items() if pool.live}
    for name in sorted({*live, *told.agents, *limits.agent_sessions_max}):
        yield _row("agent", name, live.get(name, 0), bounds.of_pool(name), is_set=name in told.agents)
    tenants = {name: tenant.live for name, tenant in state.tenants.items() if tenant.live}
    for name in sorted({*tenants, *told.tenants, *limits.tenant_sessions_max}):
        live_now, most = tenants.get(name, 0), bounds.of_tenant(name)
        yield _row("tenant", name, live_now, most, is_set=name in told.tenants, tenant_id=name)
    for plan_id, plan in sorted(state.plans.items()):
        is_set, most = plan_id in told.plans, bounds.of_plan(plan_id)
        if plan.live or is_set:
            yield _row("plan", str(plan_id), plan.live, most, is_set=is_set, tenant_id=plan.tenant_id)


def _row(
    scope: str, name: str, live: int, most: int, *, is_set: bool, tenant_id: str = ""
) -> dict[str, object]:
    return {
        "scope": scope,
        "name": name,
        "live": live,
        "sessions_max": None if most == UNBOUNDED else most,
        "is_set": is_set,
        "tenant_id": tenant_id,
    }
