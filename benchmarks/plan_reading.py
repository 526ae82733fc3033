"""How long a plan takes to be read, classified, ordered and stored, and how much memory that needs."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import Figure
from orchestrator.store.urls import DatabaseUrls
from orchestrator.views import SubmitRequest
from tests.support.own_server import own_server
from tests.support.service import RememberingScheduler, open_service

RUNS = 3
BARS_S = {10_000: 4.0, 100_000: 30.0}
BAR_MIB = 1024.0
_MAXRSS_PER_MIB = 1024 if sys.platform == "linux" else 1024**2


def plan_text(tasks: int) -> str:
    """A plan of so many tasks, sections included: half with fields, half with prose on their order."""
    lines = ["# Plan", "", "## Track A: Backend"]
    for number in range(10 * (tasks - 2) // 11):
        section, place = divmod(number, 10)
        if place == 0:
            lines += ["", f"### A.{section + 1} Section {section + 1}", ""]
        lines.append(f"- [ ] **A.{section + 1}.{place + 1}** Write module {number} (2 h) [P{number % 4}]")
        lines.append("  - agent: backend-development")
        lines.append("  - run: `true`")
        if place % 2:
            lines.append(f"  - depends: A.{section + 1}.{place}")
        elif place:
            lines.append(f"  Start once A.{section + 1}.{place} is merged, so that its tables are in place.")
            lines.append("  It reads what is left after the nightly run, and tells people what they need.")
    return "\n".join(lines) + "\n"


def stored(urls: DatabaseUrls, tasks: int, run: int) -> tuple[float, float]:
    """Hand in a plan as the front end does. Returns seconds, and the peak of this process in MiB."""
    request = SubmitRequest(text=plan_text(tasks), name=f"{tasks} tasks {run}")

    async def submit(home: Path) -> float:
        async with open_service(urls, home, scheduler=RememberingScheduler()) as service:
            started_s = time.perf_counter()
            await service.submit(request)
            return time.perf_counter() - started_s

    with TemporaryDirectory() as home:
        taken_s = asyncio.run(submit(Path(home)))
    return taken_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MAXRSS_PER_MIB


def measure() -> Iterator[Figure]:
    """Yield time and memory per size, every run in a process of its own."""
    with (
        own_server() as server,
        ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes,
    ):
        for tasks, at_most_s in BARS_S.items():
            runs = [processes.submit(stored, server.urls, tasks, run).result() for run in range(RUNS)]
            times_s, peaks_mib = zip(*runs, strict=True)
            yield Figure(name=f"read and store {tasks:,} tasks", values=times_s, unit="s", at_most=at_most_s)
            yield Figure(name=f"memory for {tasks:,} tasks", values=peaks_mib, unit="MiB", at_most=BAR_MIB)
