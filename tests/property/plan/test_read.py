"""Whatever the text, reading ends, says what it found, and contradicts itself nowhere."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.words import TaskKind
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.model import DependencyKind, Notation, Plan
from orchestrator.plan.read import read_plan
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
    assert plan.findings == ()
    assert [task.key for task in plan.tasks] == [f"A.1.{number}" for number in edges]
    spans = [task.span for task in plan.tasks if task.span]
    assert [plan.source[span.start : span.end] for span in spans] == marks
    assert {(edge.task, edge.on) for edge in plan.dependencies} == {
        (f"A.1.{number}", f"A.1.{other}") for number, on in edges.items() for other in on
    }
