"""The database server as its clients meet it: slow, hung, or away; and the lines that lead there.

A transaction takes place in one moment on the server, outside of every process: whoever sent it may have died
by then. What becomes of it and of its answer are two things.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from orchestrator.errors import DatabaseUnavailable
from orchestrator.ports import Term
from tests.simulation.faults import Dice
from tests.simulation.loop import Process, VirtualLoop
from tests.support.memory import Line, MemoryStore
from tests.support.memory_tables import MemoryTables

T = TypeVar("T")

#: Transactions that lock the row of the term; they wait for a commit that is still under way.
_ON_TERM = {"commit", "last batch", "look at term", "take term", "release term"}


class Database:
    """The server. `on_sent` hears which process sends what, `on_committed` whose commit has taken place."""

    def __init__(self, loop: VirtualLoop, dice: Dice) -> None:
        self._loop = loop
        self._dice = dice
        self._locked_until_s = 0.0
        self.away_until_s = 0.0
        self.hung_until_s = 0.0
        self.clock_offset_ms = 0  #: of what it tells a new term, against its first
        self.tables = MemoryTables(clock_ms=lambda: 1_700_000_000_000 + int(loop.time() * 1000))
        self.on_sent: Callable[[Process, str], None] = lambda process, what: None
        self.on_committed: Callable[[Process], None] = lambda process: None

    @property
    def is_away(self) -> bool:
        """Whether nobody can reach it."""
        return self._loop.time() < self.away_until_s

    @property
    def is_hung(self) -> bool:
        """Whether it takes everything in and does nothing."""
        return self._loop.time() < self.hung_until_s

    def latency_s(self) -> float:
        """Return how long a transaction travels one way."""
        slow_s = self._dice.throw.uniform(0.1, 2.0) if self._dice.befalls("transaction slow") else 0.0
        return self._dice.throw.uniform(0.0005, 0.005) + slow_s

    def submit(
        self, process: Process, what: str, transaction: Callable[[], Any], answer: asyncio.Future[Any]
    ) -> None:
        """Take a transaction in; `answer` gets its result, its error or DatabaseUnavailable."""
        self.on_sent(process, what)
        if process.is_dead:
            return
        arrives_s = self.latency_s()
        if self.is_away or self._dice.befalls("transaction lost"):
            self._loop.later(arrives_s, _fail, answer)
        elif what == "commit" and self._dice.befalls("commit late"):
            # The connection breaks while the server works on it: it holds the term's row until it is done.
            takes_s = arrives_s + self._dice.throw.uniform(0.1, 3.0)
            self._locked_until_s = max(self._locked_until_s, self._loop.time() + takes_s)
            self._loop.later(arrives_s, _fail, answer)
            self._loop.later(takes_s, self._carry_out, process, what, transaction, None)
        else:
            self._loop.later(arrives_s, self._arrive, process, what, transaction, answer)

    def _arrive(self, process: Process, what: str, transaction: Callable[[], Any], answer: Any) -> None:
        goes_on_s = max(self.hung_until_s, self._locked_until_s if what in _ON_TERM else 0.0)
        wait_s = goes_on_s - self._loop.time()
        if wait_s > 0:
            self._loop.later(wait_s + 0.001, self._arrive, process, what, transaction, answer)
        elif self.is_away:
            _fail(answer)
        else:
            self._carry_out(process, what, transaction, answer)

    def _carry_out(self, process: Process, what: str, transaction: Callable[[], Any], answer: Any) -> None:
        result, error = None, None
        try:
            result = transaction()
        except Exception as raised:  # noqa: BLE001 - it goes to whoever asked
            error = raised
        if what == "commit" and error is None:
            self.on_committed(process)
        if answer is None:
            return
        if self._dice.befalls("answer cut"):
            error = _away()
        self._loop.later(self.latency_s(), _settle, answer, result, error)


def _away() -> DatabaseUnavailable:
    return DatabaseUnavailable("The connection broke.")


def _fail(answer: asyncio.Future[Any]) -> None:
    _settle(answer, None, _away())


def _settle(answer: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
        answer.exception()  # whoever asked may be dead
    else:
        answer.set_result(result)


class SimulatedLine(Line):
    """The line of one process. `cut_until_s` is when it is joined again, if somebody has cut it."""

    def __init__(self, loop: VirtualLoop, database: Database, process: Process) -> None:
        self._loop = loop
        self._database = database
        self._process = process
        self.cut_until_s = 0.0

    @property
    def is_cut(self) -> bool:
        """Whether nothing reaches the database from here."""
        return self._database.is_away or self._loop.time() < self.cut_until_s

    async def carry(self, what: str, transaction: Callable[[], T]) -> T:
        answer: asyncio.Future[T] = self._loop.create_future()
        if self.is_cut:
            self._loop.later(self._database.latency_s(), _fail, answer)
        else:
            self._database.submit(self._process, what, transaction, answer)
        return await answer


class SimulatedStore(MemoryStore):
    """A scheduler's store on a server whose wall clock may have jumped since the last term."""

    def __init__(self, database: Database, line: Line, *, cluster_id: str) -> None:
        super().__init__(database.tables, cluster_id=cluster_id, line=line)
        self._database = database

    async def take_term(self, *, incarnation: str, is_starting: bool, patience_s: float) -> Term:
        term = await super().take_term(
            incarnation=incarnation, is_starting=is_starting, patience_s=patience_s
        )
        return replace(term, now_ms=term.now_ms + self._database.clock_offset_ms)
