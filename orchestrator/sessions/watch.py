"""The two clocks of a session: how long it may take in total, and how long it may be silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from typing import TypeVar

from orchestrator.errors import Overloaded
from orchestrator.ports import SessionLimits

_DEFAULTS = SessionLimits()

#: Share of the time of silence by which its clock may be late, so that not every sign of life has to set it.
_LATE = 0.01

T = TypeVar("T")


class TimedOut(Exception):
    """Raised when a session ran into one of its clocks; the message says which, for people."""


def effective_limits(limits: SessionLimits) -> SessionLimits:
    """Return `limits` with the default in place of every 0."""
    missing = {
        limit.name: getattr(_DEFAULTS, limit.name)
        for limit in fields(limits)
        if limit.name != "grace_s" and not getattr(limits, limit.name)  # no grace is a grace
    }
    return replace(limits, **missing)


class Clocks:
    """The clocks of a session that runs. Calling it sets the one of silence back: there is a sign of life.

    Attributes:
        waited_s: how long they have stood still.
    """

    def __init__(self, limits: SessionLimits) -> None:
        self._now_s = asyncio.get_running_loop().time
        self._silence_s = limits.idle_timeout_s
        self._wait_max_s = limits.wait_max_s
        self._late_s = limits.idle_timeout_s * _LATE
        self._next_s = 0.0  # from when on a sign of life sets the clock
        self.total = asyncio.timeout(limits.total_timeout_s)
        self.silence = asyncio.timeout(limits.idle_timeout_s)
        self.waited_s = 0.0

    def __call__(self) -> None:
        now_s = self._now_s()
        if now_s >= self._next_s and not self.silence.expired():
            self._next_s = now_s + self._late_s
            self.silence.reschedule(self._next_s + self._silence_s)

    async def stand_still(self, wait: Awaitable[T]) -> T:
        """Wait for what is not the session's doing, such as leave to send: no time passes for it.

        Raises:
            Overloaded: it has waited as long as it may, in all; nobody is to blame.
        """
        since_s, total_s = self._now_s(), self.total.when()
        assert total_s is not None, "the clocks stand still already"
        self.total.reschedule(None)
        self.silence.reschedule(None)
        try:
            async with asyncio.timeout(self._wait_max_s - self.waited_s):
                return await wait
        except TimeoutError as error:
            raise Overloaded(
                f"The session has waited {self._wait_max_s:g} s in all for leave to ask its model.",
                remedy="The task starts again by itself; nobody is charged.",
            ) from error
        finally:
            waited_s = self._now_s() - since_s
            self.waited_s += waited_s
            self.total.reschedule(total_s + waited_s)
            self._next_s = 0.0
            self()


@asynccontextmanager
async def watched(limits: SessionLimits) -> AsyncIterator[Clocks]:
    """Run a session against its clocks.

    Raises:
        TimedOut: what ran inside was cancelled by a clock, and has cleaned up.
    """
    clocks = Clocks(limits)
    try:
        async with clocks.total, clocks.silence:
            yield clocks
    except TimeoutError as error:
        if clocks.total.expired():
            raise TimedOut(f"It took longer than {limits.total_timeout_s:g} s in total.") from error
        if clocks.silence.expired():
            raise TimedOut(f"It was silent for {limits.idle_timeout_s:g} s.") from error
        raise
