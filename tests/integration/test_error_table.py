"""Every row of the error table, by each backend in which it means something, with a governor in the way."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.ports import Backend, Outcome
from orchestrator.runtime.governor import GovernorPolicy
from orchestrator.sessions.command import CommandBackend
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.grants import ExecutorGrants, GrantSettings
from orchestrator.sessions.registry import Provider, make_backends
from orchestrator.sessions.simulated import SimulatedBackend
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.claude_code_api import ClaudeCodeApi, bash, report
from tests.support.error_table import (
    CHAT,
    COMMAND,
    FATES,
    MESSAGES,
    OF_MODELS,
    ROWS,
    SIMULATED,
    Row,
    fate_of,
    is_as_expected,
)
from tests.support.governor import NearGovernor
from tests.support.journals import MemoryJournals
from tests.support.messages_api import API_KEY, MessagesApi, Reply, Request, call, done
from tests.support.notes import MemoryNoteBook
from tests.support.openai_api import OpenAIApi
from tests.support.sessions import MODEL, PRICES, Recorder, assignment, workspace

#: Pauses of milliseconds: a storm is over soon.
POLICY = GovernorPolicy(start_per_s=100.0, pause_ms=20)

#: The server of each backend that asks a model.
APIS: Mapping[str, type[MessagesApi]] = {
    "anthropic": MessagesApi,
    "claude-code": ClaudeCodeApi,
    "openai": OpenAIApi,
}

#: How many programs of Claude Code run at once.
AT_ONCE = 3

#: As long as a program may take to start on a busy machine.
SILENCE_S = {"anthropic": 0.5, "claude-code": 15.0, "openai": 0.5}


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a row: `requests` were sent, `accepted` of them answered at all."""

    outcome: Outcome
    requests: int
    transcript: Recorder


class Rows:
    """A service that behaves as the row says which the task names, and counts."""

    def __init__(self, table: Mapping[str, Row], *, going_on: Reply, ending: Reply) -> None:
        self._table = table
        self._going_on = going_on
        self._ending = ending
        self._lock = threading.Lock()
        self.asked: Counter[str] = Counter()
        self.met: set[str] = set()

    def __call__(self, request: Request) -> Reply:
        found = re.search(r"Meet \[(.+?)\]", request.task)
        assert found is not None, request.task
        with self._lock:
            self.asked[found[1]] += 1
            if found[1] == "all that passes":
                return self._passing(request.turn)
        row = self._table[found[1]]
        return row.reply if request.turn >= row.after else self._going_on

    def _passing(self, turn: int) -> Reply:
        """In each turn another row, once."""
        passing = [name for name, row in self._table.items() if row.is_asked_again]
        if turn >= len(passing):
            return self._ending
        if passing[turn] in self.met:
            return self._going_on
        self.met.add(passing[turn])
        return self._table[passing[turn]].reply


def backend_of(name: str, api: MessagesApi, folder: Path) -> Backend:
    """A backend with a governor of its own: a pause of one row is none of another."""
    config = SessionConfig(api_key=API_KEY, base_url=api.base_url, model=MODEL, prices=PRICES, retries_max=1)
    grants = ExecutorGrants(
        executor="e1", governor=NearGovernor(POLICY), settings=GrantSettings(wait_max_s=60)
    )
    launcher = ProcessLauncher(records=folder / "records")
    providers = dict.fromkeys(("anthropic", "openai"), Provider(config, grants))
    made = make_backends(providers, launcher, notes=MemoryNoteBook(), journals=MemoryJournals())
    return made[name]


PASSING = "all that passes"


async def run_row(
    backend: Backend, name: str, row: Row | None, folder: Path, *, number: int
) -> tuple[Outcome, Recorder]:
    """Let a session meet what a row says."""
    limits: dict[str, Any] = {"total_timeout_s": 240, "idle_timeout_s": 240}
    if row is not None:
        is_silent = row.reply.delay_s > 0
        limits |= ({"idle_timeout_s": SILENCE_S[backend.name]} if is_silent else {}) | dict(row.limits)
    given = {"title": f"Meet [{name}]", **(row.given if row else {})}
    transcript = Recorder()
    asked = assignment(backend=backend.name, token=100 + number, limits=limits, **given)
    return await backend.run(asked, workspace(folder), transcript), transcript


