"""Marks of a file and states of the database are brought together; nothing else of the file changes."""

import pytest

from orchestrator.core.words import TaskState
from orchestrator.plan.model import Mark
from orchestrator.plan.read import read_plan
from orchestrator.plan.standing import Standing
from orchestrator.sync.three_way import MarkConflict, Sent, merge

BASE = "# P\n\n- [ ] **A.1** Dig\n- [x] **A.2** Fill\n- [~] **A.3** Sow\n- [ ] Water it\n"
STANDING = {
    "A.1": Standing(TaskState.READY),
    "A.2": Standing(TaskState.DONE),
    "A.3": Standing(TaskState.HELD, "in progress elsewhere"),
    "water-it": Standing(TaskState.WAITING),
}


def merged(file, **states):
    database = STANDING | {key.replace("_", "."): standing for key, standing in states.items()}
    return merge(read_plan(BASE).tasks, read_plan(file).tasks, {"": file}, database)


def test_nothing_new_on_either_side_is_nothing_to_do():
    found = merged(BASE)
    assert (found.files, found.base, found.sends, found.conflicts) == ({"": BASE}, {"": BASE}, (), ())


def test_what_the_database_did_is_written():
    found = merged(BASE, A_1=Standing(TaskState.DONE), A_2=Standing(TaskState.READY))
    assert found.files[""] == BASE.replace("[ ] **A.1", "[x] **A.1").replace("[x] **A.2", "[ ] **A.2")
    assert found.base == found.files
    assert found.sends == ()


@pytest.mark.parametrize(
    ("old", "new", "key", "mark"),
    [
        ("[ ] **A.1", "[x] **A.1", "A.1", Mark.DONE),
        ("[ ] **A.1", "[!] **A.1", "A.1", Mark.BLOCKED),
        ("[ ] **A.1", "[-] **A.1", "A.1", Mark.CANCELLED),
        ("[x] **A.2", "[ ] **A.2", "A.2", Mark.OPEN),
        ("[~] **A.3", "[ ] **A.3", "A.3", Mark.OPEN),
        ("[ ] Water it", "[X] Water it!", "water-it", Mark.DONE),
    ],
)
def test_what_the_author_marked_is_sent_and_the_base_waits_for_it(old, new, key, mark):
    edited = BASE.replace(old, new)
    found = merged(edited)
    assert found.sends == (Sent(key=key, mark=mark),)
    assert found.files == {"": edited}
    assert found.base == {"": BASE.replace(old, old[:3] + new[3:])}


def test_what_both_did_alike_is_agreed():
    edited = BASE.replace("[ ] **A.1", "[x] **A.1")
    found = merged(edited, A_1=Standing(TaskState.DONE))
    assert (found.base, found.sends, found.conflicts) == ({"": edited}, (), ())


def test_what_both_did_differently_is_a_conflict_and_the_rest_goes_on():
    edited = BASE.replace("[ ] **A.1", "[!] **A.1")
    found = merged(edited, A_1=Standing(TaskState.DONE), A_2=Standing(TaskState.READY))
    (conflict,) = found.conflicts
    assert conflict == MarkConflict(key="A.1", source="", line=3, in_file=Mark.BLOCKED, in_database=Mark.DONE)
    assert found.files[""] == edited.replace("[x] **A.2", "[ ] **A.2")
    assert found.base[""] == BASE.replace("[x] **A.2", "[ ] **A.2")
    assert found.sends == ()


def test_a_plan_that_was_cancelled_is_not_rewritten():
    found = merged(BASE, A_1=Standing(TaskState.CANCELLED, "plan cancelled"))
    assert found.files == {"": BASE}


def test_a_mark_follows_its_task_to_another_line_and_title():
    edited = "# P\n\nNew words.\n\n- [ ] Water it\n- [x] **A.2** Fill\n- [ ] **A.1** Dig deep\n"
    found = merged(edited, A_1=Standing(TaskState.DONE))
    assert found.files[""] == edited.replace("[ ] **A.1", "[x] **A.1")


def test_line_ends_tabs_and_a_byte_order_mark_stay():
    text = "\ufeff# P\r\n\r\n-\t[ ]\t**A.1** Dig  \r\n\t- [x] **A.2** Fill\t\r\n"
    found = merge(
        read_plan(text).tasks, read_plan(text).tasks, {"": text}, {"A.2": Standing(TaskState.READY)}
    )
    assert found.files[""] == text.replace("[x]", "[ ]")
