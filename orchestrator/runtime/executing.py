"""An executor's life, without Ray: take tokens, store starts, run sessions, store results, report.

A start or result is in the tables before anybody is told of it. Reports are only hints that save the
scheduler a poll; losing them loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog

from orchestrator.core.events import AttemptEnded
from orchestrator.core.retry import failure_of
from orchestrator.core.words import BUDGET_LOWERED, AttemptState, FailureClass
from orchestrator.errors import DatabaseUnavailable, EnvironmentFault
from orchestrator.ports import (
    Assignment,
    Backend,
    Outcome,
    SessionCancelled,
    TranscriptChunk,
    TranscriptLine,
    Usage,
    Workspace,
    WorkspaceProvider,
)
from orchestrator.runtime.redaction import Redaction
from orchestrator.text import storable, storable_json

log = structlog.get_logger(__name__)

#: Pause before the database is asked again.
RETRY_S = 0.5

#: Tokens remembered, so that one that comes twice runs once, and a cancel may come before its start.
TOKENS_REMEMBERED = 20_000

#: Transcripts are written this often.
FLUSH_S = 1.0

#: A transcript keeps this many characters; what comes after is left out.
TRANSCRIPT_CHARS_MAX = 2_000_000

#: Sessions that begin within one turn of the loop: with a model, each of them holds it up for milliseconds.
OPENED_AT_ONCE = 8

#: Turns of the loop within which a session that does nothing has ended: its only step, then its callback.
#: Such sessions are told of once, with their start, which saves a call of Ray's a turn.
_STEPS_TO_AN_END = 2

#: A start is told with the next end, or after this time: nothing waits for it, and with hundreds of sessions
#: a call for each would hold up what others wait for.
TELL_STARTS_S = 0.1

#: For each session that goes on, how long an end waits for others to be stored and told with it, and how long
#: at most: with hundreds of sessions a turn for each would keep the machine so busy that all wait longer.
GATHER_S = 0.0003
GATHER_MAX_S = 0.05

#: Why a session ends that nobody asked to end.
STOPS = "the executor stops"

#: Why a session ends whose task does not: the next one goes on where it stood.
_INTERRUPTING = frozenset({STOPS, BUDGET_LOWERED})

T = TypeVar("T")

_NOWHERE = Workspace(path=Path("/"), env={})


class AttemptStore(Protocol):
    """What an executor writes; implemented by store/executors.py. Raises DatabaseUnavailable."""

    async def start(self, tokens: Sequence[int]) -> list[Assignment]:
        """Store starts; return what the accepted ones are to do."""

    async def save_results(self, results: Sequence[tuple[int, Outcome]]) -> set[int]:
        """Store results; return the tokens that are stored."""

    async def save_chunks(self, chunks: Sequence[TranscriptChunk]) -> None:
        """Store pieces of transcripts."""


class Leases(Protocol):
    """Keeps leases alive; implemented by runtime/renewal.py."""

    def hold(self, token: int) -> None:
        """Keep the lease of a token from now on."""

    def holds(self, token: int) -> bool:
        """Tell whether the lease is kept, and can still be trusted."""

    def release(self, token: int) -> None:
        """Stop keeping it."""


class Report(Protocol):
    """Tells the scheduler. Best effort; never raises."""

    async def __call__(self, *, started: Sequence[int], ended: Sequence[AttemptEnded]) -> None:
        """Send what happened."""


@dataclass(slots=True)
class TranscriptBuffer:
    """Implements ports.Transcript: collects lines, without secrets, until they are flushed."""

    token: int
    redaction: Redaction = field(default_factory=Redaction)
    began_s: float = field(default_factory=time.monotonic)
    seq: int = 0
    chars: int = 0
    lines: list[TranscriptLine] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)  #: by stream: text that may become a secret

    def write(self, stream: str, text: str) -> None:
        """Add text; beyond the limit it is left out."""
        left = TRANSCRIPT_CHARS_MAX - self.chars
        if left < 0:
            return
        self.chars += len(text)
        if len(text) > left:
            text = f"{text[:left]}\n[transcript limit of {TRANSCRIPT_CHARS_MAX} characters reached]\n"
        told, self.waiting[stream] = self.redaction.split(self.waiting.get(stream, "") + storable(text))
        self._tell(stream, told)

    def finish(self) -> None:
        """Add what has waited for more; nothing more comes."""
        for stream, text in self.waiting.items():
            self._tell(stream, self.redaction.whole(text))
        self.waiting.clear()

    def _tell(self, stream: str, text: str) -> None:
        if text:
            self.lines.append((int((time.monotonic() - self.began_s) * 1000), stream, text))

    def take(self) -> TranscriptChunk | None:
        """Return what was collected as a chunk, or None."""
        if not self.lines:
            return None
        lines, self.lines = self.lines, []
        self.seq += 1
        return TranscriptChunk(token=self.token, seq=self.seq, lines=lines)


@dataclass(slots=True)
class _Session:
    assignment: Assignment
    transcript: TranscriptBuffer
    task: asyncio.Task[Outcome] | None = None
    cancel_reason: str = ""
    cancelled_usage: Usage = field(default_factory=Usage)
    is_fenced: bool = False


class Executing:
    """Runs the sessions of one executor.

    Args:
        backends: by name.
        workspaces: where the sessions of real backends work.
        redaction: takes secrets out of what sessions say; by default what looks like one.
    """

    def __init__(
        self,
        *,
        store: AttemptStore,
        leases: Leases,
        backends: Mapping[str, Backend],
        workspaces: WorkspaceProvider,
        report: Report,
        redaction: Redaction | None = None,
    ) -> None:
        self._store = store
        self._leases = leases
        self._backends = backends
        self._workspaces = workspaces
        self._report = report
        self._redaction = redaction or Redaction()
        self._seen: OrderedDict[int, None] = OrderedDict()  #: oldest first; see core/state.py
        self._sessions: dict[int, _Session] = {}
        self._to_start: list[int] = []
        self._starting: list[int] = []
        self._wishes: OrderedDict[int, str] = OrderedDict()  #: reasons to cancel what is not open yet
        self._is_draining = False
        self._ended: list[_Session] = []
        self._untold: list[int] = []  #: starts that the scheduler has not been told of
        self._work = asyncio.Event()
        self._changed = asyncio.Event()  #: `tokens` may be fewer
        self._tasks: set[asyncio.Task[None]] = set()
        self._defect: BaseException | None = None

    @property
    def tokens(self) -> list[int]:
        """The tokens that are being worked on."""
        return sorted({*self._sessions, *self._to_start, *self._starting})

    def start(self, tokens: Sequence[int]) -> None:
        """Take tokens; one that was received before is not taken again."""
        if self._is_draining:
            return
        new = [token for token in dict.fromkeys(tokens) if token not in self._seen]
        self._seen.update(dict.fromkeys(new))
        _forget_oldest(self._seen)
        self._to_start += new
        self._work.set()

    def cancel(self, token: int, reason: str) -> None:
        """End a session in good order; its result says `cancelled`."""
        session = self._sessions.get(token)
        if token not in self._seen or token in self._to_start or token in self._starting:
            self._wishes[token] = reason  # it may have overtaken the start, which travels another way
            _forget_oldest(self._wishes)  # or the start never comes
        if session is not None and session.task is not None and not session.cancel_reason:
            session.cancel_reason = reason
            session.task.cancel()

    def fence(self, token: int) -> None:
        """End a session without a result: its token is not ours any more."""
        session = self._sessions.get(token)
        if session is not None and session.task is not None:
            session.is_fenced = True
            session.task.cancel()

    async def run(self) -> None:
        """Store and report, batch by batch, until cancelled; raises what went wrong beside it."""
        self._spawn(self._flush_for_ever())
        try:
            while self._defect is None:
                await self._work.wait()
                self._work.clear()
                started = await self._take_starts()
                for _ in range(_STEPS_TO_AN_END if started else 0):
                    await asyncio.sleep(0)
                await self._gather_ends()
                ended = await self._store_results()
                if started and not self._untold:
                    asyncio.get_running_loop().call_later(TELL_STARTS_S, self._tell, ())
                self._untold += started
                if ended:
                    self._tell(ended)
            raise self._defect
        finally:
            for task in self._tasks:
                task.cancel()

    async def _gather_ends(self) -> None:
        """Give the other sessions a moment to end too, the longer the more there are."""
        others = len(self._sessions) - len(self._ended)
        if self._ended and others:
            await asyncio.sleep(min(GATHER_S * others, GATHER_MAX_S))

    def _tell(self, ended: Sequence[AttemptEnded]) -> None:
        """Report what ended, and the starts that are not told yet; no turn waits for it."""
        started, self._untold = self._untold, []
        if started or ended:
            self._spawn(self._report(started=started, ended=ended))

    async def drain(self, *, timeout_s: float) -> None:
        """Take nothing more, end every session in good order and store how far it came."""
        self._is_draining = True
        self._to_start.clear()
        for token in self.tokens:
            self.cancel(token, STOPS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.tokens:
                    self._changed.clear()
                    await self._changed.wait()

    async def _take_starts(self) -> list[int]:
        """Store the starts of what came, open its sessions, and return their tokens."""
        self._starting, self._to_start = self._to_start, []
        if not self._starting:
            return []
        for token in self._starting:  # now: when the answer comes, the lease may have become another's
            self._leases.hold(token)
        accepted = await _patiently(lambda: self._store.start(self._starting))
        assignments = [assignment for assignment in accepted if self._leases.holds(assignment.token)]
        for token in {*self._starting} - {assignment.token for assignment in assignments}:
            self._leases.release(token)
        for number, assignment in enumerate(assignments, start=1):
            self._open(assignment)
            if number % OPENED_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._starting = []
        self._carry_out_wishes()
        self._changed.set()
        return [assignment.token for assignment in assignments]

    def _carry_out_wishes(self) -> None:
        """Cancel what was to be cancelled before it was open; a start that was refused needs no cancel."""
        for token in self._wishes.keys() & self._seen.keys():
            self.cancel(token, self._wishes.pop(token))

    def _open(self, assignment: Assignment) -> None:
        transcript = TranscriptBuffer(assignment.token, self._redaction)
        session = _Session(assignment=assignment, transcript=transcript)
        self._sessions[assignment.token] = session
        session.task = asyncio.create_task(self._run_session(session), name=f"session {assignment.key}")
        session.task.add_done_callback(lambda _: self._note_end(session))

    def _note_end(self, session: _Session) -> None:
        if session.is_fenced:
            del self._sessions[session.assignment.token]
            self._changed.set()
        else:
            session.transcript.finish()
            self._ended.append(session)
            self._work.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned_ended)

    def _spawned_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._defect = error
            self._work.set()

    async def _run_session(self, session: _Session) -> Outcome:
        assignment = session.assignment
        backend = self._backends.get(assignment.backend)
        if backend is None:
            return _no_backend(assignment.backend)
        if backend.name == "simulated":
            return await backend.run(assignment, _NOWHERE, session.transcript)
        usage = Usage()  # of a session whose work then cannot be kept
        try:
            async with self._workspaces.open(assignment, session.transcript) as workspace:
                outcome = await backend.run(assignment, workspace, session.transcript)
                usage = outcome.usage
            return outcome
        except SessionCancelled as cancelled:
            session.cancelled_usage = cancelled.usage
            raise
        except EnvironmentFault as fault:
            return Outcome(
                state=AttemptState.FAILED,
                failure_class=FailureClass.WORKSPACE,
                summary=str(fault),
                usage=usage,
            )

    async def _store_results(self) -> list[AttemptEnded]:
        """Store what the sessions that ended came to, and return what was taken of it."""
        ended, self._ended = self._ended, []
        if not ended:
            return []
        results = [(s.assignment.token, storable_outcome(_outcome_of(s), self._redaction)) for s in ended]
        taken = [session.transcript.take() for session in ended]
        await self._save_chunks([chunk for chunk in taken if chunk is not None])
        stored = await _patiently(lambda: self._store.save_results(results))
        for token, _ in results:
            self._leases.release(token)
            del self._sessions[token]
        self._changed.set()
        return [_report_of(token, outcome) for token, outcome in results if token in stored]

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            taken = [session.transcript.take() for session in self._sessions.values()]
            await self._save_chunks([chunk for chunk in taken if chunk is not None])

    async def _save_chunks(self, chunks: Sequence[TranscriptChunk]) -> None:
        if chunks:
            await _patiently(lambda: self._store.save_chunks(chunks))


def _forget_oldest(tokens: OrderedDict[int, Any]) -> None:
    while len(tokens) > TOKENS_REMEMBERED:
        tokens.popitem(last=False)


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the database answers; leases end a session that waits too long."""
    while True:
        try:
            return await call()
        except DatabaseUnavailable as error:
            log.warning("database is away", reason=str(error))
            await asyncio.sleep(RETRY_S)


