"""The order of phases, and of the lines of a phase, in a dialect that has one."""

from __future__ import annotations

from orchestrator.plan.model import DependencyKind, Plan, PlanDependency
from orchestrator.plan.read import read_files, read_plan

SHOP = """# Tasks: Shop
## Phase 1: Setup
- [ ] T001 Create the project in src/main.ts
## Phase 2: Foundational
- [ ] T002 Lay the tables
- [ ] T003 [P] Check the tables
## Phase 3: User Story 1 - Prices
- [ ] T004 [P] [US1] Show prices
## Phase 4: User Story 2 - Carts
- [ ] T005 [P] [US2] Fill carts
## Phase 5: Polish
- [ ] T006 [P] Write docs/prices.md
"""


def _implied(text: str) -> list[PlanDependency]:
    plan = read_plan(text)
    assert plan.format == "spec-kit"
    return [edge for edge in plan.dependencies if not edge.is_explicit]


def _blocking(plan: Plan) -> set[tuple[str, str]]:
    return {(edge.task, edge.on) for edge in plan.dependencies if edge.kind is DependencyKind.BLOCKS}


def test_phases_follow_each_other_and_stories_stand_side_by_side() -> None:
    assert _blocking(read_plan(SHOP)) == {
        ("T002", "phase-1"),
        ("T003", "phase-1"),
        ("T004", "phase-2"),
        ("T005", "phase-2"),
        ("T006", "phase-3"),
        ("T006", "phase-4"),
    }


def test_the_heading_of_a_phase_is_the_evidence() -> None:
    edge = next(edge for edge in _implied(SHOP) if edge.task == "T004")
    assert (edge.line, edge.evidence, edge.confidence) == (7, "Phase 3: User Story 1 - Prices", 0.8)
    assert SHOP.splitlines()[6][edge.start : edge.end] == edge.evidence


def test_a_barrier_costs_an_edge_a_task() -> None:
    tasks = "".join(f"- [ ] T{number:03} [P] x\n" for number in range(200))
    later = tasks.replace("T", "T9")
    assert len(_implied(f"## Phase 1: a\n{tasks}## Phase 2: b\n{later}")) == 200


def test_what_a_task_states_of_other_phases_replaces_its_barrier() -> None:
    text = SHOP.replace("Show prices", "Show prices (depends on T001)")
    assert ("T004", "T001") in _blocking(read_plan(text))
    assert ("T004", "phase-2") not in _blocking(read_plan(text))
    inside = SHOP.replace("Check the tables", "Check the tables (depends on T002)")
    assert {("T003", "T002"), ("T003", "phase-1")} <= _blocking(read_plan(inside))


def test_a_stated_order_of_phases_replaces_their_own() -> None:
    order = "## Dependencies\n- **User Story 2 (Phase 4)**: Depends on User Story 1\n"
    assert ("T005", "phase-3") in _blocking(read_plan(SHOP + order))
    assert ("T005", "phase-2") not in _blocking(read_plan(SHOP + order))


def test_a_barrier_that_contradicts_the_author_only_informs() -> None:
    plan = read_plan(SHOP.replace("src/main.ts", "src/main.ts (depends on T003)"))
    assert ("T001", "T003") in _blocking(plan)
    assert ("T003", "phase-1") not in _blocking(plan)
    assert plan.errors == ()


def test_a_task_informs_the_line_below_it() -> None:
    (edge,) = _implied("# Tasks\n- x\n## Phase 1: a\n- [ ] T001 x\n- [ ] T002 y\n- [ ] T003 [P] z\n")
    assert (edge.task, edge.on, edge.kind) == ("T002", "T001", DependencyKind.INFORMS)
    assert (edge.evidence, edge.line, edge.start, edge.end, edge.confidence) == ("T002", 5, 6, 10, 0.5)


def test_the_same_file_makes_the_order_of_lines_binding() -> None:
    text = "## Phase 1: a\n- [ ] T001 Add `src/a.ts`\n- [ ] T002 Extend {}\n- [ ] T003 [P] See src/a.ts\n"
    (edge,) = _implied(text.format("src/a.ts"))
    assert (edge.task, edge.on, edge.kind) == ("T002", "T001", DependencyKind.BLOCKS)
    assert (edge.evidence, edge.confidence) == ("src/a.ts", 0.75)
    assert [edge.kind for edge in _implied(text.format("src/b.ts"))] == [DependencyKind.INFORMS]


def test_two_words_with_a_slash_are_no_file() -> None:
    text = "## Phase 1: a\n- [ ] T001 [P] Add export/sync\n- [ ] T002 Try export/sync\n- [ ] T003 [P] c\n"
    assert [edge.kind for edge in _implied(text)] == [DependencyKind.INFORMS]


def test_a_task_that_states_the_reverse_does_not_follow() -> None:
    assert _implied("## Phase 1: a\n- [ ] T001 x (depends on T002)\n- [ ] T002 y\n- [ ] T003 [P] z\n") == []


def test_other_dialects_have_no_order_of_phases() -> None:
    text = "## Phase 1: a\n- [ ] 1.1 x in src/a.ts\n- [ ] 1.2 y in src/a.ts\n## Phase 2: b\n- [ ] 2.1 z\n"
    assert read_plan(text).dependencies == ()


def test_each_file_of_a_folder_has_its_own_phases() -> None:
    other = SHOP.replace("T00", "T10").replace("Phase ", "Phase 1")
    found = _blocking(read_files({"a.md": SHOP, "b.md": other}))
    assert ("T002", "phase-1") in found
    assert ("T102", "phase-11") in found
    assert not {on for task, on in found if task == "T101"}
