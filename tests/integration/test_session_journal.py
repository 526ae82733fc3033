"""What a session of the backend `anthropic` tells its journal, and when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.words import AttemptState
from orchestrator.journal_ports import JournalEntry
from tests.support.journals import MemoryJournals
from tests.support.messages_api import MessagesApi, Reply, call, done
from tests.support.model_session import ModelSession
from tests.support.sessions import BASE


class WatchedJournals(MemoryJournals):
    """Notes what is in the workspace whenever a session waits for an entry."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.found: list[list[str]] = []
        self._folder = folder

    async def store(self, entry: JournalEntry) -> None:
        """Keep an entry."""
        self.found.append(sorted(path.name for path in self._folder.iterdir()))
        await super().store(entry)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ModelSession]:
    folder = tmp_path / "work"
    folder.mkdir()
    with MessagesApi() as api:
        made = ModelSession(api, folder)
        made.journals = WatchedJournals(folder)
        yield made
        assert api.problems == []


def kinds_of(entry: bytes) -> list[str]:
    messages: list[dict[str, Any]] = json.loads(entry)["messages"]
    return [block["type"] for message in messages for block in message["content"]]


async def test_calls_are_stored_before_they_are_carried_out_and_results_after(session: ModelSession) -> None:
    await session.run(Reply([call("bash", command="touch first")]), Reply([done()]))
    assert isinstance(session.journals, WatchedJournals)
    assert session.journals.found == [[], ["first"]]
    entries = session.journals.entries(BASE.token)
    assert [kinds_of(entry) for entry in entries] == [["text", "tool_use"], ["tool_result"], ["tool_use"]]


async def test_the_next_attempt_goes_on_and_pays_for_its_own_requests_alone(session: ModelSession) -> None:
    session.api.scenario = lambda request: Reply([call("bash", command=f"echo {request.turn} >> log")])
    first = await session.run(limits={"turns_max": 3})
    session.journals.cut.add(BASE.token)
    again = await session.run(
        Reply([call("bash", command="wc -l < log")]), Reply([done()]), token=BASE.token + 1, number=2
    )
    assert (first.usage.requests, again.usage.requests) == (3, 2)
    assert again.state is AttemptState.SUCCEEDED
    assert session.api.requests[3].turn == 3
    assert "\n3\n" in session.api.requests[4].results[0]["content"]
