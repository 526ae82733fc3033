"""A stored plan as a whole: its graph, its forecast, and the plan in other notations.

All of it takes as long as the plan is large, so the service runs it in a thread.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.analysis_views import ForecastView, GraphView
from orchestrator.plan.analysis import Analysis
from orchestrator.plan.forecast import ForecastInput, forecast
from orchestrator.plan.graph_report import graph_report
from orchestrator.plan.history import History, PastAttempts
from orchestrator.plan.order import Order
from orchestrator.store.whole_plans import WholePlan


def graph_of(whole: WholePlan) -> GraphView:
    """Return what is left of the plan and how it hangs together, by the states of its tasks."""
    order = Order(whole.plan.tasks, whole.plan.dependencies)
    return graph_report(Analysis(order, whole.standings), whole.agent_types)


def forecast_of(
    whole: WholePlan, past: Iterable[PastAttempts], *, width: int, samples: int, seed: int
) -> ForecastView:
    """Forecast what is left of the plan by past attempts; see plan/forecast.py. Raises PlanError."""
    given = ForecastInput(
        order=Order(whole.plan.tasks, whole.plan.dependencies),
        standings=whole.standings,
        agent_types=whole.agent_types,
        history=History(past),
    )
    return forecast(given, width=width, samples=samples, seed=seed)
