"""What every backend promises, tried on each of them with real processes and a real server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.errors import SettingsError
from orchestrator.ports import Assignment, Backend, Outcome, SessionCancelled
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.registry import make_backends
from orchestrator.sessions.simulated import LABEL
from orchestrator.workspace import tree
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.messages_api import API_KEY, MessagesApi, Reply, by_text, call, done, script
from tests.support.notes import MemoryNoteBook
from tests.support.sessions import BASE, MODEL, PRICES, Recorder, assignment, workspace

HANG = "setsid sleep 300 & echo begun; sleep 300"
NAMES = ("command", "simulated", "anthropic")


@dataclass(frozen=True)
class Case:
    """One way of an attempt, told to each backend in its own terms."""

    run: tuple[str, ...]
    options: dict[str, Any]
    replies: tuple[Reply, ...]


CASES = {
    "success": Case(
        ("echo work",), {"simulate": "1ms"}, (Reply([call("bash", command="echo work")]), Reply([done()]))
    ),
    "failure": Case(
        ("echo work; exit 3",),
        {"simulate": "1ms fail 1"},
        (Reply([call("report", status="failed", summary="No way.")]),),
    ),
    "acceptance": Case(
        ("false",),
        {"simulate": "1ms fail 1"},
        (
            Reply([call("bash", command="test -d .")]),
            Reply([call("report", verdict="accepted", summary="It holds.")]),
        ),
    ),
    "refusal": Case(
        ("true",),
        {"simulate": "1ms refuse 1"},
        (Reply([call("report", verdict="refused", summary="Not yet.", reasons=["Name the units."])]),),
    ),
    "hang": Case((HANG,), {"simulate": "5 min"}, (Reply([call("bash", command=HANG)]),)),
}


@dataclass
class Bench:
    """A backend with all it needs, and what it left behind."""

    backend: Backend
    folder: Path
    records: Path
    transcript: Recorder
    api: MessagesApi

    def start(
        self, case: str, *, kind: AttemptKind = AttemptKind.WORK, **limits: Any
    ) -> asyncio.Task[Outcome]:
        asked = CASES[case]
        self.api.scenario = script(*asked.replies)
        given: Assignment = assignment(run=asked.run, options=asked.options, limits=limits, kind=kind)
        return asyncio.create_task(self.backend.run(given, workspace(self.folder), self.transcript))


@pytest.fixture(params=NAMES)
def bench(request, tmp_path: Path) -> Iterator[Bench]:
    folder = tmp_path / "work"
    folder.mkdir()
    records = tmp_path / "records"
    with MessagesApi() as api:
        config = SessionConfig(api_key=API_KEY, base_url=api.base_url, model=MODEL, prices=PRICES)
        backends = make_backends(config, ProcessLauncher(records=records), notes=MemoryNoteBook())
        yield Bench(backends[request.param], folder, records, Recorder(), api)
        assert api.problems == []
    assert tree.confirm_gone(records, BASE.token)
    assert not records.exists() or list(records.iterdir()) == []


def check_fields(outcome: Outcome) -> None:
    assert outcome.summary
    assert "\n" not in outcome.summary
    assert len(outcome.detail) <= 20_000
    ended_well = outcome.state in (AttemptState.SUCCEEDED, AttemptState.CANCELLED)
    assert (outcome.failure_class is None) == ended_well


async def test_success(bench: Bench):
    outcome = await bench.start("success")
    check_fields(outcome)
    assert outcome.state is AttemptState.SUCCEEDED
    assert bench.transcript.entries


async def test_failure_is_charged_to_the_agent(bench: Bench):
    outcome = await bench.start("failure")
    check_fields(outcome)
    assert (outcome.state, outcome.failure_class) == (AttemptState.FAILED, FailureClass.AGENT)


async def test_a_review_accepts_refuses_or_is_no_work_for_commands(bench: Bench):
    accepted = await bench.start("acceptance", kind=AttemptKind.REVIEW)
    refused = await bench.start("refusal", kind=AttemptKind.REVIEW)
    for outcome in (accepted, refused):
        check_fields(outcome)
    ends = [(outcome.state, outcome.failure_class) for outcome in (accepted, refused)]
    if bench.backend.name == "command":
        assert ends == [(AttemptState.FAILED, FailureClass.PLAN_DEFECT)] * 2
        assert bench.transcript.entries == []  # it ran nothing: the lines are the work, not a judgement
        return
    assert ends == [(AttemptState.SUCCEEDED, None), (AttemptState.FAILED, FailureClass.GATE)]
    assert refused.detail  # the feedback of the next work attempt


async def test_timeout(bench: Bench):
    started = time.monotonic()
    outcome = await bench.start("hang", total_timeout_s=0.5)
    check_fields(outcome)
    assert (outcome.state, outcome.failure_class) == (AttemptState.TIMED_OUT, FailureClass.TIMEOUT)
    assert "longer than 0.5 s" in outcome.summary
    assert 0.4 < time.monotonic() - started < 10


async def test_cancel_ends_every_child_and_goes_through(bench: Bench):
    session = bench.start("hang")
    if bench.backend.name == "simulated":
        await bench.transcript.saw(LABEL)
    else:
        await bench.transcript.saw("begun\n")
        assert not tree.confirm_gone(bench.records, BASE.token)
    session.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await session
    assert tree.confirm_gone(bench.records, BASE.token)
    if bench.api.requests:
        assert isinstance(cancelled.value, SessionCancelled)
        assert cancelled.value.usage.requests == len(bench.api.requests) == 1
        assert cancelled.value.usage.cost_micros > 0


async def test_cancel_at_any_moment_leaves_nothing(bench: Bench):
    for delay_s in (0, 0.01, 0.03, 0.06):
        session = bench.start("hang")
        await asyncio.sleep(delay_s)
        session.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await session
        assert tree.confirm_gone(bench.records, BASE.token)


async def test_sessions_run_side_by_side(bench: Bench):
    bench.api.scenario = by_text({"": lambda request: Reply([done()])})
    ws, options = workspace(bench.folder), {"simulate": "1ms"}
    sessions = [
        bench.backend.run(assignment(token=BASE.token + n, run=("true",), options=options), ws, Recorder())
        for n in range(8)
    ]
    outcomes = await asyncio.gather(*sessions)
    assert {outcome.state for outcome in outcomes} == {AttemptState.SUCCEEDED}


def test_without_a_key_there_is_no_model_backend(tmp_path: Path):
    backends = make_backends(SessionConfig(), ProcessLauncher(records=tmp_path), notes=MemoryNoteBook())
    assert sorted(backends) == ["command", "simulated"]
    assert {name: backend.name for name, backend in backends.items()} == {name: name for name in backends}


def test_a_key_never_shows():
    assert API_KEY not in repr(SessionConfig(api_key=API_KEY, model=MODEL, prices=PRICES))


def test_a_key_without_prices_is_refused():
    with pytest.raises(SettingsError, match="no spend cap could hold"):
        SessionConfig(api_key=API_KEY, model=MODEL)
