"""The surroundings of schedulers and executors in memory: their stores on MemoryTables, and each other.

They obey the Protocols of `orchestrator.ports`. Whoever waits for something to happen awaits `Signal.until`;
nothing here sleeps, except who waits for the term.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from orchestrator.core.commands import LeaseAttempt, RowCommand
from orchestrator.core.events import AffinityRow, AttemptEnded, AttemptStarted, ControlsRead
from orchestrator.core.words import Proof
from orchestrator.errors import DatabaseUnavailable, Fenced
from orchestrator.ports import (
    Assignment,
    Fate,
    Outcome,
    PlanSlice,
    Revision,
    StoredAnswer,
    Term,
    TranscriptChunk,
)
from tests.support.memory_tables import AttemptRow, MemoryTables
from tests.support.sessions import assignment

T = TypeVar("T")


class Signal:
    """Tells that something may have changed."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def note(self) -> None:
        """Something happened."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds; it is looked at whenever something happened."""
        async with asyncio.timeout(60):
            while not condition():
                await self._changed.wait()


class Line:
    """The way of a transaction to the tables and of its answer back; this one is perfect."""

    async def carry(self, what: str, transaction: Callable[[], T]) -> T:
        """Carry out a transaction; `what` names it. A worse line raises DatabaseUnavailable."""
        del what
        return transaction()


class MemoryStore:
    """Implements ports.SchedulerStore."""

    def __init__(self, tables: MemoryTables, *, cluster_id: str = "c1", line: Line | None = None) -> None:
        self.tables = tables
        self.slice_size = 1000
        self.allowed: dict[str, int | None] = {}  #: sessions at once by the files of agent types
        self._cluster_id = cluster_id
        self._line = line or Line()
        self._epoch = 0

    async def take_term(self, *, incarnation: str, is_starting: bool, patience_s: float) -> Term:
        tables, us, loop = self.tables, self._cluster_id, asyncio.get_running_loop()
        seen, since_s = None, 0.0
        while True:
            term = await self._line.carry("look at term", lambda: tables.term)
            if term != seen:
                seen, since_s = term, loop.time()
            is_free = tables.may_take(term, cluster_id=us, incarnation=incarnation, is_starting=is_starting)
            if is_free or loop.time() - since_s >= patience_s:
                epoch = term.epoch if term is not None else 0
                take = partial(tables.take_term, seen_epoch=epoch, cluster_id=us, incarnation=incarnation)
                taken = await self._line.carry("take term", take)
                if taken is not None:
                    self._epoch = taken
                    return Term(epoch=taken, now_ms=tables.clock_ms())
            await asyncio.sleep(min(1.0, patience_s / 5))

    async def release_term(self) -> None:
        await self._line.carry("release term", lambda: self.tables.release_term(self._epoch))

    async def commit(self, batch: int, rows: Sequence[RowCommand]) -> None:
        await self._line.carry("commit", lambda: self.tables.commit(self._epoch, batch, rows))

    async def last_batch(self) -> int:
        return await self._line.carry("last batch", lambda: self.tables.last_batch(self._epoch))

    async def reserve_tokens(self) -> tuple[int, int]:
        return await self._line.carry("reserve tokens", self.tables.reserve_tokens)

    async def unfinished_plans(self) -> list[int]:
        return await self._line.carry("unfinished plans", self.tables.unfinished_plans)

    async def submitted_plans(self) -> list[int]:
        return await self._line.carry("submitted plans", self.tables.submitted_plans)

    async def open_revisions(self) -> list[Revision]:
        found = await self._line.carry("open revisions", self.tables.open_revisions)
        return [Revision(id=revision_id, plan_id=plan_id) for revision_id, plan_id in found]

    async def store_revision(self, revision_id: int) -> bool:
        return await self._line.carry("store revision", lambda: self.tables.store_revision(revision_id))

    async def load_plan(self, plan_id: int) -> AsyncIterator[PlanSlice]:
        parts = self.tables.load_plan(plan_id, slice_size=self.slice_size)
        while (part := await self._line.carry("load plan", lambda: next(parts, None))) is not None:
            yield part

    async def reports(self) -> list[AttemptStarted | AttemptEnded]:
        return await self._line.carry("reports", self.tables.reports)

    async def beats(self) -> dict[int, int]:
        return await self._line.carry("beats", self.tables.beats)

    async def fate(self, token: int, *, may_fence: bool, reason: str) -> Fate:
        return await self._line.carry(
            "fate", lambda: self.tables.fate(token, may_fence=may_fence, reason=reason)
        )

    async def controls(self) -> ControlsRead:
        return await self._line.carry("controls", self.tables.controls_read)

    async def stored_answer(self, *, tenant_id: str, key: str) -> StoredAnswer | None:
        return await self._line.carry("stored answer", lambda: self.tables.answers.get((tenant_id, key)))

    async def agent_sessions(self) -> Mapping[str, int | None]:
        return self.allowed

    async def changed_affinity(self) -> tuple[AffinityRow, ...]:
        return ()

    async def save_state(self, key: str, value: Mapping[str, object]) -> None:
        del key, value


