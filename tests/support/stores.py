"""One set of stores twice: on a real PostgreSQL and in memory, behind the same few calls."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TypeVar

from orchestrator.core.words import AttemptState, FailureClass, PlanState
from orchestrator.errors import DatabaseUnavailable
from orchestrator.ports import Outcome, PlanSlice, SchedulerStore, SessionLimits, Usage
from orchestrator.runtime.executing import AttemptStore
from orchestrator.runtime.renewal import Renewer
from orchestrator.store.executors import Beats, ExecutorStore
from orchestrator.store.scheduler import PostgresSchedulerStore
from orchestrator.store.urls import DatabaseUrls
from tests.support.commit_proxy import Fate as CommitFate
from tests.support.commit_proxy import commit_proxy
from tests.support.core import PLAN, spec
from tests.support.memory import Line, MemoryAttempts, MemoryBeats, MemoryStore
from tests.support.memory_tables import MemoryTables
from tests.support.rows import Rows, lease, make_store

T = TypeVar("T")

DONE = Outcome(state=AttemptState.SUCCEEDED, summary="did it", usage=Usage(cost_micros=42))
FAILED = Outcome(
    state=AttemptState.FAILED, failure_class=FailureClass.GATE, summary="gate failed", detail="expected 1"
)

#: Long enough that a term taken within it was not waited for, on any machine.
LONG_S = 60.0


class Stores(ABC):
    """Everybody's view of one database, and what a test must know of its rows."""

    @abstractmethod
    def scheduler(self, *, cluster: str = "c1") -> SchedulerStore:
        """Return the store of another scheduler."""

    @abstractmethod
    def executor(self, name: str = "x1", *, incarnation: str = "i1") -> AttemptStore:
        """Return the store of an executor's process."""

    @abstractmethod
    def beats(self) -> Renewer:
        """Return what renews the leases of an executor."""

    @abstractmethod
    def cutting(self, when: str) -> AbstractContextManager[tuple[SchedulerStore, Callable[[], None]]]:
        """Give a scheduler's store, and a call that has its next commit cut `before` or `after` it is."""

    @abstractmethod
    def plan(
        self, count: int, *, edges: Iterable[tuple[int, int]] = (), state: str = "active"
    ) -> tuple[int, list[int]]:
        """Store a plan of so many tasks; `edges` are (task, on) by position. Return its id and theirs."""

    @abstractmethod
    def attempts(self) -> dict[int, tuple[str, str]]:
        """Return state and end reason of every attempt, by token."""

    @abstractmethod
    def versions(self) -> list[int]:
        """Return the versions of the tasks."""

    @abstractmethod
    def starts(self) -> dict[int, str]:
        """Return the incarnation of every stored start, by token."""

    @abstractmethod
    def events(self) -> list[tuple[int, str]]:
        """Return epoch and type of every event, by seq."""

    @abstractmethod
    async def close(self) -> None:
        """Close every connection."""


