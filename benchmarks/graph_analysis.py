"""How long a whole analysis of a plan takes, to follow one completed task, and to forecast the plan."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from benchmarks import Figure
from orchestrator.plan.analysis import Analysis
from orchestrator.plan.forecast import ForecastInput, forecast
from orchestrator.plan.history import History
from orchestrator.plan.model import PlanDependency, PlanTask
from orchestrator.plan.order import Order

RUNS = 3
TASKS = 100_000
TASKS_FORECAST = 10_000
SAMPLES = 200
SEED = 20
#: A task waits for up to two of so many before it.
REACH = 300


def make_plan(tasks: int) -> tuple[list[PlanTask], list[PlanDependency]]:
    """Tasks with estimates of 1 to 99 minutes that depend on up to two of those shortly before them."""
    dice = random.Random(SEED)
    made = [
        PlanTask(
            key=f"T{n}", has_own_key=True, title=f"Task {n}", estimate_ms=dice.randrange(1, 100) * 60_000
        )
        for n in range(tasks)
    ]
    edges = [
        PlanDependency(task=f"T{n}", on=f"T{on}")
        for n in range(1, tasks)
        for on in {dice.randrange(max(0, n - REACH), n) for _ in range(2)}
    ]
    return made, edges


def whole_s(tasks: list[PlanTask], edges: list[PlanDependency]) -> float:
    """Analyse a plan once, and ask for everything."""
    started_s = time.perf_counter()
    analysis = Analysis(Order(tasks, edges))
    list(analysis.ready())
    list(analysis.waves())
    list(analysis.slack_ms())
    list(analysis.critical_path())
    list(analysis.held())
    list(analysis.blocked())
    list(analysis.bottlenecks())
    return time.perf_counter() - started_s


def following_us(analysis: Analysis) -> float:
    """Complete every task in order, and return what one takes with the new length of the critical path."""
    started_s = time.perf_counter()
    for task in analysis.order.tasks:
        analysis.complete(task.key)
        assert analysis.critical_path_ms >= 0
    return (time.perf_counter() - started_s) / len(analysis.order) * 1e6


def forecast_s(given: ForecastInput) -> float:
    """Forecast a plan for the width that is recommended."""
    started_s = time.perf_counter()
    forecast(given, samples=SAMPLES)
    return time.perf_counter() - started_s


def measure() -> Iterator[Figure]:
    """Yield the figures of one size each."""
    tasks, edges = make_plan(TASKS)
    whole = tuple(whole_s(tasks, edges) for _ in range(RUNS))
    yield Figure(name=f"analyse {TASKS:,} tasks", values=whole, unit="s", at_most=10.0)
    order = Order(tasks, edges)
    following = tuple(following_us(Analysis(order)) for _ in range(RUNS))
    name = f"ready set and critical path after one of {TASKS:,} tasks"
    yield Figure(name=name, values=following, unit="µs", at_most=100.0)
    given = ForecastInput(order=Order(*make_plan(TASKS_FORECAST)), agent_types={}, history=History())
    forecasts = tuple(forecast_s(given) for _ in range(RUNS))
    name = f"forecast {TASKS_FORECAST:,} tasks by {SAMPLES} draws, all widths"
    yield Figure(name=name, values=forecasts, unit="s", at_most=20.0)
