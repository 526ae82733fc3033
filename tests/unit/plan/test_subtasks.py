"""Writing subtasks into the text of a plan: in the notation of its author, and with nothing else changed."""

from __future__ import annotations

import re

import pytest

from orchestrator.core.words import TaskKind
from orchestrator.errors import PlanError
from orchestrator.plan import formats
from orchestrator.plan.model import Plan, PlanTask
from orchestrator.plan.read import read_files, read_plan
from orchestrator.plan.subtasks import FORMATS, require_decomposable, with_subtasks
from orchestrator.proposals import Subtask

SUBTASKS = (
    Subtask(title="Draw the screens", acceptance=("Each is drawn",), estimate_min=90, touches=("docs/*.md",)),
    Subtask(
        title="Ask for words", acceptance=("They are here",), estimate_min=30, depends_on=(1,), agent="poet"
    ),
)
FIELDS = ("- estimate: 1h 30min", "- touches: `docs/*.md`", "- acceptance: Each is drawn")
MORE_FIELDS = ("- agent: `poet`", "- estimate: 30min", "- acceptance: They are here")


def first_leaf(plan: Plan) -> PlanTask:
    return next(task for task in plan.tasks if task.kind is TaskKind.LEAF)


def decomposed(text: str, *subtasks: Subtask) -> str:
    plan = read_plan(text)
    edit = with_subtasks({"": text}, first_leaf(plan), subtasks or SUBTASKS, format=plan.format)
    return edit.files[""]


def written(lead: str, inner: str, first: str, second: str, on: str, *, end: str = "\n") -> str:
    """The lines of SUBTASKS with these heads."""
    lines = [
        *(f"{lead}{first}", *(f"{inner}{field}" for field in FIELDS)),
        *(f"{lead}{second}", *(f"{inner}{field}" for field in MORE_FIELDS), f"{inner}- depends: {on}"),
    ]
    return "".join(f"{line}{end}" for line in lines)


