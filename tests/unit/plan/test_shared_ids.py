"""Ids that several tasks share: both are kept, and which is which outlives edits, in imports and in sync."""

from __future__ import annotations

import pytest

from orchestrator.core.words import BY_FILE, TaskState
from orchestrator.plan.diff import PlanDiff, diff_plans
from orchestrator.plan.markdown_out import to_markdown
from orchestrator.plan.model import Mark, Plan
from orchestrator.plan.read import read_files, read_plan
from orchestrator.plan.standing import Standing
from orchestrator.sync.three_way import merge

ONE = "## Part 1\n- [ ] 1.1 Buy wood\n- [ ] 1.2 Saw it\n"
TWO = "## Part 2\n- [ ] 1.1 Buy paint\n- [ ] 1.2 Mix it\n"
KEYS = {"Buy wood": "1.1", "Saw it": "1.2", "Buy paint": "1.1~2", "Mix it": "1.2~2"}


def _diff(old: str | Plan, new: str) -> PlanDiff:
    before = read_plan(old) if isinstance(old, str) else old
    return diff_plans(before.tasks, before.dependencies, read_plan(new))


def _keys(plan: Plan) -> dict[str, str]:
    return {task.title: task.key for task in plan.tasks if task.has_own_key}


def _told(found: PlanDiff) -> list[tuple[str, ...]]:
    return [(change.kind.value, change.title, *change.reasons) for change in found.changes]


def test_both_are_kept_and_reported() -> None:
    plan = read_plan(ONE + TWO)
    assert _keys(plan) == KEYS
    assert [(each.line, each.code, each.severity) for each in plan.findings] == [
        (5, "duplicate-id", "warning"),
        (6, "duplicate-id", "warning"),
    ]


@pytest.mark.parametrize(
    ("new", "changed"),
    [
        (ONE + TWO, []),
        (ONE + TWO.replace("paint", "good paint"), [("changed", "Buy good paint", "title")]),
        (ONE + TWO.replace("Buy paint", "Steal"), [("changed", "Steal", "title")]),
        ("## Part 0\n- [ ] 1.1 Think\n" + ONE + TWO, [("added", "Part 0"), ("added", "Think")]),
        (ONE + "- [ ] 1.1 Buy nails\n" + TWO, [("added", "Buy nails")]),
    ],
)
def test_each_keeps_its_key_when_the_text_is_edited(new: str, changed: list[tuple[str, ...]]) -> None:
    found = _diff(ONE + TWO, new)
    assert _told(found) == changed
    known = {task.key: found.old_of[task.key] for task in found.plan.tasks if task.key in found.old_of}
    assert all(key == old for key, old in known.items())
    assert len(known) == 6


def test_each_keeps_its_key_when_the_parts_change_places() -> None:
    found = _diff(ONE + TWO, TWO + ONE)
    assert _keys(found.plan) == KEYS
    assert [kind for kind, *_ in _told(found)] == ["moved"]
    assert _diff(found.plan, TWO + ONE).is_empty


def test_of_equal_titles_the_id_tells_which_is_which() -> None:
    part = "## {0}\n- [ ] 1.1 Write tests\n- [ ] 1.2 Write tests\n"
    turned = "## {0}\n- [ ] 1.2 Write tests\n- [ ] 1.1 Write tests\n"
    found = _diff(part.format("One") + part.format("Two"), part.format("One") + turned.format("Two"))
    assert [task.key for task in found.plan.tasks if task.has_own_key] == ["1.1", "1.2", "1.2~2", "1.1~2"]
    assert [kind for kind, *_ in _told(found)] == ["moved"]


def test_what_is_left_alone_gets_the_bare_id_and_stays_what_it_was() -> None:
    found = _diff(ONE + TWO, TWO)
    assert {key: old for key, old in found.old_of.items() if key != old} == {"1.1": "1.1~2", "1.2": "1.2~2"}
    assert _told(found)[:2] == [
        ("changed", "Buy paint", "id, was 1.1~2"),
        ("changed", "Mix it", "id, was 1.2~2"),
    ]


def test_the_remedy_is_another_id_for_the_same_task() -> None:
    found = _diff(ONE + TWO, ONE + TWO.replace("1.1", "2.1"))
    assert _told(found) == [("changed", "Buy paint", "id, was 1.1~2")]


def test_a_dependency_means_the_task_in_the_same_section_then_in_the_same_file() -> None:
    saw = ONE + "  - depends: 1.1\n"
    plan = read_plan(saw + TWO + "  - depends: 1.1\n- [ ] 1.3 Paint (after 1.1-1.2)\n")
    assert {(edge.task, edge.on) for edge in plan.dependencies} == {
        ("1.2", "1.1"),
        ("1.2~2", "1.1~2"),
        ("1.3", "1.1~2"),
        ("1.3", "1.2~2"),
    }
    files = read_files({"a.md": "- [ ] 1.1 a\n", "b.md": "- [ ] 1.1 b\n- [ ] 1.2 c\n  - depends: 1.1\n"})
    assert [(edge.task, edge.on) for edge in files.dependencies] == [("1.2", "1.1~2")]
    other = read_plan("- [ ] A.1 a\n- [ ] A.1 b\n  - depends: A.1\n")
    assert [(edge.task, edge.on) for edge in other.dependencies] == [("A.1~2", "A.1")]


def test_a_dependency_may_name_the_number_too() -> None:
    plan = read_plan(
        ONE
        + TWO
        + "  - depends: 1.1\n- [ ] 1.3 Paint (after 1.1 and 1.1~2)\n## Rest\n- [ ] 2.1 x (after 1.2~2)\n"
    )
    edges = {(edge.task, edge.on) for edge in plan.dependencies}
    assert edges == {("1.2~2", "1.1~2"), ("1.3", "1.1~2"), ("2.1", "1.2~2")}
    again = read_plan(to_markdown(plan))
    assert [(task.title, task.key) for task in again.tasks] == [(task.title, task.key) for task in plan.tasks]
    assert {(edge.task, edge.on) for edge in again.dependencies} == edges


def test_a_section_and_a_task_in_it_may_share_an_id() -> None:
    plan = read_plan("## 1.1 Sprint\n- [ ] 1.1 Plan it\n- [ ] 1.2 Do it\n  - depends: 1.1\n")
    assert plan.errors == ()
    assert [(edge.task, edge.on) for edge in plan.dependencies] == [("1.2", "1.1~2")]


def test_sync_follows_marks_of_each_on_its_own() -> None:
    base = read_plan(ONE + TWO)
    database = {key: Standing(TaskState.READY) for key in _keys(base).values()}
    edited = (TWO + ONE).replace("[ ] 1.1 Buy wood", "[x] 1.1 Buy wood")
    found = merge(base.tasks, read_plan(edited).tasks, {"": edited}, database)
    assert [(sent.key, sent.mark) for sent in found.sends] == [("1.1", Mark.DONE)]
    done = merge(
        base.tasks,
        read_plan(TWO + ONE).tasks,
        {"": TWO + ONE},
        {**database, "1.1~2": Standing(TaskState.DONE, BY_FILE)},
    )
    assert done.files[""] == (TWO + ONE).replace("[ ] 1.1 Buy paint", "[x] 1.1 Buy paint")
