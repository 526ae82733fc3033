"""An executor's life: what it takes once, stores before it tells, and keeps while the database is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.core.events import AttemptEnded
from orchestrator.core.words import BUDGET_LOWERED, AttemptState, FailureClass
from orchestrator.errors import DatabaseUnavailable
from orchestrator.ports import (
    Assignment,
    Outcome,
    SessionCancelled,
    Transcript,
    TranscriptChunk,
    Usage,
    Workspace,
)
from orchestrator.runtime import executing as executing_module
from orchestrator.runtime.executing import Executing, TranscriptBuffer
from orchestrator.runtime.redaction import Redaction
from orchestrator.workspace.shared import SharedWorkspaces
from tests.support.memory import Signal
from tests.support.sessions import assignment

USED = Usage(input_tokens=7, output_tokens=3, cost_micros=11, requests=1)
DONE = Outcome(state=AttemptState.SUCCEEDED, summary="did it")


class MemoryAttempts:
    """The executor's tables; tokens in `refused` may not start, those in `fenced` may store nothing."""

    def __init__(self) -> None:
        self.signal = Signal()
        self.refused: set[int] = set()
        self.fenced: set[int] = set()
        self.asked: list[list[int]] = []
        self.results: dict[int, Outcome] = {}
        self.saved: list[list[int]] = []
        self.chunks: list[TranscriptChunk] = []
        self.is_away = False
        self.may_start = asyncio.Event()
        self.may_start.set()

    def _answer(self) -> None:
        self.signal.note()
        if self.is_away:
            raise DatabaseUnavailable("The database does not answer.")

    async def start(self, tokens: Sequence[int]) -> list[Assignment]:
        self.asked.append(list(tokens))
        self._answer()
        await self.may_start.wait()
        return [assignment(token=t, backend="scripted") for t in tokens if t not in self.refused]

    async def save_results(self, results: Sequence[tuple[int, Outcome]]) -> set[int]:
        self._answer()
        self.saved.append([token for token, _ in results])
        self.results |= {token: outcome for token, outcome in results if token not in self.fenced}
        self.signal.note()
        return {token for token, _ in results} & set(self.results)

    async def save_chunks(self, chunks: Sequence[TranscriptChunk]) -> None:
        self._answer()
        self.chunks += chunks


class ScriptedBackend:
    """Each session waits for its end: an outcome, or an exception."""

    name = "scripted"

    def __init__(self, signal: Signal) -> None:
        self.signal = signal
        self.ran: list[int] = []
        self.ends: dict[int, asyncio.Future[Outcome]] = {}
        self.cancelled: list[int] = []

    async def run(self, assignment: Assignment, workspace: Workspace, transcript: Transcript) -> Outcome:
        del workspace
        token = assignment.token
        self.ran.append(token)
        self.ends[token] = asyncio.get_running_loop().create_future()
        transcript.write("stdout", f"session of {token}\n")
        self.signal.note()
        try:
            return await self.ends[token]
        except asyncio.CancelledError as cancel:
            self.cancelled.append(token)
            raise SessionCancelled(USED) from cancel


class RememberingLeases:
    """Which leases are kept."""

    def __init__(self) -> None:
        self.held: set[int] = set()

    def hold(self, token: int) -> None:
        self.held.add(token)

    def holds(self, token: int) -> bool:
        return token in self.held

    def release(self, token: int) -> None:
        self.held.discard(token)


