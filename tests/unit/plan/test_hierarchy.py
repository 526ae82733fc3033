"""Headings, boxes and indents become containers and leaves, with keys, marks and bodies."""

from __future__ import annotations

import pytest

from orchestrator.core.words import TaskKind
from orchestrator.plan.model import Mark, MarkSpan, Notation, Plan, PlanTask
from orchestrator.plan.read import read_plan


def _task(plan: Plan, key: str) -> PlanTask:
    return next(task for task in plan.tasks if task.key == key)


def _shape(plan: Plan) -> list[tuple[str, str, str]]:
    return [(task.key, task.kind.value, task.parent) for task in plan.tasks]


def _codes(plan: Plan) -> list[tuple[int, str]]:
    return [(finding.line, finding.code) for finding in plan.findings]


def test_tracks_sections_and_tasks() -> None:
    plan = read_plan(
        "# My plan\n"
        "## Track A: Core\n"
        "### A.1 First\n"
        "- [ ] **A.1.1** Do\n"
        "- [x] A.1.2: Done\n"
        "## Empty\n"
        "Prose.\n"
    )
    assert plan.title == "My plan"
    assert plan.format == "coditect"
    assert _shape(plan) == [
        ("track-a", "container", ""),
        ("A.1", "container", "track-a"),
        ("A.1.1", "leaf", "A.1"),
        ("A.1.2", "leaf", "A.1"),
    ]
    assert [task.title for task in plan.tasks] == ["Track A: Core", "First", "Do", "Done"]
    assert [task.has_own_key for task in plan.tasks] == [False, True, True, True]
    assert plan.with_id == 3
    assert plan.findings == ()


def test_a_heading_with_an_id_is_one_task_and_its_boxes_are_steps() -> None:
    plan = read_plan(
        "## Phase 1: Go\n"
        "#### Task 1.9: Write it\n"
        "**Agent:** `devops-engineer`\n"
        "**Time Estimate:** 4 hours\n"
        "\n"
        "- [x] First step (7 days)\n"
        "  - [ ] Sub-step\n"
        "A remark.\n"
        "\n"
        "**Acceptance Criteria:**\n"
        "- It is written\n"
        "  twice\n"
        "- It works\n"
    )
    assert _shape(plan) == [("phase-1", "container", ""), ("1.9", "leaf", "phase-1")]
    task = _task(plan, "1.9")
    assert task.title == "Write it"
    assert task.agent == "devops-engineer"
    assert task.estimate_ms == 4 * 3_600_000
    assert task.body == "- [x] First step (7 days)\n  - [ ] Sub-step\nA remark."
    assert task.acceptance == ("It is written twice", "It works")
    assert (task.mark, task.span) == (Mark.OPEN, MarkSpan(20, 20, Notation.NEW_BOX))


def test_the_steps_say_when_a_heading_task_is_done() -> None:
    plan = read_plan(
        "#### Task 1: A\n"
        "- [x] a\n"
        "- [x] b\n"
        "#### Task 2: B ✅ COMPLETE\n"
        "- [ ] c\n"
        "#### Task 3: C ✅\n"
        "**Agent:** x\n"
    )
    assert [task.mark for task in plan.tasks] == [Mark.DONE, Mark.OPEN, Mark.DONE]
    assert _codes(plan) == [(4, "mark-conflict")]


def test_a_heading_task_whose_boxes_are_work_of_their_own_is_a_container() -> None:
    plan = read_plan("#### Task 1.1: Both\n- [ ] Build\n  - run: make\n- [ ] Check\n")
    assert _shape(plan) == [("1.1", "container", ""), ("build", "leaf", "1.1"), ("check", "leaf", "1.1")]


def test_a_track_section_with_boxes_is_a_container() -> None:
    plan = read_plan("### A.3 Raise it\n- [ ] one\n- [ ] two\n")
    assert _shape(plan) == [("A.3", "container", ""), ("one", "leaf", "A.3"), ("two", "leaf", "A.3")]


def test_headings_with_numbers_and_no_work_are_prose() -> None:
    plan = read_plan("## 1.1 Scope\nProse.\n## 1.2 Work\n- [ ] T001 Do\n")
    assert _shape(plan) == [("1.2", "container", ""), ("T001", "leaf", "1.2")]
    assert plan.with_id == 3


def test_a_box_in_a_heading() -> None:
    plan = read_plan("### [x] Task 2: Log\nText.\n")
    assert plan.tasks[0].mark is Mark.DONE
    assert plan.tasks[0].span == MarkSpan(5, 6, Notation.BOX)


def test_boxes_below_boxes_and_sloppy_indents() -> None:
    plan = read_plan("- [ ] a\n - [ ] b\n   - [ ] c\n\t- [ ] d\n          - [ ] e\n1. [ ] f\n  - [ ] g\n")
    assert plan.format == "checklist"
    assert [(task.title, task.parent) for task in plan.tasks] == [
        ("a", ""),
        ("b", ""),
        ("c", "b"),
        ("d", "b"),
        ("e", "d"),
        ("f", ""),
        ("g", "f"),
    ]
    assert [task.title for task in plan.tasks if task.kind is TaskKind.CONTAINER] == ["b", "d", "f"]


def test_marks_of_boxes() -> None:
    plan = read_plan("".join(f"- [{mark}] task {number}\n" for number, mark in enumerate(" xX~!>-⊘—")))
    assert [task.mark.value for task in plan.tasks] == [
        "open",
        "done",
        "done",
        "in_progress",
        "blocked",
        "deferred",
        "cancelled",
        "blocked",
        "deferred",
    ]
    assert plan.checkboxes.other == {"~": 1, "!": 1, ">": 1, "-": 1, "⊘": 1, "—": 1}


