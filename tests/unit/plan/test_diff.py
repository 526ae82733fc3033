"""Which task of an edited plan is which, and what the edit changes."""

import random
from dataclasses import replace

import pytest

from orchestrator.plan.diff import ChangeKind, diff_plans
from orchestrator.plan.identity import match_tasks
from orchestrator.plan.model import Mark
from orchestrator.plan.read import read_plan

PLAN = """\
# Shop

## Cart

- [ ] Write the cart service
- [ ] Write tests
- [x] Draw the icons

## Payment

- [ ] Call the bank
- [ ] Write tests
- [ ] **B.1** Print receipts
"""


def diff(old, new):
    before = read_plan(old)
    return diff_plans(before.tasks, before.dependencies, read_plan(new))


def told(found):
    return [(change.kind.value, change.title, *change.reasons) for change in found.changes]


def test_the_same_text_changes_nothing():
    found = diff(PLAN, PLAN)
    assert found.is_empty
    assert all(key == old for key, old in found.old_of.items())


def test_words_around_the_tasks_change_nothing():
    assert diff(PLAN, PLAN.replace("# Shop\n", "# Shop\n\nA shop for everybody.\n\n")).is_empty


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("- [ ] Draw", "- [ ] Draw", []),
        ("Write the cart service", "Write the cart services", [("changed", "title")]),
        ("**B.1** Print receipts", "**B.1** Send mails", [("changed", "title")]),
        ("**B.1** Print", "**B.7** Print", [("changed", "id, was B.1")]),
        ("Call the bank\n- ", "Call the bank [P0]\n- ", [("changed", "priority")]),
        ("- [ ] Call the bank\n", "- [ ] Call the bank\n  - verify: `true`\n", [("changed", "verify")]),
        ("- [x] Draw the icons\n", "", [("removed",)]),
        ("- [x] Draw the icons\n", "- [x] Draw the icons\n- [ ] Sing\n", [("added",)]),
        ("- [x] Draw the icons\n", "- [x] Something else entirely\n", [("added",), ("removed",)]),
        (
            "- [ ] Call the bank\n",
            "- [ ] Call the bank\n  - [ ] Dial\n",
            [("added",), ("added",), ("removed",)],
        ),
    ],
)
def test_each_edit_is_told_with_its_reason(old, new, expected):
    assert PLAN.count(old) == 1 or old == new
    found = diff(PLAN, PLAN.replace(old, new))
    assert sorted((kind, *reasons) for kind, _, *reasons in told(found)) == sorted(expected)


def test_equal_titles_keep_to_their_parents_when_the_order_changes():
    parts = PLAN.split("\n## ")
    swapped = "\n## ".join([parts[0], parts[2] + "\n", parts[1]])
    found = diff(PLAN, swapped)
    assert [change.kind for change in found.changes] == [ChangeKind.MOVED]
    assert all(key == old for key, old in found.old_of.items())


def test_a_task_under_another_parent_is_moved_and_keeps_its_key():
    line = "- [x] Draw the icons\n"
    found = diff(PLAN, PLAN.replace(line, "") + line)
    assert told(found) == [("moved", "Draw the icons", "under payment")]


def test_one_that_goes_to_the_end_is_the_one_that_moved():
    old = "# P\n\n" + "".join(f"- [ ] Task {name}\n" for name in ("red", "green", "blue", "black"))
    new = "# P\n\n" + "".join(f"- [ ] Task {name}\n" for name in ("green", "blue", "black", "red"))
    assert told(diff(old, new)) == [("moved", "Task red", "in its order")]


def test_a_mark_is_no_change_of_the_task():
    found = diff(PLAN, PLAN.replace("[ ] Call", "[x] Call").replace("[x] Draw", "[ ] Draw"))
    assert found.changes == ()
    assert [(mark.key, mark.old, mark.new) for mark in found.marks] == [
        ("draw-the-icons", Mark.DONE, Mark.OPEN),
        ("call-the-bank", Mark.OPEN, Mark.DONE),
    ]


def test_a_derived_key_stays_when_the_title_changes_and_an_id_wins():
    found = diff(
        PLAN, PLAN.replace("Call the bank\n- ", "Call the banks\n- ").replace("Draw", "**C.1** Draw")
    )
    keys = {task.title: task.key for task in found.plan.tasks}
    assert keys["Call the banks"] == "call-the-bank"
    assert keys["Draw the icons"] == "C.1"


def test_a_new_task_does_not_get_the_key_of_one_that_was_renamed():
    old = "# P\n\n- [ ] Paint the fence\n"
    new = "# P\n\n- [ ] Paint the fences\n- [ ] Sing\n"
    renamed = diff(old, new).plan
    again = diff_plans(
        renamed.tasks, (), read_plan("# P\n\n- [ ] Paint the fences\n- [ ] paint, the: fence!\n")
    )
    keys = [task.key for task in again.plan.tasks]
    assert keys[0] == "paint-the-fence"
    assert len(set(keys)) == 2


def test_any_reordering_keeps_every_task():
    """Seeded: 200 shuffles of 30 tasks, half of them without an id, with 3 titles changed a little."""
    draw = random.Random(7)
    for _ in range(200):
        names = [
            f"{f'**A.{n}** ' if n % 2 else ''}Make part {n} of the {draw.choice('abc')}" for n in range(30)
        ]
        before = read_plan("# P\n\n" + "".join(f"- [ ] {name}\n" for name in names))
        edited = [*names]
        for n in draw.sample(range(1, 30, 2), 3):
            edited[n] += " with care"
        order = draw.sample(range(30), 30)
        after = read_plan("# P\n\n" + "".join(f"- [ ] {edited[n]}\n" for n in order))
        old_of = match_tasks(before.tasks, after.tasks)
        assert [old_of[task.key] for task in after.tasks] == [before.tasks[n].key for n in order]


def test_dependencies_are_compared_under_the_keys_that_stay():
    old = "# P\n\n- [ ] **A.1** x\n- [ ] **A.2** y\n  - depends: A.1\n"
    assert told(diff(old, old.replace("A.1", "A.9"))) == [("changed", "x", "id, was A.1")]
    assert told(diff(old, old.replace("  - depends: A.1\n", ""))) == [("changed", "y", "dependencies")]


def test_two_thousand_new_titles_are_compared_in_linear_time():
    """No timing here: what grows with the square would not end within the time of a test."""
    lines = [f"- [ ] Do number {n} of many things that are all alike\n" for n in range(2_000)]
    before = read_plan("# P\n\n" + "".join(lines)).tasks
    after = [replace(task, title=task.title.replace("many", "several")) for task in before]
    assert len(match_tasks(before, after)) == 2_000
