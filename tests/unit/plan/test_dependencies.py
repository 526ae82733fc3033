"""What authors say about dependencies, and the edges it makes."""

from __future__ import annotations

import pytest

from orchestrator.errors import PlanError
from orchestrator.plan.dependencies import edges
from orchestrator.plan.dependencies.references import references
from orchestrator.plan.model import DependencyKind, Plan
from orchestrator.plan.read import read_plan


def _edges(plan: Plan) -> set[tuple[str, str]]:
    return {(edge.task, edge.on) for edge in plan.dependencies}


def _chain(count: int, field: str) -> str:
    """Tasks 1.1 to 1.n, the last with the field."""
    return "".join(f"- [ ] 1.{number} x\n" for number in range(1, count + 1)) + f"  - {field}\n"


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("None", []),
        ("None (foundation for all others)", []),
        ("N/A", []),
        ("-", []),
        ("", []),
        ("No dependencies", []),
        ("Task 0.10, Task 0.11", ["key", "key"]),
        ("3.4, 4.4", ["key", "key"]),
        ("Tasks 2.3-2.5 complete", ["range"]),
        ("4.1 – 4.5", ["range"]),
        ("T001 to T004", ["range"]),
        ("T001..T004", ["range"]),
        ("`A.1.2`, #B.3", ["key", "key"]),
        ("All Phase 0 tasks", ["section"]),
        ("Phase 1 complete", ["section"]),
        ("Phases 3-8", ["section"]),
        ("All tasks", ["all"]),
        ("All backend tasks", ["topic"]),
        ("`coditect-core`", ["outside"]),
        ("no-op-task", ["outside"]),
        ("E001-T001", ["key"]),
        ("P1-T01 - P1-T04", ["range"]),
        ("Track B.3.4", ["key"]),
        ("(A.1.1, A.1.2)", ["key", "key"]),
        ("A.1.1 (the schema)", ["key"]),
        ("TASK-X-1, TASK-X-2", ["key"] * 2),
    ],
)
def test_statements(text: str, kinds: list[str]) -> None:
    assert [reference.kind.value for reference in references(text)] == kinds


@pytest.mark.parametrize(
    "field", ["depends", "Depends On", "**Dependencies**", "after", "requires", "blocked by"]
)
def test_field_names(field: str) -> None:
    assert _edges(read_plan(_chain(3, f"{field}: 1.1, Task 1.2"))) == {("1.3", "1.1"), ("1.3", "1.2")}


@pytest.mark.parametrize(
    "note",
    [
        "(depends on #1.1)",
        "→ depends on #1.1",
        "- after 1.1",
        "[after 1.1]",
        "(blocked by Task 1.1)",
        "— requires `1.1`",
    ],
)
def test_notes_at_the_title(note: str) -> None:
    plan = read_plan(f"- [ ] 1.1 x\n- [ ] 1.2 y {note}\n")
    assert _edges(plan) == {("1.2", "1.1")}
    assert plan.findings == ()


def test_a_note_may_say_several_things() -> None:
    plan = read_plan("- [ ] T001.1 x\n- [ ] T001.2 y - after T001.1, informs T001.3\n- [ ] T001.3 z\n")
    assert [(edge.task, edge.on, edge.kind) for edge in plan.dependencies] == [
        ("T001.2", "T001.1", DependencyKind.BLOCKS),
        ("T001.3", "T001.2", DependencyKind.INFORMS),
    ]
    assert plan.tasks[1].title == "y"


def test_prose_with_unknown_ids_is_no_dependency() -> None:
    plan = read_plan("- [ ] 1.1 x (requires 3.11)\n- [ ] 1.2 y (after cluster created)\n")
    assert plan.dependencies == ()
    assert plan.findings == ()


def test_ranges_count_numbers_and_not_letters() -> None:
    assert _edges(read_plan(_chain(12, "depends: 1.9-1.11"))) == {
        ("1.12", "1.9"),
        ("1.12", "1.10"),
        ("1.12", "1.11"),
    }


def test_ranges_need_no_order_in_the_file() -> None:
    plan = read_plan("- [ ] 1.3 x\n- [ ] 1.1 y\n- [ ] 1.2 z\n- [ ] 1.4 w (depends on 1.1-1.3)\n")
    assert _edges(plan) == {("1.4", "1.1"), ("1.4", "1.2"), ("1.4", "1.3")}


def test_lists_below_a_field_and_the_other_direction() -> None:
    plan = read_plan(
        "#### Task 1.1: a\n"
        "**Blocks:**\n"
        "- 1.2\n"
        "- Task 1.3\n"
        "#### Task 1.2: b\n"
        "**Agent:** x\n"
        "#### Task 1.3: c\n"
        "**Depends On:**\n"
        "* 1.2\n"
    )
    assert _edges(plan) == {("1.2", "1.1"), ("1.3", "1.1"), ("1.3", "1.2")}