class Stage:
    """An executor with everything around it."""

    def __init__(self, root: Path) -> None:
        self.store = MemoryAttempts()
        self.leases = RememberingLeases()
        self.backend = ScriptedBackend(self.store.signal)
        self.started: list[int] = []
        self.ended: list[AttemptEnded] = []
        self.may_report = asyncio.Event()
        self.may_report.set()
        self.executing = Executing(
            store=self.store,
            leases=self.leases,
            backends={"scripted": self.backend},
            workspaces=SharedWorkspaces(root=root),
            report=self.report,
        )

    async def report(self, *, started: Sequence[int], ended: Sequence[AttemptEnded]) -> None:
        assert all(event.token in self.store.results for event in ended), "told before it was stored"
        await self.may_report.wait()
        self.started += started
        self.ended += ended
        self.store.signal.note()

    async def runs(self, *tokens: int) -> None:
        self.executing.start(tokens)
        await self.store.signal.until(lambda: set(tokens) <= set(self.backend.ran))

    async def has(self, *tokens: int) -> None:
        """Wait until it works on exactly these tokens."""
        async with asyncio.timeout(60):
            while self.executing.tokens != list(tokens):
                self.executing._changed.clear()
                await self.executing._changed.wait()

    async def stored(self, *tokens: int) -> None:
        await self.store.signal.until(lambda: set(tokens) <= set(self.store.results))


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr(executing_module, "RETRY_S", 0.001)
    monkeypatch.setattr(executing_module, "FLUSH_S", 0.01)
    made = Stage(tmp_path)
    async with running(made):
        yield made


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[asyncio.Task[None]]:
    run = asyncio.create_task(stage.executing.run())
    yield run
    assert not run.done() or run.result() is None
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run


async def test_ends_that_come_close_together_are_stored_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executing_module, "GATHER_S", 10.0)
    monkeypatch.setattr(executing_module, "GATHER_MAX_S", 1.0)
    await stage.runs(1, 2, 3)
    for token in (1, 2):
        stage.backend.ends[token].set_result(DONE)
        for _ in range(10):
            await asyncio.sleep(0)  # the loop turns many times
    await stage.stored(1, 2)
    assert [set(batch) for batch in stage.store.saved] == [{1, 2}]


async def test_the_end_of_the_only_session_waits_for_no_other(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executing_module, "GATHER_S", 3600.0)
    monkeypatch.setattr(executing_module, "GATHER_MAX_S", 3600.0)
    await stage.runs(1)
    stage.backend.ends[1].set_result(DONE)
    await stage.stored(1)


async def test_a_token_that_comes_twice_runs_once(stage: Stage) -> None:
    stage.executing.start([1, 1])
    await stage.runs(1)
    await stage.runs(1, 2)
    stage.backend.ends[1].set_result(DONE)
    await stage.stored(1)
    stage.executing.start([1])  # even after its end
    await stage.runs(3)
    assert stage.backend.ran == [1, 2, 3]
    assert sorted(token for tokens in stage.store.asked for token in tokens) == [1, 2, 3]


async def test_a_refused_start_runs_nothing(stage: Stage) -> None:
    stage.store.refused = {1}
    stage.executing.start([1])
    await stage.runs(2)
    await stage.store.signal.until(lambda: stage.started == [2])
    assert stage.backend.ran == [2]
    assert stage.leases.held == {2}
    assert stage.executing.tokens == [2]


async def test_a_start_that_is_answered_after_its_lease_was_lost_runs_nothing(stage: Stage) -> None:
    """It was frozen between asking and hearing: meanwhile the task may have been given to another."""
    stage.store.may_start.clear()
    stage.executing.start([1])
    await stage.store.signal.until(lambda: stage.store.asked == [[1]])
    assert stage.leases.held == {1}  # from before it asked
    stage.leases.release(1)  # as a renewal that fences does
    stage.store.may_start.set()
    await stage.runs(2)
    await stage.store.signal.until(lambda: stage.started == [2])
    assert stage.backend.ran == [2]


async def test_a_result_is_stored_then_told_and_its_lease_let_go(stage: Stage) -> None:
    await stage.runs(1)
    stage.backend.ends[1].set_result(DONE)
    await stage.store.signal.until(lambda: stage.ended)
    assert stage.store.results == {1: DONE}
    assert stage.started == [1]
    assert stage.ended[0].state is AttemptState.SUCCEEDED
    assert stage.leases.held == set()
    await stage.has()


async def test_a_scheduler_that_takes_no_report_holds_up_nothing(stage: Stage) -> None:
    stage.may_report.clear()
    await stage.runs(1)
    stage.backend.ends[1].set_result(DONE)
    await stage.stored(1)
    await stage.runs(2)
    stage.may_report.set()
    await stage.store.signal.until(lambda: stage.started == [1, 2])


async def test_a_result_of_a_fenced_token_is_told_to_nobody(stage: Stage) -> None:
    await stage.runs(1, 2)
    stage.store.fenced = {1}
    stage.backend.ends[1].set_result(DONE)
    stage.backend.ends[2].set_result(DONE)
    await stage.store.signal.until(lambda: stage.ended)
    await stage.has()
    assert [event.token for event in stage.ended] == [2]