BOLD = ("- [ ] **A.1.1** Draw the screens", "- [ ] **A.1.2** Ask for words", "A.1.1")
PLAIN = ("- [ ] A.1.1: Draw the screens", "- [ ] A.1.2: Ask for words", "A.1.1")
CASES = {
    "below fields and words": (
        "# S\n\n- [ ] **A.1** Design it\n  - estimate: 8h\n\n  Words.\n",
        written("  ", "    ", *BOLD),
        "\n- [ ] **A.2** Build it\n",
    ),
    "four blanks": (
        "# S\n\n- [ ] A.1: Design it\n    Words.\n",
        written("    ", "        ", *PLAIN),
        "\n- [ ] A.2: Build it\n",
    ),
    "tabs and CRLF": (
        "# S\r\n\r\n- [ ] A.1: Design it\r\n\t- estimate: 8h\r\n",
        written("\t", "\t\t", *PLAIN, end="\r\n"),
        "- [ ] A.2: Build it",
    ),
    "nested": (
        "# S\n\n- [ ] A Track\n  - [ ] **A.1** Design it\n",
        written("    ", "      ", *BOLD),
        "  - [ ] **A.2** Build it\n\nWords.\n",
    ),
    "numbered": (
        "# S\n\n1. [ ] **A.1** Design it\n",
        written("   ", "      ", *BOLD),
        "2. [ ] **A.2** Build it\n",
    ),
    "no ids": (
        "# S\n\n* [ ] Design it\n",
        written(
            "  ",
            "    ",
            "* [ ] Draw the screens <!-- id: design-it.1 -->",
            "* [ ] Ask for words <!-- id: design-it.2 -->",
            "design-it.1",
        ),
        "* [ ] Build it\n",
    ),
    "a heading": (
        "# S\n\n## Track A\n\n### Task A.1: Design it\n\nWords.\n",
        written("", "  ", "- [ ] Task A.1.1: Draw the screens", "- [ ] Task A.1.2: Ask for words", "A.1.1"),
        "\n### Task A.2: Build it\n\nWords.\n",
    ),
    "spec-kit": (
        "# Tasks: S\n\n## Phase 1: Setup\n\n- [ ] T001 [P] Make src/a.py\n",
        written("  ", "    ", "- [ ] T001.1 Draw the screens", "- [ ] T001.2 Ask for words", "T001.1"),
        "- [ ] T002 Make src/b.py\n",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_they_stand_below_their_task_as_its_author_writes(name: str) -> None:
    before, added, after = CASES[name]
    assert decomposed(before + after) == before + added + after


def test_a_last_line_without_end_gets_one() -> None:
    assert decomposed("# S\n\n- [ ] **A.1** Design it") == "# S\n\n- [ ] **A.1** Design it\n" + written(
        "  ", "    ", *BOLD
    )


def test_ids_that_are_taken_are_left_out() -> None:
    text = "# S\n\n- [ ] **A.1** Design it\n- [ ] **A.1.1** Old\n"
    assert re.findall(r"\*\*(.*?)\*\*", decomposed(text)) == ["A.1", "A.1.2", "A.1.3", "A.1.1"]


def test_they_take_agent_and_priority_of_their_task() -> None:
    text = "# S\n\n- [ ] **A.1** Design it\n  - agent: backend-development\n  - priority: P0\n"
    tasks = {task.key: task for task in read_plan(decomposed(text)).tasks}
    assert (tasks["A.1.1"].agent, tasks["A.1.2"].agent) == ("backend-development", "poet")
    assert {task.priority for task in tasks.values()} == {0}


@pytest.mark.parametrize(
    "title",
    [
        "[P0] Draw (depends: A.9)",
        "Draw `a` **b** — #3 @me",
        "run: `make all`",
        "- [x] Done?",
        "~~Draw~~",
        "A.2 Draw it",
        "Draw <!-- id: x -->",
    ],
)
def test_no_words_of_a_title_become_anything_else(title: str) -> None:
    subtask = replace_title(SUBTASKS[0], title)
    text = "# S\n\n- [ ] **A.1** Design it\n- [ ] **A.2** Build it\n"
    tasks = {task.key: task for task in read_plan(decomposed(text, subtask, SUBTASKS[1])).tasks}
    assert tasks["A.1.1"].title == title
    assert tasks["A.1.1"].run == ()
    assert tasks.keys() == {"A.1", "A.1.1", "A.1.2", "A.2"}


def replace_title(subtask: Subtask, title: str) -> Subtask:
    return Subtask.model_validate({**subtask.model_dump(), "title": title})


def test_in_a_folder_only_the_file_of_the_task_is_edited() -> None:
    files = {"a.md": "# A\n\n- [ ] **A.1** Design it\n", "b.md": "# B\n\n- [ ] **B.1** Build it\n"}
    plan = read_files(files)
    task = next(task for task in plan.tasks if task.key == "B.1")
    edit = with_subtasks(files, task, SUBTASKS, format=plan.format)
    assert edit.files["a.md"] == files["a.md"]
    assert edit.keys == ("B.1.1", "B.1.2")
    assert [task.source for task in read_files(edit.files).tasks if task.parent == "B.1"] == ["b.md", "b.md"]


REFUSED = {
    "a table": ("# S\n\n| id | task | status |\n|---|---|---|\n| A.1 | Draw | Open |\n", "no box"),
    "steps of a heading": (
        "# S\n\n## A.1 Shop\n\n### A.1.1 Design it\n\n- [ ] step\n\n### A.1.2 Build\n\n- [ ] step\n",
        "would not be read",
    ),
    "run": ("# S\n\n- [ ] A.1 Design it\n  - run: make\n", "`run:`"),
    "manual": ("# S\n\n- [ ] A.1 Design it\n  - manual: press it\n", "`manual:`"),
    "our JSON": (
        '{"plan_version": 1, "name": "S", "tasks": [{"key": "A.1", "title": "Design it"}]}',
        "format native",
    ),
    "Beads": ('{"id": "a", "title": "Design it", "status": "open"}\n', "format beads"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_they_have_no_place_they_are_refused(name: str) -> None:
    text, reason = REFUSED[name]
    plan = read_plan(text)
    with pytest.raises(PlanError, match=reason) as refused:
        require_decomposable({"": text}, first_leaf(plan), format=plan.format)
    assert refused.value.remedy


def test_a_task_with_subtasks_is_refused() -> None:
    text = "# S\n\n- [ ] **A.1** Design it\n  - [ ] **A.1.1** Draw\n"
    plan = read_plan(text)
    with pytest.raises(PlanError, match="has subtasks already"):
        require_decomposable({"": text}, plan.tasks[0], format=plan.format)


def test_inside_a_fence_they_would_be_words() -> None:
    with pytest.raises(PlanError, match="would not be read"):
        decomposed("# S\n\n- [ ] **A.1** Design it\n  ```\n- [ ] no\n  ```\n")


def test_a_task_of_spec_kit_takes_subtasks_too() -> None:
    assert {each.name for each in formats.FORMATS} >= FORMATS
    text = (
        "# Tasks: Shop\n\n## Phase 1: Setup\n\n- [ ] T001 Design it\n- [ ] T002 [P] Build it\n- [ ] T003 Go\n"
    )
    plan = read_plan(text)
    assert plan.format == "spec-kit"
    require_decomposable({"": text}, first_leaf(plan), format=plan.format)
    assert "  - [ ] T001.1 Draw the screens\n" in decomposed(text)