def _outcome_of(session: _Session) -> Outcome:
    """Turn however the session ended into its outcome."""
    assert session.task is not None
    if session.task.cancelled():
        reason = session.cancel_reason or STOPS
        return Outcome(
            state=AttemptState.INTERRUPTED if reason in _INTERRUPTING else AttemptState.CANCELLED,
            summary=reason,
            usage=session.cancelled_usage,
        )
    if (error := session.task.exception()) is not None:
        log.error("session backend failed", token=session.assignment.token, exc_info=error)
        return _defect(error)
    return session.task.result()


def storable_outcome(outcome: Outcome, redaction: Redaction) -> Outcome:
    """Sessions print anything; what they say must fit into tables and events, without secrets."""
    report = None if outcome.report is None else storable_json(redaction.in_json(outcome.report))
    assert report is None or isinstance(report, dict)
    return replace(
        outcome,
        failure_class=failure_of(outcome.state, outcome.failure_class),
        summary=storable(redaction.whole(outcome.summary)),
        detail=storable(redaction.whole(outcome.detail)),
        report=report,
    )


def _no_backend(name: str) -> Outcome:
    return Outcome(
        state=AttemptState.FAILED,
        failure_class=FailureClass.INFRASTRUCTURE,
        summary=f"This executor has no backend {name!r}: its credentials are missing or it is not installed.",
    )


def _defect(error: BaseException) -> Outcome:
    return Outcome(
        state=AttemptState.FAILED,
        failure_class=FailureClass.INFRASTRUCTURE,
        summary=f"The session backend failed: {type(error).__name__}: {error}",
    )


def _report_of(token: int, outcome: Outcome) -> AttemptEnded:
    return AttemptEnded(
        token=token,
        state=outcome.state,
        failure_class=outcome.failure_class,
        summary=outcome.summary,
        cost_micros=outcome.usage.cost_micros,
    )
