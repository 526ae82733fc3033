"""Findings that concern a whole plan: each names the thing, its line and the remedy."""

from __future__ import annotations

import pytest

from orchestrator.plan.model import Plan
from orchestrator.plan.read import read_plan


def _errors(plan: Plan) -> list[tuple[int, str]]:
    return [(finding.line, finding.code) for finding in plan.errors]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty-plan"),
        (" \r\n\t\n", "empty-plan"),
        ("\ufeff", "empty-plan"),
        ("# Title\nProse.", "no-tasks"),
        ("```\n- [ ] a\n```", "no-tasks"),
    ],
)
def test_plans_without_tasks(text: str, code: str) -> None:
    assert _errors(read_plan(text)) == [(0, code)]


def test_equal_ids_name_both_lines() -> None:
    plan = read_plan(
        "- [ ] A.1.1 x\n- [ ] A.1.2 y\n#### Task 0.1: z\n**Agent:** a\n- [ ] A.1.1 w\n- [ ] 0.1 v\n"
    )
    assert [(each.line, each.code) for each in plan.findings] == [(5, "duplicate-id"), (6, "duplicate-id")]
    assert "line 5" in plan.findings[0].message
    assert "line 1" in plan.findings[0].message
    assert plan.errors == ()
    assert len({task.key for task in plan.tasks}) == len(plan.tasks)


def test_a_cycle_is_named_whole() -> None:
    plan = read_plan(
        "- [ ] A.1.1 x (depends on A.1.3)\n"
        "- [ ] A.1.2 y (depends on A.1.1)\n"
        "- [ ] A.1.3 z (depends on A.1.2)\n"
        "- [ ] A.1.4 w (depends on A.1.3)\n"
    )
    assert _errors(plan) == [(1, "cycle")]
    assert "A.1.1 (line 1) → A.1.3 (line 3) → A.1.2 (line 2) → A.1.1 (line 1)" in plan.errors[0].message


def test_a_cycle_through_containers() -> None:
    plan = read_plan(
        "## Phase 1: a\n- [ ] 1.1 x (depends on Phase 2)\n## Phase 2: b\n- [ ] 2.1 y (depends on 1.1)\n"
    )
    assert _errors(plan) == [(2, "cycle")]
    assert "1.1 (line 2) → phase-2 (line 3) → 2.1 (line 4) → 1.1 (line 2)" in plan.errors[0].message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("## Phase 1: a\n- [ ] 1.1 x (depends on Phase 1)\n", "which contains it"),
        ("## Phase 1: a\n**Depends on:** 1.1\n- [ ] 1.1 x\n", "which stands inside it"),
    ],
)
def test_a_task_and_its_own_container_wait_for_each_other(text: str, words: str) -> None:
    plan = read_plan(text)
    assert _errors(plan) == [(2, "cycle")]
    assert words in plan.errors[0].message


@pytest.mark.parametrize("field", ["run: make", "verify: make test", "manual: do it", "approve: yes"])
def test_only_leaves_have_work(field: str) -> None:
    assert _errors(read_plan(f"- [ ] a\n  - {field}\n  - [ ] b\n")) == [(1, "run-on-container")]
    assert _errors(read_plan(f"## S\n{field}\n- [ ] b\n")) == [(1, "run-on-container")]
    assert _errors(read_plan(f"# P\n{field}\n- [ ] b\n")) == [(0, "run-on-container")]


def test_findings_come_in_the_order_of_the_lines() -> None:
    plan = read_plan("- [ ] A.1.1 x\n  - depends: A.1.9\n- [ ] A.1.1 y\n  - priority: soon\n- [o] z\n")
    assert [finding.line for finding in plan.findings] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ("total_tasks: 4\ncompleted_tasks: 2", None),  # the boxes
        ("total_tasks: 3\ncompleted_tasks: 1", None),  # the tasks: one box contains the others
        ("total_tasks: many\nblocked_tasks: 0", None),
        ("total_tasks: 9", "total_tasks 9, and there are 4."),
        (
            "completed_tasks: 3\nin_progress_tasks: 1",
            "completed_tasks 3, and there are 2; in_progress_tasks 1, and",
        ),
    ],
)
def test_counts_of_the_front_matter_that_are_stale(counts: str, words: str | None) -> None:
    plan = read_plan(f"---\n{counts}\n---\n- [x] a\n  - [x] b\n  - [ ] c\n- [ ] d\n")
    found = [finding for finding in plan.findings if finding.code == "stale-counts"]
    assert len(found) == (words is not None)
    assert all(words is not None and words in finding.message for finding in found)
