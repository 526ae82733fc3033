"""The two clocks of a session: how long it may take in total, and how long it may be silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, replace

from orchestrator.ports import SessionLimits

_DEFAULTS = SessionLimits()


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


@asynccontextmanager
async def watched(limits: SessionLimits) -> AsyncIterator[Callable[[], None]]:
    """Run a session against its clocks. Gives the function that sets the idle clock back.

    Raises:
        TimedOut: what ran inside was cancelled by a clock, and has cleaned up.
    """
    clock = asyncio.get_running_loop().time
    total, idle = asyncio.timeout(limits.total_timeout_s), asyncio.timeout(limits.idle_timeout_s)
    try:
        async with total, idle:

            def touch() -> None:
                if not idle.expired():
                    idle.reschedule(clock() + limits.idle_timeout_s)

            yield touch
    except TimeoutError as error:
        if total.expired():
            raise TimedOut(f"It took longer than {limits.total_timeout_s:g} s in total.") from error
        if idle.expired():
            raise TimedOut(f"It was silent for {limits.idle_timeout_s:g} s.") from error
        raise
