"""Sessions that go on after the loss of their executor.

The processes are real and are killed, PostgreSQL is real, and so are the SDKs, against local servers of both
APIs.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.words import AttemptState
from orchestrator.store.crypto import new_key
from orchestrator.store.urls import DatabaseUrls
from orchestrator.workspace import tree
from tests.support.desk import Desk
from tests.support.messages_api import MessagesApi, Reply, Request, call, done, thinking
from tests.support.openai_api import OpenAIApi

pytestmark = pytest.mark.postgres

PATIENCE_S = 240.0
TURNS = 10
LOST_IN = 5


class Office:
    """Runs the attempts of one task, each in a process of its own. Each turn adds a line to the file `log`.

    Attributes:
        hangs: turns in which something does not come to its end, once: the `tool`, or the `request`.
    """

    def __init__(self, desk: Desk, api: MessagesApi, folder: Path) -> None:
        self.desk = desk
        self.api = api
        self.keys = [new_key()]
        self.hangs = {LOST_IN: "tool"}
        self.is_over = threading.Event()
        self._folder = folder
        (folder / "work").mkdir()
        api.scenario = self._answer

    def _answer(self, request: Request) -> Reply:
        turn = request.turn + 1
        if turn == TURNS:
            return Reply([done("Ten turns.")])
        hanging = self.hangs.pop(turn, "")
        if hanging == "request":
            self.is_over.wait()
        hang = "; sleep 600" if hanging == "tool" else ""
        return Reply([thinking(f"Turn {turn}."), call("bash", command=f"echo {turn} >> log{hang}")])

    @property
    def log(self) -> list[str]:
        """The turns whose tool has run."""
        path = self._folder / "work" / "log"
        return path.read_text().split() if path.exists() else []

    def messages(self, request: int) -> list[dict[str, Any]]:
        """Return the messages of a request."""
        found: list[dict[str, Any]] = self.api.requests[request].body["messages"]
        return found

    async def start(self, number: int) -> Process:
        """Begin an attempt."""
        await self.desk.lease(number)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.session_process", stdin=PIPE, stdout=PIPE
        )
        given = {
            "service_url": self.desk.urls.service,
            "keys": self.keys,
            "token": number,
            "provider": "openai" if isinstance(self.api, OpenAIApi) else "anthropic",
            "base_url": self.api.base_url,
            "folder": str(self._folder / "work"),
            "records": str(self._folder / "records"),
        }
        assert process.stdin is not None
        process.stdin.write(json.dumps(given).encode())
        process.stdin.write_eof()
        return process

    async def lose(self, process: Process, number: int, *, when: Callable[[], bool]) -> None:
        """Kill the process of an attempt at a moment, and declare the attempt lost."""
        async with asyncio.timeout(PATIENCE_S):
            while not when():
                assert process.returncode is None
                await asyncio.sleep(0.02)
        process.kill()
        await process.wait()
        async with asyncio.timeout(PATIENCE_S):
            while not tree.confirm_gone(self._folder / "records", number):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await self.desk.lose(number)

    async def finish(self, number: int) -> str:
        """Run an attempt to its end; return the notes of its transcript."""
        process = await self.start(number)
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode()

    def result(self, number: int) -> tuple[str, int]:
        """Return the state of an attempt's result, and the requests that it counts."""
        (row,) = self.desk.rows.all("SELECT state, requests FROM attempts WHERE token = %s", number)
        return row["state"], row["requests"]


@pytest.fixture
def office(database: DatabaseUrls, tmp_path: Path) -> Iterator[Office]:
    with MessagesApi() as api:
        made = Office(Desk(database), api, tmp_path)
        yield made
        made.is_over.set()
        assert api.problems == [], "a request of ours was refused"


@pytest.fixture
async def lost(office: Office) -> AsyncIterator[Office]:
    """The office after the process of the first attempt was killed while a tool of turn LOST_IN ran."""
    process = await office.start(1)
    await office.lose(process, 1, when=lambda: len(office.log) == LOST_IN)
    yield office
    await office.desk.close()


