"""A Scheduler actor that dies at named points of its work, one point an incarnation.

The points stand in `crash-points.json` in the home of the stack, one for each death to come, and every death
is noted in `deaths.jsonl` beside it before it happens. When the points are used up it lives.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from actors.options import ActorConfig
from actors.scheduler import Scheduler
from orchestrator.core.commands import LeaseAttempt, RowCommand, TakeResult
from orchestrator.ports import PlanSlice
from tests.support.rebuilding import Picture, picture

BEFORE_COMMIT = "before the commit of a lease"
BEFORE_DISPATCH = "after the commit of a lease, before it is sent"
BEFORE_REPLY = "after a lease was sent, before anything is heard of it"
IN_RECOVERY = "inside recovery"
BEFORE_COMPLETION = "between a result and its completion"

POINTS = (BEFORE_COMMIT, BEFORE_DISPATCH, BEFORE_REPLY, IN_RECOVERY, BEFORE_COMPLETION)


class Death(NamedTuple):
    """A death: at which point, of which epoch, with what in its hands, at which wall-clock second."""

    point: str
    epoch: int
    tokens: list[int]
    at_s: float


class Deaths:
    """The plan of deaths and its outcome, shared by the test and every incarnation.

    Args:
        home: of the stack.
    """

    def __init__(self, home: Path) -> None:
        self._points = home / "crash-points.json"
        self._deaths = home / "deaths.jsonl"

    def plan(self, points: Sequence[tuple[str, int]]) -> None:
        """Set the deaths to come: the point, and at which passage of it from 1."""
        self._deaths.touch()
        self._points.write_text(json.dumps(points))

    def so_far(self) -> list[Death]:
        """Return the deaths that there were."""
        return [Death(*json.loads(line)) for line in self._deaths.read_text().splitlines()]

    def next(self) -> tuple[str, int]:
        """Return the point of this incarnation; no point if all are used up."""
        points = json.loads(self._points.read_text())
        died = len(self.so_far())
        return tuple(points[died]) if died < len(points) else ("", 0)

    def die(self, death: Death) -> None:
        """Note it, and kill this process."""
        with self._deaths.open("a") as file:
            file.write(json.dumps(death) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.kill(os.getpid(), signal.SIGKILL)


class CrashingScheduler(Scheduler):
    """The product's Scheduler, whose store and gateway pass the points."""

    def __init__(self, config: ActorConfig) -> None:
        super().__init__(config)  # it does nothing before the loop goes on
        self._deaths = Deaths(config.records.parent)
        self._point, self._passages_left = self._deaths.next()
        store, executors = self._scheduling._store, self._executors
        commit, start, load_plan = store.commit, executors.start, store.load_plan

        async def commit_passing(batch: int, rows: Sequence[RowCommand]) -> None:
            leased = [row.token for row in rows if isinstance(row, LeaseAttempt)]
            ended = [row.token for row in rows if isinstance(row, TakeResult)]
            self._pass(BEFORE_COMMIT, leased)
            self._pass(BEFORE_COMPLETION, ended)
            await commit(batch, rows)
            self._pass(BEFORE_DISPATCH, leased)

        async def start_passing(executor: str, tokens: Sequence[int]) -> None:
            await start(executor, tokens)
            self._pass(BEFORE_REPLY, list(tokens))

        async def load_passing(plan_id: int) -> AsyncIterator[PlanSlice]:
            async for part in load_plan(plan_id):
                self._pass(IN_RECOVERY, [attempt.token for attempt in part.attempts])
                yield part

        store.commit, executors.start, store.load_plan = commit_passing, start_passing, load_passing

    def _pass(self, point: str, tokens: list[int]) -> None:
        """Die here if this is the point and it has been passed often enough with something at stake."""
        is_at_stake = tokens or point == IN_RECOVERY
        if point != self._point or not is_at_stake:
            return
        self._passages_left -= 1
        if self._passages_left <= 0:
            epoch: Any = self._scheduling._epoch
            self._deaths.die(Death(point, epoch, tokens, time.time()))

    async def memory(self) -> Picture:
        """Return what it knows."""
        assert self._scheduling._driver is not None
        return picture(self._scheduling._driver.state)