class MemoryAttempts:
    """Implements runtime.executing.AttemptStore."""

    def __init__(
        self,
        tables: MemoryTables,
        *,
        executor: str,
        incarnation: str,
        node_id: str = "",
        line: Line | None = None,
    ) -> None:
        self._tables = tables
        self._executor = executor
        self._incarnation = incarnation
        self._node_id = node_id
        self._line = line or Line()

    async def start(self, tokens: Sequence[int]) -> list[Assignment]:
        return await self._line.carry("start", lambda: self._start(tokens))

    def _start(self, tokens: Sequence[int]) -> list[Assignment]:
        rows = self._tables.start(
            tokens, executor=self._executor, incarnation=self._incarnation, node_id=self._node_id
        )
        return [self._assignment(row) for row in rows]

    def _assignment(self, row: AttemptRow) -> Assignment:
        return assignment(
            token=row.token,
            number=row.number,
            kind=row.kind,
            tenant_id=row.tenant_id,
            plan_id=row.plan_id,
            task_id=row.task_id,
            key=f"T{row.task_id}",
            agent_type=row.agent_type,
            backend=row.backend,
            feedback=self._tables.feedback(row),
            limits={"cost_micros_max": row.reserved_micros} if row.reserved_micros else None,
        )

    async def save_results(self, results: Sequence[tuple[int, Outcome]]) -> set[int]:
        return await self._line.carry("save results", lambda: self._tables.save_results(results))

    async def save_chunks(self, chunks: Sequence[TranscriptChunk]) -> None:
        del chunks


class MemoryBeats:
    """Implements runtime.renewal.Renewer. `check` raises DatabaseUnavailable when nobody can renew."""

    def __init__(self, tables: MemoryTables, *, check: Callable[[], None] = lambda: None) -> None:
        self._tables = tables
        self._check = check

    def renew(self, tokens: Sequence[int]) -> dict[int, str | None]:
        self._check()
        return dict(self._tables.renew(tokens))


