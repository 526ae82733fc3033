"""What a scheduler tells of itself fits the views, and what may be asked of it can be asked everywhere."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.cli.summary import remedy_of
from orchestrator.client.calls import ROUTES
from orchestrator.core import events as e
from orchestrator.core.limits import Limits, Overrides
from orchestrator.core.machine import SchedulerState
from orchestrator.core.requests import REQUEST_KINDS
from orchestrator.core.state import Policy
from orchestrator.core.words import BreakerState, HoldReason
from orchestrator.runtime.status import budget_rows, limit_rows, pool_rows, seen_by_tenant
from orchestrator.status_views import BudgetView, LimitView, PoolView
from tests.support.core import PLAN


def _state() -> SchedulerState:
    state = SchedulerState(policy=Policy())
    limits = Limits(sessions_max=9, agent_sessions_max={"tester": 1})
    state.handle(e.LimitsSet(limits=limits), at_ms=0)
    overrides = Overrides(
        sessions_max=5, agents={"coder": 2}, tenants={"x": 4, "y": 1}, plans={6: 1, 7: 3, 8: 2}
    )
    opened = e.BreakerRow(agent_type="coder", state=BreakerState.OPEN, failures=5, opened_at_ms=0)
    state.handle(e.ControlsRead(is_paused=True, overrides=overrides, breakers=(opened,)), at_ms=0)
    for agent_type in ("coder", "tester"):
        state.handle(e.ExecutorJoined(executor=f"{agent_type}-1", agent_type=agent_type, slots=4), at_ms=0)
    for plan_id, tenant_id in ((7, "x"), (8, "y")):
        plan = replace(PLAN, plan_id=plan_id, tenant_id=tenant_id)
        state.handle(e.PlanSliceLoaded(plan=plan, tasks=(), edges=()), at_ms=0)
    return state


def test_limits_are_told_with_where_they_come_from_and_none_of_others_or_of_plans_that_are_over() -> None:
    told = [LimitView.model_validate(row) for row in seen_by_tenant(limit_rows(_state()), "x")]
    assert [(row.scope, row.name, row.live, row.sessions_max, row.is_set) for row in told] == [
        ("total", "", 0, 5, True),
        ("agent", "coder", 0, 2, True),
        ("agent", "tester", 0, 1, False),
        ("tenant", "x", 0, 4, True),
        ("plan", "7", 0, 3, True),
    ]


def test_shared_budgets_are_told_and_none_of_others() -> None:
    state = _state()
    state.bounds.overrides = Overrides(tenant_budgets={"x": 10_000_000, "y": 1}, day_budget=3_000_000)
    state.tenant("x").purse.spent = 1_000_000
    state.today.reserved = 1_000_000
    told = [BudgetView.model_validate(row) for row in seen_by_tenant(budget_rows(state), "x")]
    assert [(row.scope, row.name, row.spent_micros, row.reserved_micros, row.is_short) for row in told] == [
        ("day", "", 0, 1_000_000, True),
        ("tenant", "x", 1_000_000, 0, False),
    ]


def test_pools_are_told_with_their_breakers() -> None:
    told = [PoolView.model_validate(row) for row in pool_rows(_state(), {"tester": 2}, now_ms=25_000)]
    assert [(row.agent_type, row.slots, row.queued, row.breaker) for row in told] == [
        ("coder", 4, 0, "open"),
        ("tester", 4, 2, "closed"),
    ]
    assert [row.breaker_probe_in_s for row in told] == [35.0, None]


def test_every_request_of_the_core_has_a_route() -> None:
    assert ROUTES.keys() == REQUEST_KINDS


def test_every_reason_to_hold_a_task_has_a_remedy() -> None:
    assert [reason for reason in HoldReason if not remedy_of(reason.value, key="A.1", plan="p")] == []
