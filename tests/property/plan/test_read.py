"""Whatever the text, reading ends, says what it found, and contradicts itself nowhere."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.words import TaskKind
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.model import DependencyKind, Notation, Plan
from orchestrator.plan.read import read_files, read_plan
from orchestrator.plan.report import import_report

PIECES = [
    "- [ ] ",
    "- [x] ",
    "* [~] ",
    "1. [ ] ",
    "- ",
    "  ",
    "\t",
    "> ",
    "#",
    "## ",
    "#### Task 1.1: ",
    "A.1.1 ",
    "A.1.2 ",
    "A.1 ",
    "1.1 ",
    "T001 ",
    "Phase 1: ",
    "**",
    "`",
    "```",
    "~~~",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "---",
    "===",
    "depends: ",
    "run: ",
    "agent: x",
    "priority: P1",
    "**Acceptance Criteria:**",
    "(depends on A.1.1)",
    "(2h)",
    "all tasks",
    "A.1.1-A.1.2",
    "<!--",
    "-->",
    "[P] ",
    ":",
    "✅",
    "~~",
    "\ufeff",
    "\0",
    "\ud800",
    "\u00a0",
    "word ",
    "name: x",
    "{",
    '"plan_version"',
]
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=60).map("".join)


def _consistent(plan: Plan) -> None:
    by_key = {task.key: task for task in plan.tasks}
    assert len(by_key) == len(plan.tasks)
    parents = {task.parent for task in plan.tasks if task.parent}
    for task in plan.tasks:
        assert task.title
        assert (task.key in parents) == (task.kind is TaskKind.CONTAINER)
        if task.span and task.span.notation is Notation.BOX:
            assert plan.source[task.span.start - 1] == "["
            assert plan.source[task.span.end] == "]"
    for edge in plan.dependencies:
        assert edge.task in by_key
        assert edge.on in by_key
        if edge.kind is DependencyKind.BLOCKS:
            assert by_key[edge.task].kind is TaskKind.LEAF
    assert plan.tasks or plan.errors
    plan.source.encode()
    json.dumps(import_report(plan))


@given(text=texts)
def test_any_text_is_read(text: str) -> None:
    plan = read_plan(text)
    _consistent(plan)
    if not plan.errors:
        graph = PlanGraph(plan.tasks, plan.dependencies)
        waves = graph.waves()
        wave_of = {key: number for number, wave in enumerate(waves) for key in wave}
        for edge in plan.dependencies:
            if edge.kind is DependencyKind.BLOCKS and edge.task in wave_of and edge.on in wave_of:
                assert wave_of[edge.on] < wave_of[edge.task]
        assert set(graph.critical_path()) <= wave_of.keys()


@given(content=st.binary(max_size=300))
def test_any_bytes_are_read(content: bytes) -> None:
    _consistent(read_plan(content.decode("utf-8", "surrogateescape")))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(["plan_version", "tasks", "key", "title", "depends_on"]), below, max_size=4
        )
    ),
    max_leaves=15,
)


@given(value=st.dictionaries(st.sampled_from(["plan_version", "tasks", "name"]), json_values))
def test_any_json_is_read(value: object) -> None:
    _consistent(read_plan(json.dumps(value)))


ids = st.sampled_from([1, 2, 3, "1", "2", "1.1", 1.1, "a-1", "a-2", "a-2.1", "", None])
anything = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
WORDS = ["pending", "open", "done", "closed", "cancelled", "tombstone", "in_progress", "odd", ""]
KINDS = ["blocks", "parent-child", "conditional-blocks", "related", ""]
links = st.fixed_dictionaries(
    {"depends_on_id": ids}, optional={"issue_id": ids, "type": st.sampled_from(KINDS) | anything}
)


def _records(below: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Tasks of trackers, their fields mostly of the right type."""
    return st.fixed_dictionaries(
        {"id": ids | anything, "title": st.text(max_size=5) | anything},
        optional={
            "status": st.sampled_from(WORDS) | anything,
            "issue_type": st.sampled_from(["bug", "event", "gate", "epic"]) | anything,
            "priority": st.integers(min_value=0, max_value=5) | st.sampled_from(["high", "P1"]) | anything,
            "dependencies": st.lists(ids | links | anything, max_size=3) | anything,
            "subtasks": st.lists(below, max_size=3) | anything,
            "estimated_minutes": anything,
            "labels": st.lists(anything, max_size=2) | anything,
            "description": anything,
            "testStrategy": anything,
        },
    )


records = st.recursive(anything, _records, max_leaves=6)
lists = st.fixed_dictionaries({"tasks": st.lists(records, max_size=5)})


@given(value=lists | st.dictionaries(st.sampled_from(["master", "b", "1"]), lists | anything, max_size=3))
def test_any_task_lists_are_read(value: object) -> None:
    _consistent(read_plan(json.dumps(value)))


@given(lines=st.lists(st.builds(json.dumps, records | links) | st.text(max_size=5), max_size=8))
def test_any_lines_of_records_are_read(lines: list[str]) -> None:
    _consistent(read_plan("\n".join(lines)))


FIELDS = ["id: A-1", "id: a-01", "title: x", "status: To Do", "status: 'Done'", "status:", "status: Odd"]
FIELDS += [
    "parent_task_id: A-1",
    "dependencies: [1, A-2]",
    "labels: []",
    "priority: high",
    "- a",
    "x: [",
    "#",
]
fronts = st.lists(st.sampled_from(FIELDS) | st.text(max_size=5), max_size=8).map("\n".join)
task_files = st.builds(lambda front, body: f"---\n{front}\n---\n{body}", fronts, texts) | texts


@given(config=st.sampled_from(["statuses: [a, Done]", "statuses: 1"]) | texts, files=st.lists(task_files))
def test_any_folder_of_task_files_is_read(config: str, files: list[str]) -> None:
    tasks = {f"tasks/a-{number}.md": text for number, text in enumerate(files)}
    _consistent(read_files({"config.yml": config, **tasks}))


@given(data=st.data(), count=st.integers(min_value=1, max_value=12))
def test_what_is_written_is_what_is_read(data: st.DataObject, count: int) -> None:
    """A plan over random edges backwards: the same tasks, the same edges, no findings."""
    edges = {
        number: sorted(
            data.draw(st.sets(st.integers(min_value=1, max_value=number - 1))) if number > 1 else set()
        )
        for number in range(1, count + 1)
    }
    marks = data.draw(st.lists(st.sampled_from(" x~!"), min_size=count, max_size=count))
    lines = []
    for number, on in edges.items():
        lines.append(f"- [{marks[number - 1]}] A.1.{number} Task {number}")
        if on:
            lines.append(f"  - depends: {', '.join(f'A.1.{other}' for other in on)}")
    plan = read_plan("\n".join(lines))
    assert {finding.code for finding in plan.findings} <= {"done-too-early"}
    assert [task.key for task in plan.tasks] == [f"A.1.{number}" for number in edges]
    spans = [task.span for task in plan.tasks if task.span]
    assert [plan.source[span.start : span.end] for span in spans] == marks
    assert {(edge.task, edge.on) for edge in plan.dependencies} == {
        (f"A.1.{number}", f"A.1.{other}") for number, on in edges.items() for other in on
    }
