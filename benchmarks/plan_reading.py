"""How long a plan takes to be read, checked and ordered, before anything is stored."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks import Figure
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.read import read_plan

RUNS = 3
BARS_S = {1_000: 1.0, 10_000: 3.0}


def plan_text(tasks: int) -> str:
    """A CODITECT plan: sections of ten tasks, each waiting for the one before it in its section."""
    lines = ["# Plan", "", "## Track A: Backend"]
    for number in range(tasks):
        section, place = divmod(number, 10)
        if place == 0:
            lines += ["", f"### A.{section + 1} Section {section + 1}", ""]
        lines.append(f"- [ ] **A.{section + 1}.{place + 1}** Write module {number} (2 h) [P{number % 4}]")
        lines.append("  - agent: backend-development")
        if place:
            lines.append(f"  - depends: A.{section + 1}.{place}")
        lines.append("  - run: `true`")
    return "\n".join(lines) + "\n"


def seconds(text: str) -> float:
    """Read and order the plan once."""
    started_s = time.perf_counter()
    plan = read_plan(text)
    PlanGraph(plan.tasks, plan.dependencies).downstream_ms()
    return time.perf_counter() - started_s


def measure() -> Iterator[Figure]:
    """Yield one figure per size."""
    for tasks, at_most_s in BARS_S.items():
        text = plan_text(tasks)
        values_s = tuple(seconds(text) for _ in range(RUNS))
        yield Figure(name=f"read and order {tasks:,} tasks", values=values_s, unit="s", at_most=at_most_s)
