"""Task Master's files: what they hold, what real ones get wrong, and their states written back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.core.words import TaskKind
from orchestrator.plan.model import Mark, Plan
from orchestrator.plan.read import read_path, read_plan
from orchestrator.plan.render import write_marks


def _task(number: object, **values: object) -> dict[str, object]:
    return {"id": number, "title": f"Task {number}", "status": "pending", **values}


def _read(*tasks: object, **tags: object) -> Plan:
    return read_plan(json.dumps({"master": {"tasks": list(tasks)}, **tags}, indent=2))


def _edges(plan: Plan) -> set[tuple[str, str]]:
    return {(edge.task, edge.on) for edge in plan.dependencies}


def _found(plan: Plan) -> list[tuple[str, int]]:
    return [(finding.code, finding.line) for finding in plan.findings]


def test_every_field() -> None:
    plan = _read(
        _task(
            3,
            description="What",
            details="How\n<info added on 2026-01-02T03:04:05Z>\nMore\n</info added>",
            testStrategy="1. Search\n- [ ] Find\n\n",
            priority="high",
            assignee="kim",
            metadata={"issue": 4},
        )
    )
    (task,) = plan.tasks
    assert (plan.format, plan.findings) == ("taskmaster", ())
    assert plan.format_reason == "JSON with the task lists of Task Master: master"
    assert (task.key, task.title, task.mark, task.priority, task.line) == ("3", "Task 3", Mark.OPEN, 1, 4)
    assert task.body == "What\n\nHow\n<info added on 2026-01-02T03:04:05Z>\nMore\n</info added>"
    assert task.acceptance == ("Search", "Find")
    assert task.options == {"assignee": "kim"}


@pytest.mark.parametrize(
    ("status", "mark"),
    [
        ("pending", Mark.OPEN),
        ("todo", Mark.OPEN),
        ("in-progress", Mark.IN_PROGRESS),
        ("review", Mark.IN_PROGRESS),
        ("blocked", Mark.BLOCKED),
        ("deferred", Mark.DEFERRED),
        ("cancelled", Mark.SKIPPED),
        ("done", Mark.DONE),
        ("completed", Mark.DONE),
        ("", Mark.OPEN),
        (None, Mark.OPEN),
    ],
)
def test_statuses(status: str | None, mark: Mark) -> None:
    plan = _read(_task(1, status=status), _task(2))
    assert (plan.tasks[0].mark, plan.findings) == (mark, ())


def test_an_unknown_status_holds_the_task() -> None:
    plan = _read(_task(1, status="parked"))
    assert plan.tasks[0].mark is Mark.BLOCKED
    assert _found(plan) == [("unknown-status", 4)]
    assert "'parked'" in plan.findings[0].message


def test_subtasks_are_below_their_task_and_are_named_from_it() -> None:
    plan = _read(
        _task(
            1,
            priority="low",
            subtasks=[_task(1), _task("2", dependencies=[1], subtasks=[_task(1)]), _task("1.3")],
        )
    )
    assert [(task.key, task.parent, task.kind) for task in plan.tasks] == [
        ("1", "", TaskKind.CONTAINER),
        ("1.1", "1", TaskKind.LEAF),
        ("1.2", "1", TaskKind.CONTAINER),
        ("1.2.1", "1.2", TaskKind.LEAF),
        ("1.3", "1", TaskKind.LEAF),
    ]
    assert {task.priority for task in plan.tasks} == {3}
    assert _edges(plan) == {("1.2.1", "1.1")}


def test_a_dependency_of_a_subtask_is_its_sibling_or_else_a_task() -> None:
    """Numbers, texts and dotted texts stand side by side, in one list."""
    subtasks = [_task(1), _task(2, dependencies=[1, "1.1", "4", 5, 2, "2.1"])]
    plan = _read(_task(1, subtasks=[_task(1)]), _task(2), _task(3, subtasks=subtasks), _task("4"), _task(5))
    assert _edges(plan) == {("3.2", on) for on in ("3.1", "1.1", "4", "5", "2")}
    assert _found(plan) == [("outside-dependency", plan.tasks[5].line)]
    assert "2.1" in plan.findings[0].message


def test_a_missing_task_is_reported_and_nothing_waits_for_it() -> None:
    plan = _read(_task(1, dependencies=[7, "8"]), _task(2, dependencies=None), _task(3, dependencies=1))
    assert _edges(plan) == {("3", "1")}
    assert [code for code, _ in _found(plan)] == ["outside-dependency"] * 2
    assert plan.errors == ()


def test_ids_that_lost_a_zero_get_it_back_from_their_place() -> None:
    """Written as numbers, 29.10 and 29.1 are the same; the tenth subtask is the one that lost its zero."""
    subtasks = [_task(float(f"29.{number}"), status="completed") for number in range(1, 11)]
    plan = _read(_task(29, subtasks=subtasks))
    assert [task.key for task in plan.tasks] == ["29", *(f"29.{number}" for number in range(1, 11))]
    assert [code for code, _ in _found(plan)] == ["restored-id"]
    assert plan.errors == ()


def test_an_id_twice_is_found() -> None:
    assert [finding.code for finding in _read(_task(1), _task(1)).findings] == ["duplicate-id"]


def test_the_old_form_without_tags() -> None:
    plan = read_plan(json.dumps({"tasks": [_task(1)], "metadata": {"projectName": "x"}}))
    assert (plan.format, [task.key for task in plan.tasks]) == ("taskmaster", ["1"])


def test_tags_are_containers_and_their_names_tell_equal_ids_apart() -> None:
    plan = _read(
        _task(1),
        _task(2, dependencies=[1]),
        empty={"tasks": []},
        other={"tasks": [_task(9)]},
        search={
            "tasks": [_task(2, subtasks=[_task(1)]), _task(3, dependencies=["2.1"])],
            "metadata": {"description": "Find things"},
        },
    )
    assert [(task.key, task.parent) for task in plan.tasks] == [
        ("master", ""),
        ("1", "master"),
        ("2", "master"),
        ("other", ""),
        ("9", "other"),
        ("search", ""),
        ("search:2", "search"),
        ("search:2.1", "search:2"),
        ("search:3", "search"),
    ]
    assert plan.tasks[5].body == "Find things"
    assert _edges(plan) == {("2", "1"), ("search:3", "search:2.1")}
    assert [code for code, _ in _found(plan)] == ["tagged-ids"]
    assert plan.with_id == 6


def test_done_tasks_with_open_subtasks_are_reported() -> None:
    plan = _read(_task(1, status="done", superseded_by=4, subtasks=[_task(1)]))
    assert [code for code, _ in _found(plan)] == ["done-parent-open-child"]


def test_what_is_missing_or_null_is_no_fault() -> None:
    plan = _read(_task(1, title=None, description="First line\nSecond", priority=None, subtasks=None), None)
    assert [(task.key, task.title) for task in plan.tasks] == [("1", "First line")]
    assert plan.findings == ()


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ({"tasks": [{"id": "TASK-001", "completed": True}]}, "unknown-format", "id, completed"),
        ({"tasks": [{"key": "A.1"}]}, "unknown-format", "plan_version"),
        ({"master": {"tasks": []}}, "unknown-format", "plan_version"),
    ],
)
def test_other_json_is_refused_with_the_reason(values: object, code: str, words: str) -> None:
    plan = read_plan(json.dumps(values))
    assert [finding.code for finding in plan.errors] == [code]
    assert words in plan.errors[0].message


def test_broken_json_is_refused_where_it_breaks() -> None:
    text = json.dumps({"master": {"tasks": [_task(1)]}}, indent=2)[:-5]
    (error,) = read_plan(text, format="taskmaster").errors
    assert (error.code, error.line) == ("invalid-json", text.count("\n") + 1)


def test_only_the_status_is_written_back() -> None:
    text = '\ufeff{"master":\r\n\t{"tasks": [{"status" : "pending","id":1.0, "title":"\\u00e9 \\"status"} ]}}'
    (task,) = read_plan(text).tasks
    assert task.span is not None
    assert write_marks(text, {task.span: Mark.IN_PROGRESS}) == text.replace("pending", "in-progress")


@pytest.mark.parametrize("named", [".taskmaster", ".taskmaster/tasks"])
def test_its_folder_is_the_plan(tmp_path: Path, named: str) -> None:
    for name, text in {
        "tasks/tasks.json": json.dumps({"tasks": [_task(1), _task(2)]}),
        "docs/prd.md": "- [ ] no task\n",
        "config.json": "{}",
        "reports/complexity.json": '{"tasks": []}',
    }.items():
        (tmp_path / ".taskmaster" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".taskmaster" / name).write_text(text)
    plan = read_path(tmp_path / named)
    assert (plan.format, [task.key for task in plan.tasks], plan.errors) == ("taskmaster", ["1", "2"], ())


def test_sentences_of_titles_and_details_are_read() -> None:
    plan = _read(
        _task(1),
        _task(2, details="Start once task 1 is merged.\nIt takes 3 hours.", subtasks=[_task(1), _task(2)]),
        _task(3, title="Requires tasks 1 and 2"),
        _task(4, title="Check (after the previous task)"),
    )
    assert {(edge.task, edge.on) for edge in plan.dependencies if edge.task in {"3", "4"}} == {
        ("3", "1"),
        ("3", "2"),
        ("4", "3"),
    }
    assert {edge.line for edge in plan.dependencies if edge.task == "3"} == {plan.tasks[4].line}
