"""Backlog.md: a folder of task files is one plan, and each file's front matter has its state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from orchestrator.core.words import TaskKind
from orchestrator.plan.model import Mark, Plan
from orchestrator.plan.read import read_files, read_path, read_plan
from orchestrator.plan.render import write_marks

CONFIG = 'project_name: "Shop"\nstatuses: ["To Do", "In Progress", "Done"]\ntask_prefix: "shop"\n'


def _file(id_: str, title: str = "Do it", status: str = "To Do", *more: str) -> str:
    lines = [
        "---",
        f"id: {id_}",
        f"title: {title}",
        f"status: {status}",
        "labels: []",
        *more,
        "---",
        "",
        "Text.",
    ]
    return "\n".join([*lines, ""])


def _folder(files: Iterable[str], *, config: str = CONFIG, others: Mapping[str, str] | None = None) -> Plan:
    texts = {f"backlog/tasks/task {number}.md": text for number, text in enumerate(files, 1)}
    return read_files({"backlog/config.yml": config, **texts, **(others or {})})


def _found(plan: Plan) -> list[tuple[str, str, int]]:
    return [(finding.code, finding.source, finding.line) for finding in plan.findings]


FULL = """\
---
id: SHOP-1
title: 'Pay: by card'
status: In Progress
assignee:
  - '@kim'
created_date: '2026-01-02 03:04'
labels:
  - money
  - web
priority: high
type: bug
milestone: m-1
modified_files:
  - src/card.py
---

## Description

<!-- SECTION:DESCRIPTION:BEGIN -->
Cards of two kinds.

- [ ] a box in a description is no task
<!-- SECTION:DESCRIPTION:END -->

## Acceptance Criteria
<!-- AC:BEGIN -->
- [x] #1 A refused card is told
- [~] #2 A lost card too
<!-- AC:END -->

## Definition of Done
<!-- DOD:BEGIN -->
1. [x] Tests pass
<!-- DOD:END -->

## Implementation Notes

