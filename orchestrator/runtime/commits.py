"""The commits of one term: numbered, each in the tables exactly once, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import structlog

from orchestrator.core.commands import RowCommand
from orchestrator.errors import DatabaseUnavailable
from orchestrator.ports import SchedulerStore
from orchestrator.runtime.clock import Clock

log = structlog.get_logger(__name__)

#: Longest pause between two commits: an empty one renews the term.
RENEW_S = 2.0

#: Pause before the database is asked again.
RECONNECT_S = 0.5

T = TypeVar("T")


class Commits:
    """Writes one batch at a time, and waits for a database that is away.

    Args:
        on_return: called when the database answers again.

    Attributes:
        is_away: whether the database does not answer.
        unknown_commits: those whose answer was lost and whose outcome was then looked up.
    """

    def __init__(self, store: SchedulerStore, clock: Clock, *, on_return: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._on_return = on_return
        self._batch = 0
        self._renew_at_s = 0.0
        self.is_away = False
        self.unknown_commits = 0

    async def commit(self, rows: Sequence[RowCommand]) -> None:
        """Write a batch; one without rows is written only when the term is to be renewed.

        Raises:
            Fenced: another scheduler holds the term.
            InvariantViolation: memory and tables disagree.
        """
        now_s = self._clock.monotonic_s()
        if not rows and not self.is_away and now_s < self._renew_at_s:
            return
        self._renew_at_s = now_s + RENEW_S
        self._batch += 1
        while True:
            try:
                await self._store.commit(self._batch, rows)
            except DatabaseUnavailable as error:
                if await self._was_committed(error):
                    break
            else:
                break
        self._note_back()

    async def _was_committed(self, error: DatabaseUnavailable) -> bool:
        """The connection broke during a commit: wait for the database and ask how it ended."""
        self._note_away(error)
        while True:
            await asyncio.sleep(RECONNECT_S)
            try:
                is_committed = await self._store.last_batch() >= self._batch
            except DatabaseUnavailable as again:
                self._note_away(again)
                continue
            self.unknown_commits += 1
            return is_committed

    def _note_away(self, error: DatabaseUnavailable) -> None:
        if not self.is_away:
            self.is_away = True
            log.warning("database is away", batch=self._batch, reason=str(error))

    def _note_back(self) -> None:
        if self.is_away:
            self.is_away = False
            log.info("database is back", batch=self._batch)
            self._on_return()

    async def patiently(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Call until the database answers; return what it says."""
        while True:
            try:
                answer = await call()
            except DatabaseUnavailable as error:
                self._note_away(error)
                await asyncio.sleep(RECONNECT_S)
            else:
                self._note_back()
                return answer
