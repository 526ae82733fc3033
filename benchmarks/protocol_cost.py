"""What each row of the protocol costs a task: processor time of one client process, and of the server.

The real core, committer and executor stores work in one process, in waves, without Ray; the tables of a batch
go one by one, each less what a call without rows costs. So each time is its own, and a loaded machine changes
it little.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from actors.scheduler import scheduling_settings
from benchmarks import Figure
from benchmarks.actors import NoSession, Shape
from benchmarks.stack import EXECUTORS, MeasuredStack, make_config
from orchestrator.core import events as e
from orchestrator.core.commands import RowCommand, StartAttempt
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.words import AttemptState
from orchestrator.ports import Outcome, SessionLimits
from orchestrator.runtime.driver import rows_in
from orchestrator.store.batches import COMMIT, TABLES, rows_by_kind
from orchestrator.store.event_batches import EventBatch, events_in
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.listener import CHANNEL
from orchestrator.store.migrate import prepare
from orchestrator.store.scheduler import PostgresSchedulerStore
from tests.support.postgres import running_server

TASKS = 5_000
RUNS = 3
SESSIONS = 100


class _Spent:
    """Seconds of the processor by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()

    def without_calls(self) -> dict[str, float]:
        """Return the seconds of each part; those of a table without what its calls would cost empty."""
        net = dict(self.seconds)
        empty = self.calls["term, and the call"]
        for what, calls in self.calls.items():
            for side in ("client", "server") if what != "term, and the call" else ():
                net[f"{side}: {what}"] -= self.seconds[f"{side}: term, and the call"] * calls / empty
        return net

    @contextmanager
    def on(self, part: str, *, backend_pid: int = 0) -> Iterator[None]:
        """Count what this process, and a process of the server, spend within the context."""
        client_s, server_s = time.process_time(), _on_processor_s(backend_pid)
        yield
        self.seconds[f"client: {part}"] += time.process_time() - client_s
        if backend_pid:
            self.seconds[f"server: {part}"] += _on_processor_s(backend_pid) - server_s


def _on_processor_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9 if pid else 0.0


class _OneByOne(PostgresSchedulerStore):
    """Sends the tables of a batch one after the other, and counts what each costs."""

    spent: _Spent

    async def commit(self, batch: int, rows: Sequence[RowCommand]) -> None:
        """Write everything, in as many calls as there are tables."""
        by_kind = rows_by_kind(rows)
        await self._call("term, and the call", batch, {})
        for table in TABLES:
            if by_kind.get(table.kind):
                await self._call(table.what, batch, {table.kind: by_kind[table.kind]})

    async def _call(self, what: str, batch: int, rows: Mapping[type[Any], Sequence[Any]]) -> None:
        with self.spent.on("arrays of a batch"):
            arguments = COMMIT.arguments(
                rows,
                batch=batch,
                epoch=self.epoch,
                cluster_id=self._cluster_id,
                channel=CHANNEL,
                events=events_in(rows.get(EventBatch, ())),
            )
        async with self._hot.use() as connection:
            with self.spent.on(what, backend_pid=connection.info.backend_pid):
                await psycopg.AsyncRawCursor(connection).execute(COMMIT.sql, arguments)
        self.spent.calls[what] += 1


