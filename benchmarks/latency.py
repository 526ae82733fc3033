"""Milliseconds from a free slot or a ready task, once the scheduler hears of it, to an executor having it.

Beside them stand those from the end of the session itself, whose result is stored before anybody hears of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """How long each start with a known cause took, in ms, ascending: from its hearing, and from the end."""

    heard_ms: list[float]
    ended_ms: list[float]


def latencies(stack: MeasuredStack, *, since_s: float = 0.0) -> Latencies:
    """Return the latency of every start whose cause was heard of after `since_s`."""
    received: dict[int, float] = {}
    ends_s: dict[int, float] = {}
    for handle in stack.executors:
        received |= ray.get(handle.received.remote())
        ends_s |= ray.get(handle.ends_s.remote())
    causes = ray.get(stack.scheduler.causes.remote())
    known = [
        (received[token], ends_s[ended], heard_s)
        for token, (ended, heard_s) in causes.items()
        if heard_s >= since_s and token in received
    ]
    return Latencies(
        heard_ms=sorted((received_s - heard_s) * 1000 for received_s, _, heard_s in known),
        ended_ms=sorted((received_s - ended_s) * 1000 for received_s, ended_s, _ in known),
    )


def percentiles(name: str, found: Latencies, bars_ms: tuple[float | None, float]) -> Iterator[Figure]:
    """Yield the 50th, 95th and 99th percentile of a run; the bars are for those from hearing."""
    for start, values_ms in (("heard of", found.heard_ms), ("end of session", found.ended_ms)):
        cuts = statistics.quantiles(values_ms, n=100)
        for percent, bar_ms in ((50, bars_ms[0]), (95, None), (99, bars_ms[1])):
            what = f"{name}, from {start}: p{percent} of {len(values_ms):,}"
            is_barred = values_ms is found.heard_ms
            yield Figure(
                name=what, values=(cuts[percent - 1],), unit="ms", at_most=bar_ms if is_barred else None
            )


def while_taken_in(stack: MeasuredStack) -> Latencies:
    """Return the latencies while a large plan is taken in beside the sessions of another."""
    large = stack.store_plan(Shape(tasks=LARGE), state="inert")
    busy = stack.store_plan(Shape(tasks=LARGE // 50))
    ray.get(stack.scheduler.nudge.remote())
    wait_for(lambda: stack.done_of(busy) > LARGE // 200)
    since_s = stack.submit(large)
    wait_for(lambda: stack.state_of(large) == "active")
    return latencies(stack, since_s=since_s)


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
                yield from percentiles(f"{sessions} sessions", latencies(stack), BARS_MS[sessions])
                if sessions == 100:
                    name = f"{sessions} sessions while {LARGE:,} tasks are taken in"
                    yield from percentiles(name, while_taken_in(stack), (None, LARGE_AT_MOST_MS))
