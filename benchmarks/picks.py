"""The core alone: what a pick costs, what a waiting task weighs, and whether a small plan gets its share."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from benchmarks import Figure
from benchmarks.actors import Shape, new_task
from orchestrator.core import events as e
from orchestrator.core.assign import _next
from orchestrator.core.commands import LeaseAttempt
from orchestrator.core.limits import Limits
from orchestrator.core.machine import SchedulerState
from orchestrator.core.state import Policy
from orchestrator.core.words import PlanState

TASKS = 100_000
SLICE = 1_000
PICKS = 1_000
RUNS = 5
PICK_AT_MOST_US = 20.0
TASK_AT_MOST_KB = 1.2
SMALL, SHARE_AT_LEAST = 10, 10.0

_AGENT_TYPE = Shape(tasks=0).agent_type


def new_state() -> SchedulerState:
    """Return a scheduler that may lease as many attempts as there are slots."""
    state = SchedulerState(policy=Policy())
    state.handle(e.TokensReserved(first=1, count=2 * TASKS), at_ms=0)
    limits = Limits(sessions_max=TASKS, agent_default_max=TASKS)
    state.handle(e.LimitsSet(limits=limits), at_ms=0)
    return state


def take_in(state: SchedulerState, plan_id: int, shape: Shape, *, tenant_id: str, priority: int) -> None:
    """Give the scheduler a plan, slice by slice."""
    plan = e.PlanSpec(
        plan_id=plan_id,
        tenant_id=tenant_id,
        state=PlanState.SUBMITTED,
        budget_micros=0,
        spent_micros=0,
        until_task=0,
    )
    first = plan_id * 10 * TASKS
    for start in range(0, shape.tasks, SLICE):
        numbers = range(start, min(start + SLICE, shape.tasks))
        tasks = tuple(replace(new_task(first + n, shape, n), priority=priority) for n in numbers)
        edges = tuple((first + n, first + n - 1) for n in numbers if not shape.is_first(n))
        state.handle(e.PlanSliceLoaded(plan=plan, tasks=tasks, edges=edges), at_ms=0)
    state.handle(e.PlanLoaded(plan_id=plan_id), at_ms=0)


def leases(state: SchedulerState, executor: str, slots: int) -> list[LeaseAttempt]:
    """Let an executor join, and return what is leased to it."""
    joined = e.ExecutorJoined(executor=executor, agent_type=_AGENT_TYPE, slots=slots)
    return [command for command in state.handle(joined, at_ms=0) if isinstance(command, LeaseAttempt)]


def full_state() -> SchedulerState:
    """Return a scheduler with every task ready."""
    state = new_state()
    take_in(state, 1, Shape(tasks=TASKS, chain=1), tenant_id="local", priority=0)
    return state


def pick_us() -> Iterator[float]:
    """Yield what it takes to find whose turn it is and to take the task out of its queue."""
    state = full_state()
    for number in range(RUNS):
        state.is_paused = True
        leases(state, f"x{number}", PICKS)
        started_s = time.perf_counter()
        for _ in range(PICKS):
            found = _next(state)
            assert found is not None
            plan, entry, _ = found
            plan.queue.discard(entry[3])
            plan.ran += 1
        yield (time.perf_counter() - started_s) / PICKS * 1e6


def lease_us() -> Iterator[float]:
    """Yield what a pick takes with all that follows in the core: the lease, the task's move, their events."""
    state = full_state()
    for number in range(RUNS):
        started_s = time.perf_counter()
        found = leases(state, f"x{number}", PICKS)
        taken_s = time.perf_counter() - started_s
        assert len(found) == PICKS
        yield taken_s / PICKS * 1e6


def task_kb() -> float:
    """Return what a waiting task weighs in the core."""
    state = new_state()
    tracemalloc.start()
    take_in(state, 1, Shape(tasks=TASKS), tenant_id="local", priority=0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / TASKS / 1024


def small_picks() -> float:
    """Return how many of the first 100 picks a small plan P3 of another tenant gets; it has 10."""
    state = new_state()
    take_in(state, 1, Shape(tasks=TASKS, chain=1), tenant_id="large", priority=0)
    leases(state, "x0", PICKS)
    take_in(state, 2, Shape(tasks=SMALL, chain=1), tenant_id="small", priority=3)
    slots = count(1)
    picked = [lease for _ in range(100) for lease in leases(state, f"x{next(slots)}", 1)]
    return float(sum(lease.tenant_id == "small" for lease in picked))


def measure() -> Iterator[Figure]:
    """Yield the four figures."""
    at = f"at {TASKS:,} ready tasks"
    yield Figure(name=f"one pick {at}", values=tuple(pick_us()), unit="us", at_most=PICK_AT_MOST_US)
    yield Figure(name=f"one pick with its lease and events {at}", values=tuple(lease_us()), unit="us")
    yield Figure(name="a waiting task in the core", values=(task_kb(),), unit="KB", at_most=TASK_AT_MOST_KB)
    name = f"picks of 100 for {SMALL} tasks P3 beside {TASKS:,} P0 of another tenant"
    yield Figure(name=name, values=(small_picks(),), unit="picks", at_least=SHARE_AT_LEAST)
