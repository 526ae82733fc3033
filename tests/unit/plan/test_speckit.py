"""spec-kit's tasks: ids, tags, files, phases."""

from __future__ import annotations

from orchestrator.plan.read import read_plan

TEXT = """# Tasks: Prices

## Format: `[ID] [P?] [Story] Description`
- **[P]**: side by side

## Phase 1: Setup
- [x] T001 Create src/__init__.py
- [ ] **T002** [P] Write `docs/prices.md` and README.md

**Checkpoint**: the tree is there

## Phase 2: User Story 1 - Prices (Priority: P1) 🎯 MVP
**Independent Test**: a price can be read back
- [ ] T003 [P] [US1] [EXECUTOR: backend-development] Add the table in src/price.ts (depends on T001)
- [ ] T004 [PARALLEL-GROUP-A] Add src/tax/
- [ ] T005 [SEQUENTIAL] [ORCHESTRATOR] Join them
- [ ] T006 [BLOCKING: T005] Agree on [the] format
"""


def test_tags_phases_and_files() -> None:
    plan = read_plan(TEXT)
    assert (plan.format, plan.title) == ("spec-kit", "Tasks: Prices")
    assert "4 of them with tags" in plan.format_reason
    tasks = {task.key: task for task in plan.tasks}
    assert [(task.key, task.title) for task in plan.tasks if task.has_own_key] == [
        ("T001", "Create src/__init__.py"),
        ("T002", "Write `docs/prices.md` and README.md"),
        ("T003", "Add the table in src/price.ts"),
        ("T004", "Add src/tax/"),
        ("T005", "Join them"),
        ("T006", "Agree on [the] format"),
    ]
    assert [tasks[key].touches for key in ("T001", "T002", "T003", "T004", "T005")] == [
        ("src/__init__.py",),
        ("docs/prices.md", "README.md"),
        ("src/price.ts",),
        ("src/tax/",),
        (),
    ]
    assert (tasks["T003"].agent, tasks["T003"].options) == ("backend-development", {"story": "US1"})
    assert tasks["T005"].agent == "orchestrator"
    assert {("T003", "T001"), ("T005", "T006")} <= {
        (edge.task, edge.on) for edge in plan.dependencies if edge.is_explicit
    }


def test_checkpoints_make_milestones_and_independent_tests_acceptance() -> None:
    plan = read_plan(TEXT)
    setup, story = (task for task in plan.tasks if task.key.startswith("phase"))
    assert (setup.task_type, setup.acceptance) == ("milestone", ("the tree is there",))
    assert story.acceptance == ("a price can be read back",)
    assert story.priority == 1


def test_numbers_alone_are_no_spec_kit() -> None:
    assert read_plan("- [ ] T001 a\n- [ ] T002 b\n- [ ] T003 c\n").format == "coditect"


def test_a_tag_is_all_there_is() -> None:
    assert read_plan("# Tasks\n- [ ] T001 [P]\n- [ ] T002 b\n- [ ] T003 c\n").tasks[0].title == "T001"