<!-- SECTION:NOTES:BEGIN -->
Ask the bank.
<!-- SECTION:NOTES:END -->
"""


def test_every_field_of_one_file() -> None:
    plan = read_plan(FULL)
    (task,) = plan.tasks
    assert (plan.format, plan.findings, plan.with_id) == ("backlog", (), 1)
    assert plan.format_reason == "the front matter is that of a task of Backlog.md"
    assert (task.key, task.title, task.mark, task.priority) == ("SHOP-1", "Pay: by card", Mark.IN_PROGRESS, 1)
    assert (task.line, task.kind, task.task_type, task.touches) == (4, TaskKind.LEAF, "fix", ("src/card.py",))
    assert task.acceptance == ("A refused card is told", "A lost card too", "Tests pass")
    assert task.options == {"labels": "money, web", "assignee": "@kim", "milestone": "m-1"}
    assert task.body == (
        "## Description\n\nCards of two kinds.\n\n- [ ] a box in a description is no task\n\n"
        "## Implementation Notes\n\nAsk the bank."
    )
    assert (plan.checkboxes.open, plan.checkboxes.done, plan.checkboxes.other) == (1, 2, {"~": 1})


def test_what_is_commented_out_is_no_criterion() -> None:
    sections = "\n## Acceptance Criteria\n<!--\n- [ ] #1 a\n-->\n- [ ] #2 b\n<!-- - [ ] #3 c -->\n<!-- d"
    plan = read_plan(_file("SHOP-1") + sections)
    assert plan.tasks[0].acceptance == ("b", "<!-- d")
    assert plan.checkboxes.open == 1


def test_a_folder_is_one_plan_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    tasks = tmp_path / "backlog" / "tasks"
    tasks.mkdir(parents=True)
    (tmp_path / "README.md").write_text("- [ ] not a task of this plan\n")
    (tmp_path / "backlog" / "config.yml").write_text(CONFIG)
    for name in ("completed", "drafts", "archive/tasks"):
        (tmp_path / "backlog" / name).mkdir(parents=True)
        (tmp_path / "backlog" / name / "shop-7 - x.md").write_text(_file("SHOP-7", status="Done"))
    (tasks / "shop-24.10 - Ten.md").write_text(_file("SHOP-24.10", "Ten", "To Do", "parent_task_id: SHOP-24"))
    (tasks / "shop-24.02 - Two.md").write_text(_file("SHOP-24.02", "Two", "To Do", "parent_task_id: shop-24"))
    (tasks / "shop-24 - All.md").write_text(_file("SHOP-24", "All"))
    (tasks / "shop-3 - Three.md").write_text(
        _file("SHOP-3", "Three", "To Do", "dependencies: [SHOP-7, shop-24.2, 24.10]")
    )
    plan = read_path(tmp_path)
    assert (plan.format, plan.title, plan.findings) == ("backlog", "Shop", ())
    assert plan.format_reason == "the folder has backlog/config.yml"
    assert [(task.key, task.parent, task.source.rpartition("/")[0]) for task in plan.tasks] == [
        ("SHOP-3", "", "backlog/tasks"),
        ("SHOP-7", "", "backlog/completed"),
        ("SHOP-24", "", "backlog/tasks"),
        ("SHOP-24.02", "SHOP-24", "backlog/tasks"),
        ("SHOP-24.10", "SHOP-24", "backlog/tasks"),
    ]
    assert {(edge.task, edge.on) for edge in plan.dependencies} == {
        ("SHOP-3", on) for on in ("SHOP-7", "SHOP-24.02", "SHOP-24.10")
    }
    assert [task.key for task in read_path(tmp_path / "backlog").tasks] == [task.key for task in plan.tasks]


def test_what_is_not_in_the_folder_is_reported_and_holds_up_nobody() -> None:
    plan = _folder([_file("SHOP-1", "a", "To Do", "parent_task_id: SHOP-9", "dependencies: [SHOP-8]")])
    name = "backlog/tasks/task 1.md"
    assert _found(plan) == [("unusable-parent", name, 4), ("outside-dependency", name, 4)]
    assert plan.errors == ()


def test_a_file_that_is_no_task_is_left_out() -> None:
    plan = _folder([_file("SHOP-1"), "# Notes\n- [ ] nothing\n", "---\nid: [\n---\n"])
    assert [task.key for task in plan.tasks] == ["SHOP-1"]
    names = [f"backlog/tasks/task {number}.md" for number in (2, 3, 3)]
    codes = ("left-out", "front-matter", "left-out")
    assert _found(plan) == [(code, name, 1) for code, name in zip(codes, names, strict=True)]


def test_an_id_twice_is_found_and_both_files_are_named() -> None:
    plan = _folder([_file("SHOP-1"), _file("SHOP-1")])
    (finding,) = plan.findings
    assert (finding.code, finding.source) == ("duplicate-id", "backlog/tasks/task 2.md")
    assert "backlog/tasks/task 1.md" in finding.message
    assert [task.key for task in plan.tasks] == ["SHOP-1", "SHOP-1~2"]


@pytest.mark.parametrize(
    ("statuses", "status", "mark"),
    [
        ("[Idea, Doing, Shipped]", "Idea", Mark.OPEN),
        ("[Idea, Doing, Shipped]", "doing", Mark.IN_PROGRESS),
        ("[Idea, Doing, Shipped]", "SHIPPED", Mark.DONE),
        ("[To Do, Blocked, Done, Cancelled]", "Blocked", Mark.BLOCKED),
        ("[To Do, Blocked, Done, Cancelled]", "Done", Mark.DONE),
        ("[To Do, Blocked, Done, Cancelled]", "Cancelled", Mark.CANCELLED),
        ("[To Do, In Progress, Done]", "todo", Mark.OPEN),
        ("[To Do, In Progress, Done]", "Nearly", Mark.BLOCKED),
    ],
)
def test_statuses_are_those_of_the_configuration(statuses: str, status: str, mark: Mark) -> None:
    plan = _folder([_file("SHOP-1", "a", status)], config=f"statuses: {statuses}\n")
    assert plan.tasks[0].mark is mark
    assert ("unknown-status" in {finding.code for finding in plan.findings}) == (status == "Nearly")


def test_states_are_not_written_in_words_that_the_project_does_not_have() -> None:
    plan = _folder([_file("SHOP-1", "a", "Idea")], config="statuses: [Idea, Doing, Shipped]\n")
    assert plan.tasks[0].span is None
    assert _found(plan) == [("own-statuses", "backlog/config.yml", 0)]


@pytest.mark.parametrize("line", ["To Do", "'To Do'", '"To Do"', "To Do  ", "To Do # for now"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_only_the_status_is_written_back(line: str, end: str, mark: str) -> None:
    text = mark + _file("SHOP-1", "a", line, "note: 'status: To Do'").replace("\n", end) + "status: To Do"
    (task,) = read_plan(text).tasks
    assert task.span
    assert write_marks(text, {task.span: Mark.DONE}) == text.replace(
        "status: " + line, "status: " + line.replace("To Do", "Done"), 1
    )


@pytest.mark.parametrize("line", [">-\n  To Do", "!!str To Do", '"To\\x20Do"', "''"])
def test_a_status_in_odd_yaml_is_read_and_not_written(line: str) -> None:
    (task,) = read_plan(_file("SHOP-1", "a", line)).tasks
    assert (task.mark, task.span) == (Mark.OPEN, None)
