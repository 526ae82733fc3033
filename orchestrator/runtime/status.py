"""What a scheduler tells of its pools and limits, from its memory; the shapes are those of views.py."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core.limits import UNBOUNDED
from orchestrator.core.state import Breaker, State
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
    trial_in_ms = max(0, breaker.opened_at_ms + state.policy.breaker_open_ms - now_ms)
    return {
        "breaker": breaker.state.value,
        "breaker_failures": len(breaker.failed),
        "breaker_trial_in_s": trial_in_ms / 1000 if breaker.state is BreakerState.OPEN else None,
    }


def limit_rows(state: State) -> list[dict[str, object]]:
    """Return a LimitView as JSON for the total, and for each limit that is set or bounds what is live."""
    return list(_limit_rows(state))


def _limit_rows(state: State) -> Iterator[dict[str, object]]:
    bounds = state.bounds
    told, limits = bounds.overrides, bounds.limits
    yield _row("total", "", len(state.attempts), bounds.total, is_set=told.sessions_max is not None)
    live = {name: pool.live for name, pool in state.pools.items() if pool.live}
    for name in sorted({*live, *told.agents, *limits.agent_sessions_max}):
        yield _row("agent", name, live.get(name, 0), bounds.of_pool(name), is_set=name in told.agents)
    tenants = {name: tenant.live for name, tenant in state.tenants.items() if tenant.live}
    for name in sorted({*tenants, *told.tenants, *limits.tenant_sessions_max}):
        yield _row("tenant", name, tenants.get(name, 0), bounds.of_tenant(name), is_set=name in told.tenants)
    plans = {plan.plan_id: plan.live for plan in state.plans.values() if plan.live}
    for plan_id in sorted({*plans, *told.plans}):
        most = bounds.of_plan(plan_id)
        yield _row("plan", str(plan_id), plans.get(plan_id, 0), most, is_set=plan_id in told.plans)


def _row(scope: str, name: str, live: int, most: int, *, is_set: bool) -> dict[str, object]:
    sessions_max = None if most == UNBOUNDED else most
    return {"scope": scope, "name": name, "live": live, "sessions_max": sessions_max, "is_set": is_set}
