"""A driver over tables in memory, on a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from orchestrator.core import events as e
from orchestrator.core.commands import Command, RecordEvent, RowCommand
from orchestrator.core.limits import Limits
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.state import Policy
from orchestrator.core.words import AttemptState
from orchestrator.errors import Fenced
from orchestrator.ports import Outcome
from orchestrator.runtime.clock import Clock
from orchestrator.runtime.driver import Driver
from tests.support.core import PLAN, spec
from tests.support.memory import MemoryExecutors, Signal, WatchedStore
from tests.support.memory_tables import MemoryTables

LIMITS = e.LimitsSet(limits=Limits(sessions_max=16, agent_default_max=16))


class ManualClock(Clock):
    """Database time that stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.ms = 1_000_000
        self._hung_s = 0.0

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:  # type: ignore[override] # of this clock, not of all
        return time.monotonic() + self._hung_s

    def hang(self, ms: int) -> None:
        """Let time pass while nothing else happens."""
        self.ms += ms
        self._hung_s += ms / 1000


class RememberingState(SchedulerState):
    """Remembers the events it has handled."""

    def __init__(self, signal: Signal) -> None:
        super().__init__(policy=Policy())
        self.handled: list[AnyEvent] = []
        self.signal = signal

    def handle(self, event: AnyEvent, *, at_ms: int) -> list[Command]:
        commands = super().handle(event, at_ms=at_ms)
        self.handled.append(event)
        self.signal.note()
        return commands


class Stage:
    """A driver with everything around it."""

    def __init__(self, **options: object) -> None:
        self.store = WatchedStore()
        self.store.hold_term()
        self.executors = MemoryExecutors()
        self.clock = ManualClock()
        self.state = RememberingState(self.store.signal)
        self.driver = Driver(
            state=self.state,
            store=self.store,
            executors=self.executors,
            clock=self.clock,
            **options,
        )
        self.driver.post(e.TokensReserved(first=1, count=100_000))
        self.driver.post(LIMITS)

    def has_plan(self, *task_ids: int, plan_id: int = 1, **changes: object) -> None:
        tasks = tuple(spec(task_id, **changes) for task_id in task_ids)
        self.store.tables.add_plan(replace(PLAN, plan_id=plan_id), tasks)

    def join(self, *, slots: int = 4) -> None:
        self.driver.post(e.ExecutorJoined(executor="x1", agent_type="coder", slots=slots))

    def tick(self, ms: int = 0) -> None:
        self.clock.ms += ms
        self.driver.post(e.Tick())

    async def handled(self, kind: type, *, times: int = 1) -> None:
        handled = self.state.handled
        await self.store.signal.until(lambda: sum(isinstance(event, kind) for event in handled) >= times)

    async def running_attempt(self) -> int:
        """Have one task running on the executor; return its token."""
        self.has_plan(1)
        self.join()
        await self.driver.load_plan(1)
        await self.executors.signal.until(self.executors.started)
        return self.executors.started()[0]


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[asyncio.Task[None]]:
    run = asyncio.create_task(stage.driver.run())
    try:
        yield run
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError, Fenced):
            await run


def has_event(rows: Iterable[RowCommand], kind: str, token: int) -> bool:
    """Tell whether rows hold an event of an attempt."""
    return any(isinstance(row, RecordEvent) and (row.type, row.token) == (kind, token) for row in rows)


def worked(tables: MemoryTables, token: int) -> e.AttemptEnded:
    """Store start and result of an attempt; return the report of its executor."""
    tables.start([token], executor=tables.attempts[token].executor, incarnation="i1")
    tables.save_results([(token, Outcome(state=AttemptState.SUCCEEDED))])
    return tables.result_of(token)
