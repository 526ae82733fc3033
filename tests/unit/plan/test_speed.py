"""Reading takes time in proportion to the plan. Processor time, so that a busy machine changes nothing."""

from __future__ import annotations

import contextlib
import time

import pytest

from orchestrator.errors import PlanError
from orchestrator.plan.read import read_plan


def _text(count: int) -> str:
    lines = ["## Track A: Load", "### A.1 All", "- [ ] A.1.1 First"]
    for number in range(2, count + 1):
        lines += [
            f"- [ ] **A.1.{number}** Implement part {number} of the API (15 min) [P1]",
            "  - agent: backend-development",
            f"  - depends: A.1.{number - 1}",
            "  - run: `make part`",
        ]
    return "\n".join(lines)


@pytest.mark.parametrize(("count", "limit_s"), [(1_000, 1.0), (10_000, 3.0)])
def test_large_plans(count: int, limit_s: float) -> None:
    read_plan(_text(10))
    text = _text(count)
    start = time.process_time()
    plan = read_plan(text)
    assert time.process_time() - start < limit_s
    assert (len(plan.tasks), len(plan.dependencies), plan.findings) == (count + 2, count - 1, ())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("- [ ] x\n  - run: " + "`a" * 300_000, id="back-ticks"),
        pytest.param("- [ ] " + "(" * 300_000, id="brackets"),
        pytest.param("- [ ] A.1.1 x\n  - depends: " + "A-" * 300_000, id="almost ids"),
        pytest.param("- [ ] A.1.1 x\n  - depends: " + "all tasks, " * 30_000, id="groups"),
        pytest.param("\n".join("  " * depth + "- [ ] x" for depth in range(1_000)), id="nesting"),
        pytest.param("---\na: " + "[" * 60_000 + "\n---\n", id="front matter"),
        pytest.param(
            "".join(f"- [ ] A.1.{n} x\n  - depends: all tasks\n" for n in range(1, 600)), id="everything"
        ),
        pytest.param("- [ ] x\n" * 200_000, id="boxes"),
        pytest.param("x\n" * 600_000, id="lines"),
        pytest.param("a" * 3_000_000, id="one line"),
        pytest.param("- [ ] a" + "\0" * 10_000_000, id="NUL"),
        pytest.param("- [ ] a" + "\ud800" * 10_000_000, id="lone surrogates"),
        pytest.param("| id | status |\n|-|-|\n" + "|" * 5_000_000, id="cells"),
        pytest.param("| id | status |\n|-|-|\n" + "| A.1 | ✅ |\n" * 30_000, id="rows"),
        pytest.param("- [ ] x <!-- id: " + "%" * 5_000_000 + " -->", id="hidden id"),
        pytest.param("- [ ] x" + " ✅ **" * 1_000_000, id="verdicts"),
        pytest.param("".join("> " * depth + "- [ ] x\n" for depth in range(200)), id="quotes in quotes"),
        pytest.param("- [ ] T001-T999 x\n" * 20_000, id="ranges"),
    ],
)
def test_hostile_texts_end_soon(text: str) -> None:
    start = time.process_time()
    with contextlib.suppress(PlanError):
        read_plan(text)
    assert time.process_time() - start < 10