async def test_a_backend_that_raises_is_an_infrastructure_failure_and_the_loop_goes_on(stage: Stage) -> None:
    await stage.runs(1)
    stage.backend.ends[1].set_exception(RuntimeError("a defect \0 with a NUL"))
    await stage.stored(1)
    outcome = stage.store.results[1]
    assert outcome.state is AttemptState.FAILED
    assert outcome.failure_class is FailureClass.INFRASTRUCTURE
    assert outcome.summary == "The session backend failed: RuntimeError: a defect \ufffd with a NUL"
    await stage.runs(2)


async def test_an_assignment_for_a_backend_that_is_not_here_fails_and_says_so(stage: Stage) -> None:
    stage.executing._backends = {}
    stage.executing.start([1])
    await stage.stored(1)
    assert "no backend 'scripted'" in stage.store.results[1].summary


async def test_what_sessions_print_fits_into_the_tables(stage: Stage) -> None:
    await stage.runs(1)
    report = {"n\0": [float("nan"), "\ud800", 1.5]}
    stage.backend.ends[1].set_result(
        Outcome(state=AttemptState.SUCCEEDED, summary="\ud800\0", detail="\0", report=report)
    )
    await stage.stored(1)
    outcome = stage.store.results[1]
    assert (outcome.summary, outcome.detail) == ("\ufffd\ufffd", "\ufffd")
    assert outcome.report == {"n\ufffd": [None, "\ufffd", 1.5]}


async def test_a_cancelled_session_ends_with_a_result_that_says_so(stage: Stage) -> None:
    await stage.runs(1)
    stage.executing.cancel(1, "by request")
    stage.executing.cancel(1, "a second wish")
    await stage.stored(1)
    assert stage.store.results[1] == Outcome(state=AttemptState.CANCELLED, summary="by request", usage=USED)
    assert stage.backend.cancelled == [1]


async def test_a_session_that_ends_for_a_lower_budget_is_interrupted_so_that_the_next_one_goes_on(
    stage: Stage,
) -> None:
    await stage.runs(1)
    stage.executing.cancel(1, BUDGET_LOWERED)
    await stage.stored(1)
    ended = Outcome(state=AttemptState.INTERRUPTED, summary=BUDGET_LOWERED, usage=USED)
    assert stage.store.results[1] == ended


async def test_a_cancel_that_overtakes_its_start_is_not_forgotten(stage: Stage) -> None:
    stage.executing.cancel(2, "by request")
    await stage.runs(1)  # whose start carries out no wish of another
    stage.executing.start([2])
    await stage.stored(2)
    assert stage.store.results[2].state is AttemptState.CANCELLED
    assert stage.backend.ran == [1]


async def test_cancels_whose_starts_never_come_are_forgotten_in_the_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executing_module, "TOKENS_REMEMBERED", 2)
    for token in (1, 2, 3):
        stage.executing.cancel(token, "by request")
    stage.executing.start([1, 3])
    await stage.stored(3)
    await stage.has(1)


async def test_a_cancel_that_comes_before_the_start_is_stored_is_not_forgotten(stage: Stage) -> None:
    stage.store.may_start.clear()
    stage.executing.start([1])
    await stage.store.signal.until(lambda: stage.store.asked)
    stage.executing.start([2])
    stage.executing.cancel(1, "by request")
    stage.executing.cancel(2, "by request, too")
    stage.store.may_start.set()
    await stage.stored(1, 2)
    assert {outcome.state for outcome in stage.store.results.values()} == {AttemptState.CANCELLED}


async def test_a_fenced_session_ends_and_stores_nothing(stage: Stage) -> None:
    await stage.runs(1, 2)
    stage.executing.fence(1)
    await stage.has(2)
    stage.backend.ends[2].set_result(DONE)
    await stage.stored(2)
    assert stage.backend.cancelled == [1]
    assert set(stage.store.results) == {2}
    assert [event.token for event in stage.ended] in ([], [2])