class WatchedStore(MemoryStore):
    """A store that tells what was asked of it, and that a test can hold and break.

    `breaks` says how the next commits end: `lost` (nothing was written), `cut` (written, but the answer did
    not arrive), `fenced`; when it is empty they succeed. `breaks_reading_after` says after how many slices
    the next readings break.
    """

    def __init__(self) -> None:
        super().__init__(MemoryTables())
        self.signal = Signal()
        self.asked_fates: list[tuple[int, bool, str]] = []
        self.written: list[RowCommand] = []
        self.sent: list[tuple[int, list[RowCommand]]] = []
        self.breaks: list[str] = []
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.may_reserve = asyncio.Event()
        self.may_reserve.set()
        self.reservations = 0
        self.breaks_reading_after: list[int] = []
        self.unreadable: set[int] = set()
        self.readings: list[int] = []
        self.terms: list[bool] = []
        self.releases = 0
        self.is_away = False

    def hold_term(self) -> None:
        """Hold the term, for a driver that is tested alone."""
        epoch = self.tables.take_term(seen_epoch=0, cluster_id=self._cluster_id, incarnation="i1")
        assert epoch is not None
        self._epoch = epoch

    def leased(self) -> list[LeaseAttempt]:
        """Return the attempts that were written."""
        return [row for row in self.written if isinstance(row, LeaseAttempt)]

    def states(self) -> dict[int, str]:
        """Return the stored state of each task."""
        return {task_id: task.state.value for task_id, task in self.tables.tasks.items()}

    def _answer(self) -> None:
        if self.is_away:
            raise DatabaseUnavailable("The database does not answer.")

    async def take_term(self, *, incarnation: str, is_starting: bool, patience_s: float) -> Term:
        self._answer()
        term = await super().take_term(
            incarnation=incarnation, is_starting=is_starting, patience_s=patience_s
        )
        self.terms.append(is_starting)
        self.signal.note()
        return term

    async def release_term(self) -> None:
        self._answer()
        await super().release_term()
        self.releases += 1
        self.signal.note()

    async def commit(self, batch: int, rows: Sequence[RowCommand]) -> None:
        self.sent.append((batch, list(rows)))
        self.signal.note()
        await self.may_commit.wait()
        how = self.breaks.pop(0) if self.breaks else ""
        if how == "fenced":
            raise Fenced("Epoch 1 no longer holds the scheduler's term.")
        if how == "lost":
            raise DatabaseUnavailable("The connection broke.")
        self._answer()
        await super().commit(batch, rows)
        self.written += rows
        self.signal.note()
        if how == "cut":
            raise DatabaseUnavailable("The connection broke.")

    async def last_batch(self) -> int:
        self._answer()
        return await super().last_batch()

    async def reserve_tokens(self) -> tuple[int, int]:
        self.reservations += 1
        self.signal.note()
        await self.may_reserve.wait()
        self._answer()
        return await super().reserve_tokens()

    async def load_plan(self, plan_id: int) -> AsyncIterator[PlanSlice]:
        self.readings.append(plan_id)
        self.signal.note()
        await self.may_read.wait()
        if plan_id in self.unreadable:
            raise ValueError(f"Plan {plan_id} holds a word that nobody knows.")
        left = self.breaks_reading_after.pop(0) if self.breaks_reading_after else -1
        async for part in super().load_plan(plan_id):
            if left == 0:
                raise DatabaseUnavailable("The connection broke.")
            left -= 1
            yield part

    async def reports(self) -> list[AttemptStarted | AttemptEnded]:
        self.signal.note()
        return await super().reports()

    async def fate(self, token: int, *, may_fence: bool, reason: str) -> Fate:
        self._answer()
        self.asked_fates.append((token, may_fence, reason))
        self.signal.note()
        return await super().fate(token, may_fence=may_fence, reason=reason)


class MemoryExecutors:
    """Remembers what the scheduler asked for. `proofs` answers kill_tree, the last one again and again."""

    def __init__(self) -> None:
        self.signal = Signal()
        self.starts: list[tuple[str, list[int]]] = []
        self.cancels: list[tuple[str, int, str]] = []
        self.kills: list[tuple[str, int]] = []
        self.proofs: list[Proof] = [Proof.GONE]
        self.told: list[dict[str, int]] = []
        self.may_be_told = asyncio.Event()
        self.may_be_told.set()

    def started(self) -> list[int]:
        """Return the tokens that were sent, in order."""
        return [token for _, tokens in self.starts for token in tokens]

    async def start(self, executor: str, tokens: Sequence[int]) -> None:
        self.starts.append((executor, list(tokens)))
        self.signal.note()

    async def cancel(self, executor: str, token: int, reason: str) -> None:
        self.cancels.append((executor, token, reason))
        self.signal.note()

    async def kill_tree(self, node_id: str, token: int) -> Proof:
        self.kills.append((node_id, token))
        self.signal.note()
        return self.proofs.pop(0) if len(self.proofs) > 1 else self.proofs[0]

    async def want(self, sessions: Mapping[str, int]) -> None:
        self.told.append(dict(sessions))
        self.signal.note()
        await self.may_be_told.wait()
