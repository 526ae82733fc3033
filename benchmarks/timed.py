"""The real actors with notes of when what happened, on the clock that all processes of a machine share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from actors import wire
from actors.options import ActorConfig
from actors.scheduler import Scheduler
from benchmarks.actors import IdleExecutor, NoSession
from orchestrator.core.commands import Command, StartAttempt
from orchestrator.core.events import AttemptEnded
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.words import AttemptState
from orchestrator.ports import Assignment, Outcome, Transcript, Workspace
from orchestrator.runtime import scheduling


class PacedSession:
    """Implements ports.Backend: it takes its time, between half and one and a half times `session_s`."""

    name = NoSession.name

    def __init__(self, session_s: float) -> None:
        self._session_s = session_s
        self.ends_s: dict[int, float] = {}

    async def run(self, assignment: Assignment, workspace: Workspace, transcript: Transcript) -> Outcome:
        """Sleep, for a time that the token chooses, and succeed."""
        share = assignment.token * 0.6180339887 % 1.0  # spread evenly, the same in every run
        await asyncio.sleep(self._session_s * (0.5 + share))
        self.ends_s[assignment.token] = time.monotonic()
        return Outcome(state=AttemptState.SUCCEEDED)


class TimedExecutor(IdleExecutor):
    """Notes when each start reached it, and when each session ended."""

    def __init__(self, config: ActorConfig, name: str, agent_type: str, session_s: float) -> None:
        super().__init__(config, name, agent_type)
        self._session = PacedSession(session_s)
        self._executing._backends = {PacedSession.name: self._session}
        self._received: dict[int, float] = {}

    async def start(self, tokens: Sequence[int]) -> None:
        """Take leased attempts."""
        now_s = time.monotonic()
        for token in tokens:
            self._received.setdefault(token, now_s)
        await super().start(tokens)

    async def received(self) -> dict[int, float]:
        """Return when each token was received first, in seconds."""
        return self._received

    async def ends_s(self) -> dict[int, float]:
        """Return when the session of each token ended, in seconds."""
        return self._session.ends_s


class TimedScheduler(Scheduler):
    """Notes when it heard of the end that let an attempt start: that a slot is free, or a task ready."""

    def __init__(self, config: ActorConfig) -> None:
        self._born_s = time.monotonic()
        self._heard: dict[int, float] = {}
        self._causes: dict[int, tuple[int, float]] = {}
        scheduling.__dict__["SchedulerState"] = self._timed_state
        super().__init__(config)

    def _timed_state(self, **given: object) -> SchedulerState:
        return _TimedState(self._heard, self._causes, **given)

    async def report(self, executor: str, started: Sequence[int], ended: Sequence[wire.Ended]) -> list[int]:
        """Take what an executor has stored."""
        now_s = time.monotonic()
        for token, *_ in ended:
            self._heard.setdefault(token, now_s)
        return await super().report(executor, started, ended)

    async def causes(self) -> dict[int, tuple[int, float]]:
        """Return, for each attempt that an end let start, the token of that end and when it was heard of."""
        return self._causes

    async def born_s(self) -> float:
        """Return when this process began to be the scheduler."""
        return self._born_s


class _TimedState(SchedulerState):
    def __init__(
        self, heard: dict[int, float], causes: dict[int, tuple[int, float]], **given: object
    ) -> None:
        super().__init__(**given)  # type: ignore[arg-type]
        self._heard = heard
        self._causes = causes

    def handle(self, event: AnyEvent, *, at_ms: int) -> list[Command]:
        commands = super().handle(event, at_ms=at_ms)
        if isinstance(event, AttemptEnded) and event.token in self._heard:
            cause = (event.token, self._heard[event.token])
            self._causes.update({c.token: cause for c in commands if isinstance(c, StartAttempt)})
        return commands