PHASES = """
## Phase 0: Core backend
- [ ] 0.1 a
- [ ] 0.2 b
  - depends: {inner}
## Phase 1: Frontend
- [ ] 1.1 c
- [ ] 1.2 d
  - depends: {outer}
"""


@pytest.mark.parametrize(
    ("inner", "outer", "edges"),
    [
        ("None", "Phase 0 complete", {("1.2", "phase-0")}),
        ("All Phase 0 tasks", "All Phase 0 tasks", {("0.2", "0.1"), ("1.2", "phase-0")}),
        ("All tasks", "All tasks", {("0.2", "0.1"), ("1.2", "1.1"), ("1.2", "phase-0")}),
        ("All backend tasks", "All backend tasks", {("0.2", "0.1"), ("1.2", "phase-0")}),
        ("None", "All frontend tasks", {("1.2", "1.1")}),
    ],
)
def test_groups(inner: str, outer: str, edges: set[tuple[str, str]]) -> None:
    plan = read_plan(PHASES.format(inner=inner, outer=outer))
    assert _edges(plan) == edges
    assert plan.findings == ()


def test_a_topic_is_no_key_though_a_section_has_its_name() -> None:
    plan = read_plan("## Backend\n- [ ] 1.1 x\n- [ ] 1.2 y\n  - depends: all backend tasks\n")
    assert _edges(plan) == {("1.2", "1.1")}
    assert plan.findings == ()


def test_a_dependency_of_a_container_holds_for_its_leaves() -> None:
    plan = read_plan(
        "## Phase 1: a\n"
        "- [ ] 1.1 x\n"
        "## Phase 2: b\n"
        "**Dependencies:** Phase 1\n"
        "- [ ] 2.1 y\n"
        "  - [ ] 2.2 z\n"
        "- [ ] 2.3 w\n"
    )
    assert _edges(plan) == {("2.2", "phase-1"), ("2.3", "phase-1")}


def test_an_explicit_dependency_carries_its_evidence() -> None:
    (edge,) = read_plan(_chain(2, "depends: Task 1.1")).dependencies
    assert (edge.evidence, edge.line, edge.is_explicit, edge.confidence) == ("1.1", 3, True, 1.0)


def test_prose_without_a_strong_word_orders_nothing() -> None:
    (edge,) = read_plan("- [ ] 1.1 x\n- [ ] 1.2 Uses the output of 1.1\n").dependencies
    assert (edge.kind, edge.is_explicit) == (DependencyKind.INFORMS, False)


@pytest.mark.parametrize(
    ("field", "code", "severity", "words"),
    [
        ("depends: 1.9", "unknown-dependency", "error", "1.2 depends on 1.9"),
        ("depends: 1.1-1.9", "unknown-dependency", "error", "1.1-1.9"),
        ("depends: `coditect-core`", "outside-dependency", "warning", "coditect-core"),
        ("depends: A.1.1", "outside-dependency", "warning", "outside this plan"),
        ("depends: 1.1, the API keys", None, "", ""),
        ("depends: Phase 7", "outside-dependency", "warning", "Phase 7"),
        ("depends: 1.2", "self-dependency", "error", "depends on itself"),
    ],
)
def test_faults(field: str, code: str | None, severity: str, words: str) -> None:
    findings = read_plan(_chain(2, field)).findings
    assert [(finding.code, finding.severity, finding.line) for finding in findings] == (
        [(code, severity, 3)] if code else []
    )
    assert all(words in finding.message for finding in findings)


def test_a_section_without_tasks_is_named_with_its_line() -> None:
    plan = read_plan("### A.1 Prose\n### A.2 Work\n- [ ] A.2.1 x (depends on A.1)\n")
    assert [(finding.severity, "line 1" in finding.message) for finding in plan.findings] == [
        ("warning", True)
    ]


def test_too_many_dependencies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "DEPENDENCIES_MAX", 20)
    text = "".join(f"- [ ] 1.{number} x\n  - depends: all tasks\n" for number in range(1, 20))
    with pytest.raises(PlanError, match="more than 20 dependencies"):
        read_plan(text)


def test_a_task_may_be_called_by_its_whole_title() -> None:
    plan = read_plan(
        "- [ ] 1.1 Lay the `floor`\n- [ ] 1.2 Roof\n- [ ] 1.3 Walls\n  - depends: lay the `Floor`, 1.2\n"
    )
    assert _edges(plan) == {("1.3", "1.1"), ("1.3", "1.2")}
    assert plan.findings == ()


def test_a_title_that_two_tasks_have_calls_neither() -> None:
    plan = read_plan("- [ ] 1.1 Floor plan\n- [ ] 1.2 Floor plan\n- [ ] 1.3 Walls\n  - depends: Floor plan\n")
    assert _edges(plan) == set()
    assert [finding.code for finding in plan.findings] == ["outside-dependency"]