class PostgresStores(Stores):
    """On a real PostgreSQL."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self._urls = urls
        self._rows = Rows(urls)
        self._open: list[PostgresSchedulerStore | ExecutorStore] = []
        self._beats: list[Beats] = []

    def scheduler(self, *, cluster: str = "c1") -> SchedulerStore:
        made = make_store(self._urls.direct, cluster_id=cluster)
        self._open.append(made)
        return made

    def executor(self, name: str = "x1", *, incarnation: str = "i1") -> AttemptStore:
        made = ExecutorStore(
            self._urls.service,
            executor=name,
            incarnation=incarnation,
            node_id=f"node of {name}",
            limits=SessionLimits(),
        )
        self._open.append(made)
        return made

    def beats(self) -> Renewer:
        made = Beats(self._urls.service, name="beats")
        self._beats.append(made)
        return made

    @contextmanager
    def cutting(self, when: str) -> Iterator[tuple[SchedulerStore, Callable[[], None]]]:
        with commit_proxy(self._urls.direct) as proxy:
            made = make_store(proxy.through(self._urls.direct))
            self._open.append(made)

            def arm() -> None:
                proxy.next_fate = CommitFate(when)

            yield made, arm

    def plan(
        self, count: int, *, edges: Iterable[tuple[int, int]] = (), state: str = "active"
    ) -> tuple[int, list[int]]:
        return self._rows.plan(count, edges=edges, state=state)

    def attempts(self) -> dict[int, tuple[str, str]]:
        rows = self._rows.all("SELECT token, state, end_reason FROM attempts ORDER BY token")
        return {row["token"]: (row["state"], row["end_reason"]) for row in rows}

    def versions(self) -> list[int]:
        return self._rows.column("SELECT version FROM task_states ORDER BY task_id")

    def starts(self) -> dict[int, str]:
        started = "SELECT token, incarnation FROM attempts WHERE incarnation <> '' ORDER BY token"
        rows = self._rows.all(started)
        return {row["token"]: row["incarnation"] for row in rows}

    def events(self) -> list[tuple[int, str]]:
        rows = self._rows.all("SELECT epoch, type FROM events ORDER BY seq")
        return [(row["epoch"], row["type"]) for row in rows]

    async def close(self) -> None:
        for store in self._open:
            await store.close()
        for beats in self._beats:
            beats.close()


class _CutLine(Line):
    """Loses one commit before it takes place, or its answer."""

    def __init__(self) -> None:
        self.next_cut = ""

    async def carry(self, what: str, transaction: Callable[[], T]) -> T:
        cut, self.next_cut = (self.next_cut, "") if what == "commit" else ("", self.next_cut)
        if cut == "before":
            raise DatabaseUnavailable("The connection broke.")
        answer = transaction()
        if cut == "after":
            raise DatabaseUnavailable("The connection broke.")
        return answer


class MemoryStores(Stores):
    """In memory."""

    def __init__(self) -> None:
        self._now_ms = itertools.count(1_000_000)  # every look at the clock finds it later, as a real one
        self.tables = MemoryTables(clock_ms=lambda: next(self._now_ms))

    def scheduler(self, *, cluster: str = "c1") -> SchedulerStore:
        return MemoryStore(self.tables, cluster_id=cluster)

    def executor(self, name: str = "x1", *, incarnation: str = "i1") -> AttemptStore:
        return MemoryAttempts(self.tables, executor=name, incarnation=incarnation, node_id=f"node of {name}")

    def beats(self) -> Renewer:
        return MemoryBeats(self.tables)

    @contextmanager
    def cutting(self, when: str) -> Iterator[tuple[SchedulerStore, Callable[[], None]]]:
        line = _CutLine()

        def arm() -> None:
            line.next_cut = when

        yield MemoryStore(self.tables, line=line), arm

    def plan(
        self, count: int, *, edges: Iterable[tuple[int, int]] = (), state: str = "active"
    ) -> tuple[int, list[int]]:
        plan_id, first = len(self.tables.plans) + 1, len(self.tables.tasks) + 1
        ids = list(range(first, first + count))
        pairs = [(ids[task], ids[on]) for task, on in edges]
        plan = replace(PLAN, plan_id=plan_id, state=PlanState(state))
        bare = {"task_type": "", "domain": ""}
        self.tables.add_plan(plan, [spec(task_id, **bare) for task_id in ids], pairs)
        return plan_id, ids

    def attempts(self) -> dict[int, tuple[str, str]]:
        return {row.token: (row.state.value, row.end_reason) for row in self.tables.attempts.values()}

    def versions(self) -> list[int]:
        return [self.tables.tasks[task_id].version for task_id in sorted(self.tables.tasks)]

    def starts(self) -> dict[int, str]:
        rows = sorted(self.tables.attempts.items())
        return {token: row.incarnation for token, row in rows if row.incarnation}

    def events(self) -> list[tuple[int, str]]:
        return [(row.epoch, row.event.type) for row in self.tables.events]

    async def close(self) -> None:
        pass


async def leased(stores: Stores, scheduler: SchedulerStore, *tokens: int) -> tuple[int, list[int]]:
    """Have a task leased for each token; return plan and tasks."""
    plan_id, ids = stores.plan(len(tokens))
    rows = [lease(token, plan_id=plan_id, task_id=i) for token, i in zip(tokens, ids, strict=True)]
    await scheduler.commit(1, rows)
    return plan_id, ids


async def loaded(scheduler: SchedulerStore, plan_id: int) -> list[PlanSlice]:
    """Return all slices of a plan."""
    return [part async for part in scheduler.load_plan(plan_id)]