async def test_killed_while_a_tool_ran_it_goes_on_and_is_told_that_nobody_knows(lost: Office) -> None:
    notes = await lost.finish(2)
    assert "session of attempt 1, which was cut short, goes on after 5 answers" in notes
    *before, last = lost.messages(LOST_IN)
    assert before[:-1] == lost.messages(LOST_IN - 1)
    assert [block["type"] for block in last["content"]] == ["tool_result", "text"]
    assert last["content"][0]["is_error"]
    assert "nobody knows whether it took effect" in last["content"][0]["content"]
    assert lost.log == [str(turn) for turn in range(1, TURNS)]  # what was done is not done again
    assert lost.result(2) == (AttemptState.SUCCEEDED, TURNS - LOST_IN)
    assert len(lost.api.requests) == TURNS


async def test_a_session_over_chat_completions_goes_on_as_well(
    database: DatabaseUrls, tmp_path: Path
) -> None:
    with OpenAIApi() as api:
        office = Office(Desk(database), api, tmp_path)
        process = await office.start(1)
        await office.lose(process, 1, when=lambda: len(office.log) == LOST_IN)
        notes = await office.finish(2)
        await office.desk.close()
        assert api.problems == []
    assert "session of attempt 1, which was cut short, goes on after 5 answers" in notes
    *before, result, words = office.messages(LOST_IN)
    asked = office.messages(LOST_IN - 1)
    assert before[: len(asked)] == asked
    assert before[-1]["tool_calls"][0]["id"] == result["tool_call_id"], "the call that nobody had answered"
    assert result["content"].startswith("Error: Interrupted")
    assert "goes on in a new process" in words["content"]
    assert office.log == [str(turn) for turn in range(1, TURNS)]
    assert office.result(2) == (AttemptState.SUCCEEDED, TURNS - LOST_IN)
    assert len(api.requests) == TURNS


async def test_killed_while_it_waited_for_an_answer_it_asks_the_same_again(office: Office) -> None:
    office.hangs = {LOST_IN + 1: "request"}
    process = await office.start(1)
    # All of turn 5 is stored: its calls before they were carried out, and what came of them.
    entries = 2 * LOST_IN

    def has_asked() -> bool:
        return len(office.api.requests) == LOST_IN + 1 and len(office.desk.stored()) >= entries

    await office.lose(process, 1, when=has_asked)
    await office.finish(2)
    asked, again = office.messages(LOST_IN), office.messages(LOST_IN + 1)
    assert again[:-1] == asked[:-1]
    assert again[-1]["content"][:-1] == asked[-1]["content"]
    assert "goes on in a new process" in again[-1]["content"][-1]["text"]
    assert office.log == [str(turn) for turn in range(1, TURNS)]
    assert office.result(2) == (AttemptState.SUCCEEDED, TURNS - LOST_IN)
    await office.desk.close()


async def test_lost_twice_it_goes_on_twice(lost: Office) -> None:
    lost.hangs = {LOST_IN + 2: "tool"}
    process = await lost.start(2)
    await lost.lose(process, 2, when=lambda: len(lost.log) == LOST_IN + 2)
    notes = await lost.finish(3)
    assert "session of attempt 2, which was cut short, goes on after 7 answers" in notes
    assert lost.log == [str(turn) for turn in range(1, TURNS)]
    assert lost.result(3) == (AttemptState.SUCCEEDED, TURNS - LOST_IN - 2)
    assert len(lost.api.requests) == TURNS


async def test_with_another_key_it_begins_anew_and_says_why(lost: Office) -> None:
    lost.keys = [new_key()]
    notes = await lost.finish(2)
    assert "begins anew. The journal of attempt 1 cannot be read" in notes
    assert len(lost.messages(LOST_IN)) == 1
    assert lost.result(2) == (AttemptState.SUCCEEDED, TURNS)


async def test_with_another_text_of_its_task_it_begins_anew_and_says_why(lost: Office) -> None:
    lost.desk.rows.all("UPDATE tasks SET body = 'Otherwise.'")
    assert "its task, its tools or its model are no longer the same" in await lost.finish(2)
    assert len(lost.messages(LOST_IN)) == 1
    assert lost.result(2) == (AttemptState.SUCCEEDED, TURNS)