class Waves:
    """Runs a plan in waves: half of the slots start while the other half ends."""

    def __init__(self, stack: MeasuredStack) -> None:
        config = stack.config
        self.spent = _Spent()
        self._batch = 0
        self._pids: dict[str, int] = {}
        self._store = _OneByOne(
            config.direct_url,
            cluster_id=config.cluster_id,
            attempts_max=1,
            choose_backend=lambda *_: NoSession.name,
        )
        self._executors = {
            f"x{n}": ExecutorStore(
                config.service_url, executor=f"x{n}", incarnation="only", node_id="", limits=SessionLimits()
            )
            for n in range(EXECUTORS)
        }
        settings = scheduling_settings(config.settings)
        self._state = SchedulerState(policy=settings.policy)
        self._state.handle(settings.limits, at_ms=0)
        slots = SESSIONS // EXECUTORS
        for name in self._executors:
            joined = e.ExecutorJoined(executor=name, agent_type=Shape(tasks=0).agent_type, slots=slots)
            self._state.handle(joined, at_ms=0)

    async def open(self) -> None:
        """Take the term, and tokens for every task."""
        await self._store.take_term(incarnation="only", is_starting=True, patience_s=1)
        for _ in range((RUNS + 2) * TASKS // 1_000):
            first, count = await self._store.reserve_tokens()
            self._state.handle(e.TokensReserved(first=first, count=count), at_ms=0)

    async def close(self) -> None:
        """Close every connection."""
        await self._store.close()
        for executor in self._executors.values():
            await executor.close()

    def begin(self, pids: dict[str, int]) -> None:
        """Count from now on; `pids` are those of the server's processes, by the name of the executor."""
        self.spent = self._store.spent = _Spent()
        self._pids = pids

    async def run(self, plan_id: int) -> None:
        """Run a plan to its end."""
        inbox: list[AnyEvent] = [
            e.PlanSliceLoaded(plan=part.plan, tasks=part.tasks, edges=part.edges)
            async for part in self._store.load_plan(plan_id)
        ]
        inbox.append(e.PlanLoaded(plan_id=plan_id))
        running: list[list[int]] = []
        while inbox:
            tokens = await self._turn(inbox)
            inbox = [e.AttemptStarted(token=token) for token in tokens]
            running.append(tokens)
            if len(running) > 1 or not inbox:
                inbox += [_ended(token) for token in running.pop(0)]

    async def _turn(self, inbox: Sequence[AnyEvent]) -> list[int]:
        with self.spent.on("core"):
            commands = [command for event in inbox for command in self._state.handle(event, at_ms=0)]
            rows = rows_in(commands)
        self._batch += 1
        await self._store.commit(self._batch, rows)
        by_executor: dict[str, list[int]] = defaultdict(list)
        for command in commands:
            if isinstance(command, StartAttempt):
                by_executor[command.executor].append(command.token)
        for name, tokens in by_executor.items():
            pid = self._pids.get(name, 0)
            with self.spent.on("starts, and tasks read", backend_pid=pid):
                await self._executors[name].start(tokens)
            done = Outcome(state=AttemptState.SUCCEEDED)
            with self.spent.on("results", backend_pid=pid):
                await self._executors[name].save_results([(token, done) for token in tokens])
        return [token for tokens in by_executor.values() for token in tokens]


def _ended(token: int) -> e.AttemptEnded:
    return e.AttemptEnded(
        token=token, state=AttemptState.SUCCEEDED, failure_class=None, summary="", cost_micros=0
    )


def measure() -> Iterator[Figure]:
    """Yield one figure per part and side."""
    runs = [spent.without_calls() for spent in asyncio.run(_measure())]
    for part in sorted(runs[0], key=lambda part: -runs[0][part]):
        values = tuple(run[part] / TASKS * 1e6 for run in runs)
        yield Figure(name=part, values=values, unit="us/task")
    for side in ("client", "server"):
        sums = tuple(sum(v for k, v in run.items() if k.startswith(side)) for run in runs)
        yield Figure(name=f"{side} in sum", values=tuple(s / TASKS * 1e6 for s in sums), unit="us/task")


async def _measure() -> list[_Spent]:
    with running_server() as address, tempfile.TemporaryDirectory() as folder:
        prepare(address.urls())
        config = make_config(Path(folder), address.urls(), concurrency=SESSIONS)
        stack = MeasuredStack(urls=address.urls(), config=config, scheduler=None)
        waves = Waves(stack)
        waves.begin({})
        await waves.open()
        await waves.run(stack.store_plan(Shape(tasks=TASKS)))
        pids = dict(stack.rows("SELECT substr(application_name, 14), pid FROM pg_stat_activity"))
        runs = []
        for _ in range(RUNS):
            plan_id = stack.store_plan(Shape(tasks=TASKS))
            waves.begin(pids)
            await waves.run(plan_id)
            runs.append(waves.spent)
        await waves.close()
    return runs
