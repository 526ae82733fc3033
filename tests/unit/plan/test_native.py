"""Our own JSON: what it holds, and faults by path."""

from __future__ import annotations

import json

import pytest

from orchestrator.plan.model import DependencyKind, Mark, Plan
from orchestrator.plan.read import read_plan

TASK = {
    "key": "A.1",
    "title": "Build",
    "body": "All of it",
    "mark": "in_progress",
    "priority": 0,
    "estimate": "4h",
    "agent": "devops-engineer",
    "type": "deploy",
    "domain": "devops",
    "acceptance": ["it runs"],
    "touches": ["src/**"],
    "run": ["make"],
    "verify": ["make test"],
    "manual": "press",
    "approve": "the cost",
    "timeout": "10 min",
    "idle_timeout": "90 s",
    "start_timeout": "1 min",
    "grace": "2 s",
    "attempts": 2,
    "retry_lost": "always",
    "review": "code-reviewer",
    "simulate": "1s fail 1",
}


def _read(*tasks: object, **plan: object) -> Plan:
    return read_plan(json.dumps({"plan_version": 1, "tasks": list(tasks), **plan}))


def test_every_field() -> None:
    plan = _read(TASK, name="n", title="t", meta={"workdir": "w"})
    assert (plan.format, plan.name, plan.title, plan.meta, plan.findings) == (
        "native",
        "n",
        "t",
        {"workdir": "w"},
        (),
    )
    (task,) = plan.tasks
    assert (task.key, task.title, task.body, task.mark) == ("A.1", "Build", "All of it", Mark.IN_PROGRESS)
    assert (task.priority, task.estimate_ms, task.agent) == (0, 14_400_000, "devops-engineer")
    assert (task.task_type, task.domain, task.acceptance, task.touches) == (
        "deploy",
        "devops",
        ("it runs",),
        ("src/**",),
    )
    assert (task.run, task.verify, task.manual, task.approve) == (
        ("make",),
        ("make test",),
        "press",
        "the cost",
    )
    assert task.options == {
        "timeout": "10 min",
        "idle timeout": "90 s",
        "start timeout": "1 min",
        "grace": "2 s",
        "attempts": "2",
        "retry lost": "always",
        "review": "code-reviewer",
        "simulate": "1s fail 1",
    }
    assert plan.with_id == 1


def test_hierarchy_and_dependencies() -> None:
    plan = _read(
        {"key": "a", "title": "A"},
        {
            "key": "b",
            "title": "B",
            "depends_on": ["a"],
            "tasks": [
                {"key": "b1", "title": "B1", "estimate": 5},
                {"key": "b2", "title": "B2", "informs": ["a"]},
            ],
        },
    )
    assert [(task.key, task.parent, task.kind.value) for task in plan.tasks] == [
        ("a", "", "leaf"),
        ("b", "", "container"),
        ("b1", "b", "leaf"),
        ("b2", "b", "leaf"),
    ]
    assert [(edge.task, edge.on, edge.kind) for edge in plan.dependencies] == [
        ("b1", "a", DependencyKind.BLOCKS),
        ("b2", "a", DependencyKind.BLOCKS),
        ("a", "b2", DependencyKind.INFORMS),
    ]


@pytest.mark.parametrize(
    ("task", "path"),
    [
        ({"key": "a"}, "tasks[1].title"),
        ({"key": "", "title": "x"}, "tasks[1].key"),
        ({"key": "a", "title": "x", "depends_on": "b"}, "tasks[1].depends_on"),
        ({"key": "a", "title": "x", "depends_on": [1]}, "tasks[1].depends_on[0]"),
        ({"key": "a", "title": "x", "priority": 7}, "tasks[1].priority"),
        ({"key": "a", "title": "x", "mark": "ready"}, "tasks[1].mark"),
        ({"key": "a", "title": "x", "run": [""]}, "tasks[1].run[0]"),
        ({"key": "a", "title": "x", "colour": "red"}, "tasks[1].colour"),
        ({"key": "a", "title": "x\0"}, "tasks[1].title"),
        ({"key": "a", "title": "x", "run": ["a", "\ud800"]}, "tasks[1].run[1]"),
        ({"key": "a", "title": "x", "\0": 1}, "tasks[1].\ufffd"),
        ({"key": "a", "title": "x", "priority": float("nan")}, "tasks[1].priority"),
        ({"key": "a", "title": "x", "tasks": [{"key": "b"}]}, "tasks[1].tasks[0].title"),
    ],
)
def test_faults_are_named_by_path(task: object, path: str) -> None:
    plan = _read({"key": "ok", "title": "ok"}, task)
    assert [finding.code for finding in plan.errors] == ["invalid-field"]
    assert f"`{path}`" in plan.errors[0].message


def test_an_unknown_field_is_told_with_the_nearest_known_one() -> None:
    plan = _read({"key": "a", "title": "x", "rnu": ["make"]}, taks=[])
    assert [(finding.message, finding.remedy) for finding in plan.errors] == [
        ("`tasks[0].rnu` is no field of the format.", "Write `run` if that is meant; else remove it."),
        ("`taks` is no field of the format.", "Write `tasks` if that is meant; else remove it."),
    ]


@pytest.mark.parametrize(
    ("text", "line", "code"),
    [
        ('{"plan_version": 1,\n "tasks": [}', 2, "invalid-json"),
        ("{" * 100_000, 1, "invalid-json"),
        ('{"plan_version": 1, "tasks": ' + "9" * 5000 + "}", 0, "invalid-json"),
        ('{"tasks": []}', 0, "unknown-format"),
        ('{"plan_version": 2, "tasks": []}', 0, "invalid-field"),
        ('{"plan_version": 1, "tasks": []}', 0, "no-tasks"),
        (
            '{"plan_version": 1, "tasks": '
            + '[{"key": "a", "title": "b", "tasks": ' * 60
            + "[]"
            + "}]" * 60
            + "}",
            0,
            "too-deep",
        ),
    ],
)
def test_faults_of_the_whole(text: str, line: int, code: str) -> None:
    assert [(finding.line, finding.code) for finding in read_plan(text).errors] == [(line, code)]


@pytest.mark.parametrize("name", ["idle_timeout", "start_timeout", "grace"])
def test_other_times_out_of_bounds_are_refused(name: str) -> None:
    plan = _read({"key": "a", "title": "x", name: "-1 s"})
    assert [finding.code for finding in plan.errors] == ["out-of-bounds"]


@pytest.mark.parametrize("timeout", ["-5 min", "0s", "1" + "0" * 400 + "h"])
def test_a_timeout_out_of_bounds_is_refused(timeout: str) -> None:
    plan = _read({"key": "a", "title": "x", "timeout": timeout})
    assert [finding.code for finding in plan.errors] == ["out-of-bounds"]
    assert plan.errors[0].message.startswith("tasks[0]: The `timeout` of a ")


def test_faults_between_tasks_name_the_place() -> None:
    plan = _read(
        {"key": "a", "title": "x", "depends_on": ["z"]}, {"key": "a", "title": "y", "estimate": "soon"}
    )
    assert {(finding.code, finding.severity) for finding in plan.findings} == {
        ("unknown-dependency", "error"),
        ("duplicate-id", "warning"),
        ("unknown-value", "warning"),
    }
    assert any("tasks[1]" in finding.message and "tasks[0]" in finding.message for finding in plan.findings)