NOTATIONS = """# Plan
## Phase 0: Core backend
- [ ] 0.1 Schema
- [ ] 0.2 Tables
- [ ] 0.3 Loader
## Phase 1: Screens
- [ ] 1.1 Frame{title}
{lines}
- [ ] 1.2 Menu
"""
ALL_THREE = {("1.1", "0.1"), ("1.1", "0.2"), ("1.1", "0.3")}


@pytest.mark.parametrize(
    ("title", "lines", "edges"),
    [
        pytest.param("", "  **Dependencies:** Task 0.1, Task 0.2, Task 0.3", ALL_THREE, id="ids with word"),
        pytest.param("", "  **Dependencies**: 0.1, 0.2, 0.3", ALL_THREE, id="bare numbers"),
        pytest.param("", "  **Dependencies**: 0.1-0.3", ALL_THREE, id="range"),
        pytest.param("", "  **Dependencies:** All Phase 0 tasks", {("1.1", "phase-0")}, id="group"),
        pytest.param("", "  **Dependencies:** Tasks 0.1-0.3 complete", ALL_THREE, id="plus state"),
        pytest.param("", "  **Dependencies:** Phase 0 complete", {("1.1", "phase-0")}, id="phase plus state"),
        pytest.param("", "  **Dependencies:** None (foundation for all others)", set(), id="none"),
        pytest.param("", "  **Dependencies:** `coditect-core`", set(), id="outside thing"),
        pytest.param(" (depends on 0.1, 0.2)", "", {("1.1", "0.1"), ("1.1", "0.2")}, id="in brackets"),
        pytest.param(" → depends on #0.1", "", {("1.1", "0.1")}, id="tail arrow"),
        pytest.param(
            "",
            "## Critical path\n```\n0.1 Schema → 0.3 Loader → 1.1 Frame → Launch\n```",
            {("0.3", "0.1"), ("1.1", "0.3")},
            id="chain in a fence",
        ),
        pytest.param(
            "", "  **Depends On:**\n  - 0.1\n  - 0.2", {("1.1", "0.1"), ("1.1", "0.2")}, id="template"
        ),
        pytest.param("", "  **Blocks:**\n  - 1.2", {("1.2", "1.1")}, id="template of the other side"),
        pytest.param(
            "", "  This requires 0.2, and it is blocked by 0.3.", {("1.1", "0.2"), ("1.1", "0.3")}, id="prose"
        ),
        pytest.param("", "  Unblocks 1.2 and the docs site.", {("1.2", "1.1")}, id="prose of the other side"),
        pytest.param(
            "", "  ## Dependencies\n  ├─► 0.1 (2 days)\n  └─► 0.2 → 0.3 (1 day)", set(), id="drawing"
        ),
    ],
)
def test_every_notation_that_was_seen(title: str, lines: str, edges: set[tuple[str, str]]) -> None:
    plan = read_plan(NOTATIONS.format(title=title, lines=lines))
    assert _edges(plan) == edges
    assert {edge.kind for edge in plan.dependencies} <= {DependencyKind.BLOCKS}


@pytest.mark.parametrize(
    "heading", ["B. Screens", "B: Screens", "B) Screens", "B — Screens", "Section B: Screens"]
)
@pytest.mark.parametrize("words", ["all of section B", "Section B", "all tasks of section B"])
def test_a_section_is_called_by_its_letter(heading: str, words: str) -> None:
    plan = read_plan(
        f"## {heading}\n- [ ] x\n## C. Rest\n- [ ] y\n  - depends: {words}\n- [ ] z\n  Needs {words}.\n"
    )
    assert [edge.task for edge in plan.dependencies] == ["y", "z"]
    assert {edge.on for edge in plan.dependencies} == {plan.tasks[0].key}


def test_the_previous_task_is_that_before_it_in_its_section() -> None:
    plan = read_plan(
        "## One\n- [ ] a\n  - [ ] a1\n  - [ ] a2\n    Runs after the previous step.\n"
        "- [ ] b\n  - depends: the previous task\n"
        "## Two\n- [ ] c\n  - depends: previous task\n- [ ] d\n  Blocked by the task above.\n"
    )
    assert [(edge.task, edge.on) for edge in plan.dependencies] == [("b", "a"), ("a2", "a1"), ("d", "c")]
    assert [(each.line, each.code) for each in plan.findings] == [(10, "outside-dependency")]


def test_the_previous_step_in_a_list_is_no_task() -> None:
    text = "### Task 1.1: a\n- [ ] x\n### Task 1.2: b\n- [ ] x\n- [ ] y, after the previous step\n"
    assert read_plan(text).dependencies == ()


def test_an_id_that_reads_like_none_is_an_id() -> None:
    plan = read_plan(
        "- [ ] A.1 a\n- [ ] b <!-- id: na -->\n"
        "- [ ] A.2 c\n  - depends: na, A.1\n- [ ] A.3 d\n  - depends: N/A\n"
    )
    assert [(edge.task, edge.on) for edge in plan.dependencies] == [("A.2", "na"), ("A.2", "A.1")]
    assert plan.findings == ()