def run_all(name: str, folder: Path) -> dict[str, Ran]:
    """Let the sessions of a backend meet every row of its API, some side by side."""
    work = folder / "work"
    work.mkdir()
    (work / "seen.txt").write_text("seen\n")
    table = OF_MODELS[name]
    going_on, ending = Reply([call("glob", pattern="*")]), Reply([done()])
    if name == "claude-code":
        going_on, ending = Reply([bash("true")]), Reply([report()])
    api = APIS[name](rows := Rows(table, going_on=going_on, ending=ending))
    wanted: dict[str, Row | None] = {n: row for n, row in table.items() if name in row.backends}

    async def run() -> dict[str, Ran]:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, which: str, row: Row | None) -> Ran:
            async with places:
                backend = backend_of(name, api, folder)
                outcome, transcript = await run_row(backend, which, row, work, number=number)
            return Ran(outcome, rows.asked[which], transcript)

        wanted[PASSING] = None
        ran = await asyncio.gather(*(one(n, *item) for n, item in enumerate(wanted.items())))
        return dict(zip(wanted, ran, strict=True))

    with api:
        found = asyncio.run(run())
    assert api.problems == [], "a request of ours was refused"
    assert rows.met == {which for which, row in table.items() if row.is_asked_again}
    return found


@pytest.fixture(scope="module", params=list(APIS))
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Ran]]:
    """The name of a backend, and what came of its rows: they run once, for all tests."""
    name: str = request.param
    return name, run_all(name, tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("which", {**MESSAGES, **CHAT})
def test_class_message_retry_and_charge_of_a_session(backend: tuple[str, dict[str, Ran]], which: str) -> None:
    name, ran = backend
    row = OF_MODELS[name].get(which)
    if row is None or name not in row.backends:
        assert which not in ran
        return
    outcome, requests = ran[which].outcome, ran[which].requests
    assert is_as_expected(outcome, row), outcome
    assert re.search(row.words, outcome.summary), outcome.summary
    assert "\n" not in outcome.summary
    assert fate_of(outcome) == FATES[row.failure_class]
    if row.failure_class is FailureClass.RATE_LIMITED:
        assert (requests > row.after + 1) == row.is_asked_again
    else:
        assert requests == row.requests(name)


def test_what_passes_is_waited_out_in_one_session(backend: tuple[str, dict[str, Ran]]) -> None:
    name, ran = backend
    passing = sum(row.is_asked_again for row in OF_MODELS[name].values())
    found = ran[PASSING]
    assert found.outcome.state is AttemptState.SUCCEEDED, found.outcome
    # What Claude Code has read of an answer that broke off it may take for a turn, and go on from there.
    assert found.requests >= (passing if name == "claude-code" else 2 * passing) + 1


@pytest.mark.parametrize("which", [*COMMAND, *(f"simulated {name}" for name in SIMULATED)])
async def test_class_message_retry_and_charge_without_a_model(tmp_path: Path, which: str) -> None:
    backend: Backend
    if which in COMMAND:
        row, backend = COMMAND[which], CommandBackend(ProcessLauncher(records=tmp_path / "records"))
    else:
        row, backend = SIMULATED[which.removeprefix("simulated ")], SimulatedBackend()
    work = tmp_path / "work"
    work.mkdir()
    outcome, _ = await run_row(backend, which, row, work, number=1)
    assert is_as_expected(outcome, row), outcome
    assert re.search(row.words, outcome.summary), outcome.summary
    assert fate_of(outcome, kind=row.given.get("kind", AttemptKind.WORK)) == FATES[row.failure_class]


def test_every_class_that_a_session_can_end_with_has_its_fate() -> None:
    rows = [row for table in ROWS.values() for row in table.values()]
    assert {row.failure_class for row in rows} <= set(FATES)