def test_unknown_marks_are_no_tasks_and_said_once() -> None:
    plan = read_plan("- [P] parallel\n- [o] x\n- [o] y\n- [ ] z\n")
    assert [task.title for task in plan.tasks] == ["z"]
    assert _codes(plan) == [(2, "unknown-mark")]
    assert plan.checkboxes.other == {"P": 1, "o": 2}


def test_the_box_beats_the_words_and_the_words_beat_the_emoji() -> None:
    plan = read_plan(
        "- [ ] a ✅ **COMPLETED**\n"
        "- [x] b ✅ **COMPLETED**\n"
        "- [ ] ~~c~~\n"
        "- [ ] ~~d~~ → **KEEP**\n"
        "#### Task 1: e ✅ IN PROGRESS\n"
        "**Agent:** x"
    )
    assert [(task.title, task.mark.value) for task in plan.tasks] == [
        ("a", "open"),
        ("b", "done"),
        ("c", "cancelled"),
        ("d → KEEP", "open"),
        ("e", "in_progress"),
    ]
    assert _codes(plan) == [(1, "mark-conflict"), (3, "struck-title")]


@pytest.mark.parametrize(
    "heading",
    [
        "Legend",
        "Task Completion Legend",
        "✅ Success Criteria",
        "Definition of Done",
        "Acceptance Criteria:",
        "Phase 1 Complete When:",
        "Validation Checklist",
        "Project Completion Criteria",
    ],
)
def test_boxes_under_criteria_headings_are_no_tasks(heading: str) -> None:
    plan = read_plan(f"- [ ] work\n## {heading}\n### Part\n- [ ] criterion\n## Next\n- [ ] more\n")
    assert [task.title for task in plan.tasks if task.kind is TaskKind.LEAF] == ["work", "more"]
    assert _codes(plan) == [(4, "criteria-boxes")]
    assert plan.checkboxes.open == 3


def test_criteria_of_a_task_are_its_acceptance() -> None:
    plan = read_plan(
        "#### Task 1.1: A\n"
        "- [ ] step\n"
        "\n"
        "**Success Criteria:**\n"
        "- [ ] fast\n"
        "\n"
        "##### Definition of Done\n"
        "- [ ] small\n"
        "#### Task 1.2: B\n**Deliverables**:\n- [ ] a file\n"
        "## More\n- [ ] T001 C\n  - acceptance:\n    - [x] green\n    - quiet\n  - [ ] T002 D\n"
    )
    assert _task(plan, "1.1").acceptance == ("fast", "small")
    assert _task(plan, "1.2").acceptance == ("a file",)
    assert _task(plan, "T001").acceptance == ("green", "quiet")
    assert _task(plan, "T002").parent == "T001"


def test_deliverables_of_a_section_are_its_tasks() -> None:
    plan = read_plan(
        "## Week 3: Setup\n**Deliverables**:\n- [ ] a\n- [ ] b\n\n**Acceptance Criteria**:\n- [ ] good\n"
    )
    assert _shape(plan) == [("week-3", "container", ""), ("a", "leaf", "week-3"), ("b", "leaf", "week-3")]
    assert plan.tasks[0].acceptance == ("good",)


def test_fences_and_comments_never_yield_tasks() -> None:
    plan = read_plan("- [ ] a\n\n```\n- [ ] b\n```\n<!--\n- [ ] c\n-->\n- [ ] d\n")
    assert [task.title for task in plan.tasks] == ["a", "d"]


def test_derived_keys_are_unique_and_made_of_place_and_title() -> None:
    plan = read_plan("## One\n- [ ] Test it\n- [ ] Test it\n## Two\n- [ ] Test it\n- [ ] 🎉\n- [ ] One\n")
    assert [task.key for task in plan.tasks] == [
        "one",
        "test-it",
        "one/test-it",
        "two",
        "two/test-it",
        "task",
        "two/one",
    ]


def test_a_bold_title_is_the_title_and_the_rest_the_body() -> None:
    plan = read_plan("- [ ] **gpu.rs — split it** 🟡 — needs care\n  and patience\n")
    assert plan.tasks[0].title == "gpu.rs — split it"
    assert plan.tasks[0].body == "**gpu.rs — split it** 🟡 — needs care\nand patience"


def test_long_titles_are_cut_and_kept_in_the_body() -> None:
    plan = read_plan("- [ ] " + "word " * 1000)
    assert len(plan.tasks[0].title) <= 300
    assert plan.tasks[0].body.count("word") == 1000


def test_a_done_parent_with_an_open_child() -> None:
    plan = read_plan("- [x] a\n  - [x] b\n  - [ ] c\n")
    assert _codes(plan) == [(1, "done-parent-open-child")]
    assert "line 3" in plan.findings[0].message


def test_agent_and_priority_of_a_section_hold_below_it() -> None:
    plan = read_plan(
        "## S\n"
        "**Agent:** x\n"
        "**Priority:** P1\n"
        "- [ ] a\n"
        "  - [ ] b\n"
        "    - agent: y\n"
        "- [ ] c\n"
        "  - priority: low\n"
        "## T\n"
        "- [ ] d\n"
    )
    assert [(task.title, task.agent, task.priority) for task in plan.tasks if task.kind is TaskKind.LEAF] == [
        ("b", "y", 1),
        ("c", "x", 3),
        ("d", "", 2),
    ]
