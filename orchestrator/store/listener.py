"""Wakes readers when the scheduler has committed events: one LISTEN connection a process.

A wake-up says only "look again"; it may come too often and, while the connection is down, not at all. So a
reader clears its wake-up, then fetches, then waits with a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import psycopg

#: Channel that the committer notifies; the payload is the number of the batch.
CHANNEL = "orchestrator_events"

_RECONNECT_S = 1.0


class EventListener:
    """Passes notifications on to everybody who waits.

    Args:
        url: libpq URL; any role may listen.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiting: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def subscribed(self) -> Iterator[asyncio.Event]:
        """Give an event that is set at every notification; the first subscriber opens the connection."""
        wake = asyncio.Event()
        self._waiting.add(wake)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen(), name="orchestrator-events-listener")
        try:
            yield wake
        finally:
            self._waiting.discard(wake)

    async def close(self) -> None:
        """Close the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(psycopg.Error, OSError):  # readers poll until it is back
                await self._pass_on()
            await asyncio.sleep(_RECONNECT_S)

    async def _pass_on(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, connect_timeout=5, application_name="orchestrator-listener"
        )
        async with connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            self._wake()  # what was committed before we listened
            async for _ in connection.notifies():
                self._wake()

    def _wake(self) -> None:
        for wake in self._waiting:
            wake.set()
