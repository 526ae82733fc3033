"""Journals of conversations: what is written is enough to go on, and what must not go on begins anew."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import EnvironmentFault
from orchestrator.ports import Assignment
from orchestrator.sessions.models.journal import Journal, Standing, _restored
from tests.support.journals import MemoryJournals
from tests.support.sessions import Recorder, assignment

TERMS = {"model": "m", "system": "be good"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": {"command": "rm -r x"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "ok", "is_error": False}


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def journal_of(
    journals: MemoryJournals, given: Assignment, folder: Path, *, terms: dict[str, Any] | None = None
) -> Journal:
    return Journal(journals, given, terms=terms or TERMS, folder=folder)


class Case:
    """A first attempt that wrote a journal and was lost, and the second that may go on from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journals = MemoryJournals()
        self.transcript = Recorder()
        self.standing = Standing.of_task("Do it.")
        self._first = journal_of(self.journals, assignment(token=1), folder)
        self.journals.cut.add(1)

    def says(self, *blocks: dict[str, Any]) -> None:
        self.standing.messages.append({"role": "assistant", "content": list(blocks)})

    def write(self) -> None:
        self._first.write(self.standing)

    async def take_up(
        self, *, folder: Path | None = None, terms: dict[str, Any] | None = None, **changes: Any
    ) -> Standing | None:
        second = assignment(**{"token": 2, "number": 2, **changes})
        taken = journal_of(self.journals, second, folder or self.folder, terms=terms)
        return await taken.take_up(self.transcript)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    made = Case(tmp_path)
    made.says(words("I do."), CALL)
    made.write()
    return made


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["answer", "say", "hand over", "count"]),
        st.text(st.characters(exclude_categories=()), max_size=20),
        st.booleans(),
    ),
    max_size=30,
)


@given(STEPS)
def test_however_a_conversation_went_the_last_entry_gives_it_back(steps: list[tuple[str, str, bool]]) -> None:
    journals, standing = MemoryJournals(), Standing.of_task("Do it.")
    journal = journal_of(journals, assignment(token=1), Path("/"))
    journals.cut.add(1)
    journal.write(standing)
    for step, text, is_written in steps:
        match step:
            case "answer":
                standing.messages.append({"role": "assistant", "content": [words(text)]})
            case "say":
                standing.say([words(text)])
            case "hand over":
                task = standing.task
                standing = Standing([], reminders=standing.reminders)
                standing.say([task, words(text)])
            case "count":
                standing.size, standing.is_long, standing.continuations = len(text), is_written, 3
        if is_written:
            journal.write(standing)
            lost = asyncio.run(journals.cut_before(2))
            assert lost is not None
            assert _restored(lost) == standing


def test_each_message_is_written_once(case: Case) -> None:
    for turn in range(20):
        case.standing.say([words("x" * 1000)])
        case.says(words(f"turn {turn}"))
        case.write()
    sizes = [len(entry) for entry in case.journals.entries(1)]
    assert max(sizes[2:]) < 2 * 1200


async def test_calls_without_results_are_answered_and_the_new_shell_is_told_of(case: Case) -> None:
    taken = await case.take_up()
    assert taken is not None
    assert taken.messages[:-1] == case.standing.messages
    result, note = taken.messages[-1]["content"]
    assert (result["tool_use_id"], result["is_error"]) == ("toolu_1", True)
    assert "nobody knows" in result["content"]
    assert "shell is a new one" in note["text"]


async def test_results_that_are_there_stay_as_they_are(case: Case) -> None:
    case.standing.say([RESULT])
    case.write()
    taken = await case.take_up()
    assert taken is not None
    assert taken.messages[-1]["content"][0] == RESULT
    assert len(taken.messages[-1]["content"]) == 2


async def test_a_model_that_was_to_go_on_from_its_own_words_does(case: Case) -> None:
    case.standing.say([RESULT])
    case.says(words("One mo"))
    case.write()
    assert await case.take_up() == case.standing


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "Other"},
        {"body": "Other."},
        {"acceptance": ("Other.",)},
        {"feedback": "Refused."},
        {"terms": {"model": "other", "system": "be good"}},
        {"terms": {"model": "m", "system": "be better"}},
    ],
)
async def test_another_task_or_model_begins_anew(case: Case, changes: dict[str, Any]) -> None:
    assert await case.take_up(**changes) is None
    assert "no longer the same" in case.transcript.text("note")


async def test_another_folder_begins_anew_also_under_the_same_name(case: Case, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert await case.take_up(folder=other) is None
    assert await case.take_up(folder=tmp_path / "nowhere") is None
    assert case.transcript.text("note").count("another folder, or on another machine") == 2
    assert await case.take_up() is not None


async def test_a_folder_that_was_made_anew_is_another_one(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    case = Case(folder)
    case.write()
    folder.rename(tmp_path / "old")
    folder.mkdir()
    assert await case.take_up() is None


async def test_a_session_that_had_written_nothing_begins_anew(tmp_path: Path) -> None:
    case = Case(tmp_path)
    assert await case.take_up() is None
    assert "had written nothing yet" in case.transcript.text("note")


async def test_another_format_begins_anew(case: Case) -> None:
    first = json.loads(case.journals.entries(1)[0])
    case.journals._entries[1][1] = json.dumps(first | {"format": 0}).encode()
    assert await case.take_up() is None
    assert "another version" in case.transcript.text("note")


async def test_a_journal_that_cannot_be_read_begins_anew_and_says_why(case: Case) -> None:
    case.journals.fault = EnvironmentFault("Its key is lost.", remedy="Bring it back.")
    assert await case.take_up() is None
    assert "Its key is lost. Bring it back." in case.transcript.text("note")


async def test_a_first_attempt_and_one_after_a_failure_have_nothing_to_say(case: Case) -> None:
    case.journals.cut.clear()
    assert await case.take_up() is None
    assert await case.take_up(token=1, number=1) is None
    assert case.transcript.entries == []
