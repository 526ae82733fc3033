"""How soon a killed scheduler dispatches again, counted from its new process, and what memory it needs."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import ray

from benchmarks import Figure
from benchmarks.actors import Shape
from benchmarks.stack import MeasuredStack, measured_stack, ray_cluster, wait_for
from benchmarks.timed import TimedExecutor, TimedScheduler

RUNS = 3
SESSIONS = 100
SESSION_S = 1.0
BARS_S = {10_000: 2.0, 100_000: 5.0}
RSS_AT_MOST_MB = 300.0
TASK_AT_MOST_KB = 1.2


def pid_of(stack: MeasuredStack) -> int:
    """Return the pid of the scheduler; 0 while there is none."""
    try:
        answer = ray.get(stack.scheduler.ping.remote())
    except ray.exceptions.RayError:
        return 0
    return int(answer["pid"]) if answer["state"] == "ready" else 0


def rss_mb(pid: int) -> float:
    """Return the memory of a process that is its own, in MB."""
    fields = Path("/proc", str(pid), "statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") / 2**20


def recovery_s(stack: MeasuredStack) -> float:
    """Kill the scheduler; return the seconds from its next process to the first start that one sends."""
    before = pid_of(stack)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: pid_of(stack) not in (0, before))
    born_s = float(ray.get(stack.scheduler.born_s.remote()))

    def first_s() -> float | None:
        received = [ray.get(handle.received.remote()) for handle in stack.executors]
        return min(
            (at_s for by_token in received for at_s in by_token.values() if at_s > born_s), default=None
        )

    wait_for(lambda: first_s() is not None)
    found_s = first_s()
    assert found_s is not None
    return found_s - born_s


def measure() -> Iterator[Figure]:
    """Yield the seconds of recovery and the memory for both sizes."""
    with ray_cluster():
        for tasks, bar_s in BARS_S.items():
            yield from _measure(tasks, bar_s)


def _measure(tasks: int, bar_s: float) -> Iterator[Figure]:
    with measured_stack(
        SESSIONS,
        executor_kind=TimedExecutor,
        executor_arguments=(SESSION_S,),
        scheduler_kind=TimedScheduler,
    ) as stack:
        empty_mb = rss_mb(pid_of(stack))
        plan_id = stack.store_plan(Shape(tasks=tasks))
        ray.get(stack.scheduler.nudge.remote())
        wait_for(lambda: stack.done_of(plan_id) > SESSIONS)
        values_s = tuple(recovery_s(stack) for _ in range(RUNS))
        full_mb = rss_mb(pid_of(stack))
    size = f"{tasks:,} unfinished tasks"
    yield Figure(name=f"{size}: process to first start", values=values_s, unit="s", at_most=bar_s)
    yield Figure(name=f"scheduler with {size}", values=(full_mb,), unit="MB", at_most=RSS_AT_MOST_MB)
    task_kb = (full_mb - empty_mb) * 1024 / tasks
    yield Figure(
        name=f"each of {size}, as memory grew", values=(task_kb,), unit="KB", at_most=TASK_AT_MOST_KB
    )
