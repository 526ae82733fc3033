"""Milliseconds from a free slot or a ready task, once the scheduler hears of it, to an executor having it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import ray

from benchmarks import Figure
from benchmarks.actors import Shape
from benchmarks.stack import MeasuredStack, measured_stack, ray_cluster, wait_for
from benchmarks.timed import TimedExecutor, TimedScheduler

#: Concurrent sessions → mean length of a session and tasks of the run.
CASES = {5: (0.1, 2_000), 100: (1.0, 4_000), 500: (1.0, 10_000)}
#: Concurrent sessions → bars of the 50th and the 99th percentile.
BARS_MS = {5: (3.0, 10.0), 100: (None, 50.0), 500: (None, 50.0)}
LARGE = 100_000
LARGE_AT_MOST_MS = 50.0


def latencies_ms(stack: MeasuredStack, *, since_s: float = 0.0) -> list[float]:
    """Return the latency of every start whose cause was heard of after `since_s`, ascending."""
    received: dict[int, float] = {}
    for handle in stack.executors:
        received |= ray.get(handle.received.remote())
    causes = ray.get(stack.scheduler.causes.remote())
    return sorted(
        (received[token] - heard_s) * 1000
        for token, heard_s in causes.items()
        if heard_s >= since_s and token in received
    )


def percentiles(name: str, values_ms: list[float], bars_ms: tuple[float | None, float]) -> Iterator[Figure]:
    """Yield the 50th, 95th and 99th percentile of a run."""
    cuts = statistics.quantiles(values_ms, n=100)
    for percent, bar_ms in ((50, bars_ms[0]), (95, None), (99, bars_ms[1])):
        what = f"{name}: p{percent} of {len(values_ms):,}"
        yield Figure(name=what, values=(cuts[percent - 1],), unit="ms", at_most=bar_ms)


def while_taken_in_ms(stack: MeasuredStack) -> list[float]:
    """Return the latencies while a large plan is taken in beside the sessions of another."""
    large = stack.store_plan(Shape(tasks=LARGE), state="inert")
    busy = stack.store_plan(Shape(tasks=LARGE // 50))
    ray.get(stack.scheduler.nudge.remote())
    wait_for(lambda: stack.done_of(busy) > LARGE // 200)
    since_s = stack.submit(large)
    wait_for(lambda: stack.state_of(large) == "active")
    return latencies_ms(stack, since_s=since_s)


def measure() -> Iterator[Figure]:
    """Yield the percentiles for 5, 100 and 500 sessions, and while 100,000 tasks are taken in."""
    with ray_cluster():
        for sessions, (session_s, tasks) in CASES.items():
            with measured_stack(
                sessions,
                executor_kind=TimedExecutor,
                executor_arguments=(session_s,),
                scheduler_kind=TimedScheduler,
            ) as stack:
                stack.run_plan(Shape(tasks=tasks))
                yield from percentiles(f"{sessions} sessions", latencies_ms(stack), BARS_MS[sessions])
                if sessions == 100:
                    name = f"{sessions} sessions while {LARGE:,} tasks are taken in"
                    yield from percentiles(name, while_taken_in_ms(stack), (None, LARGE_AT_MOST_MS))