async def test_a_result_is_kept_while_the_database_is_away(stage: Stage) -> None:
    await stage.runs(1)
    stage.store.is_away = True
    stage.backend.ends[1].set_result(DONE)
    await stage.store.signal.until(lambda: stage.executing.tokens == [1])
    for _ in range(3):
        await stage.store.signal._changed.wait()  # it tries, and tries again
    assert stage.store.results == {}
    stage.store.is_away = False
    await stage.stored(1)
    assert stage.store.results == {1: DONE}


async def test_draining_takes_nothing_more_and_stores_what_came_of_every_session(stage: Stage) -> None:
    await stage.runs(1)
    stage.store.may_start.clear()
    stage.executing.start([2])
    await stage.store.signal.until(lambda: stage.store.asked[-1] == [2])
    stage.executing.start([3])  # received, not begun
    drain = asyncio.create_task(stage.executing.drain(timeout_s=10))
    await asyncio.sleep(0)
    stage.executing.start([4])  # sent too late
    stage.store.may_start.set()
    await drain
    assert stage.executing.tokens == []
    states = {token: outcome.state for token, outcome in stage.store.results.items()}
    assert states == {1: AttemptState.INTERRUPTED, 2: AttemptState.INTERRUPTED}
    assert stage.store.asked == [[1], [2]]


async def test_draining_is_bounded(stage: Stage) -> None:
    await stage.runs(1)
    stage.store.is_away = True
    await stage.executing.drain(timeout_s=0.05)
    assert stage.executing.tokens == [1]
    stage.store.is_away = False
    await stage.stored(1)


# --- transcripts


def _lines(chunks: Sequence[TranscriptChunk]) -> list[tuple[str, str]]:
    return [(stream, text) for chunk in chunks for _, stream, text in chunk.lines]


async def test_a_transcript_is_written_while_the_session_runs_and_ends_before_its_result(
    stage: Stage,
) -> None:
    await stage.runs(1)
    await stage.store.signal.until(lambda: stage.store.chunks)
    assert stage.store.results == {}
    stage.executing._sessions[1].transcript.write("note", "the end")
    stage.backend.ends[1].set_result(DONE)
    await stage.stored(1)
    assert [chunk.seq for chunk in stage.store.chunks] == list(range(1, len(stage.store.chunks) + 1))
    assert _lines(stage.store.chunks) == [("stdout", "session of 1\n"), ("note", "the end")]


def test_a_transcript_keeps_so_much_and_says_where_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executing_module, "TRANSCRIPT_CHARS_MAX", 10)
    buffer = TranscriptBuffer(token=1)
    for text in ("12345", "67890", "more", "and more"):
        buffer.write("stdout", text)
    chunk = buffer.take()
    assert chunk is not None
    texts = [text for _, text in _lines([chunk])]
    assert "".join(texts) == "1234567890\n[transcript limit of 10 characters reached]\n"
    assert buffer.take() is None


def test_a_transcript_holds_nothing_that_a_reader_cannot_send_on() -> None:
    buffer = TranscriptBuffer(token=1)
    buffer.write("stdout", "a\0b\ud800c\n")
    chunk = buffer.take()
    assert chunk is not None
    assert _lines([chunk])[0][1] == "a\ufffdb\ufffdc\n"


async def test_no_secret_is_stored_of_a_transcript_or_an_outcome(stage: Stage) -> None:
    secret = "a secret that the settings hold"
    stage.executing._redaction = Redaction([secret])
    await stage.runs(1)
    transcript = stage.executing._sessions[1].transcript
    transcript.write("stdout", f"before {secret[:9]}")
    await stage.store.signal.until(lambda: stage.store.chunks)  # a flush comes between the halves
    transcript.write("stdout", f"{secret[9:]} after\n")
    transcript.write("stderr", f"no end of line {secret}")
    told = f"it is {secret}"
    stage.backend.ends[1].set_result(replace(DONE, summary=told, detail=told, report={"files": [told]}))
    await stage.stored(1)
    assert _lines(stage.store.chunks)[1:] == [
        ("stdout", "before [redacted] after\n"),
        ("stderr", "no end of line [redacted]"),
    ]
    stored = stage.store.results[1]
    assert (stored.summary, stored.detail) == ("it is [redacted]", "it is [redacted]")
    assert stored.report == {"files": ["it is [redacted]"]}
