"""The core alone: processor time in which nothing else is decided while a large plan gets a new text."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from benchmarks import Figure
from benchmarks.actors import Shape, new_task
from benchmarks.picks import TASKS, leases, new_state, take_in
from orchestrator.core import events as e

PLAN = 1
RUNNING = 16
RUNS = 5
PAUSE_AT_MOST_S = 0.5

_SHAPE = Shape(tasks=TASKS)


def pause_s() -> Iterator[float]:
    """Yield what the core takes for a revision that changes one priority."""
    state = new_state()
    take_in(state, PLAN, _SHAPE, tenant_id="local", priority=0)
    assert leases(state, "x", RUNNING)
    for number in range(RUNS):
        event = _revision(number)
        started_s = time.process_time()
        state.handle(event, at_ms=0)
        yield time.process_time() - started_s
        assert len(state.plans[PLAN].task_ids) == TASKS


def _revision(number: int) -> e.PlanRevised:
    first = PLAN * 10 * TASKS  # as take_in numbers them
    tasks = [new_task(first + n, _SHAPE, n) for n in range(TASKS)]
    tasks[number] = replace(tasks[number], priority=1)
    edges = tuple((first + n, first + n - 1) for n in range(TASKS) if not _SHAPE.is_first(n))
    return e.PlanRevised(request_id=0, revision_id=number, plan_id=PLAN, tasks=tuple(tasks), edges=edges)


def measure() -> Iterator[Figure]:
    """Yield the one figure."""
    name = f"a revision of a plan of {TASKS:,} tasks: nothing else is decided for"
    yield Figure(name=name, values=tuple(pause_s()), unit="s", at_most=PAUSE_AT_MOST_S)
