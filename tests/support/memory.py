"""The scheduler's surroundings in memory: a store whose commits can be held and broken, and executors.

Both obey ports.SchedulerStore and ports.ExecutorGateway. Whoever waits for something to happen awaits
`Signal.until`; nothing here sleeps.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from orchestrator.core.commands import LeaseAttempt, RowCommand, SaveTask
from orchestrator.core.events import AffinityRow, AttemptEnded, AttemptStarted
from orchestrator.errors import DatabaseUnavailable, Fenced, NotFound
from orchestrator.ports import Fate, PlanSlice, Term


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
        async with asyncio.timeout(10):
            while not condition():
                await self._changed.wait()


class MemoryStore:
    """What the tables would hold.

    `breaks` says how the next commits end: `lost` (nothing was written), `cut` (written, but the answer did
    not arrive), `fenced`; when it is empty they succeed.
    """

    def __init__(self) -> None:
        self.signal = Signal()
        self.plans: dict[int, list[PlanSlice]] = {}
        self.submitted: list[int] = []
        self.stored_reports: list[AttemptStarted | AttemptEnded] = []
        self.fates: dict[int, list[Fate]] = defaultdict(list)
        self.asked_fates: list[tuple[int, bool, str]] = []
        self.written: list[RowCommand] = []
        self.sent: list[tuple[int, list[RowCommand]]] = []
        self.breaks: list[str] = []
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.breaks_reading_after: list[int] = []
        self.readings: list[int] = []
        self.terms: list[bool] = []
        self.releases = 0
        self.is_away = False
        self._batch = 0
        self._tokens = 1

    def leased(self) -> list[LeaseAttempt]:
        """Return the attempts that were written."""
        return [row for row in self.written if isinstance(row, LeaseAttempt)]

    def states(self) -> dict[int, str]:
        """Return the last written state of each task."""
        return {row.task_id: row.state.value for row in self.written if isinstance(row, SaveTask)}

    def _answer(self) -> None:
        if self.is_away:
            raise DatabaseUnavailable("The database does not answer.")

    async def take_term(self, *, incarnation: str, is_starting: bool, patience_s: float) -> Term:
        del incarnation, patience_s
        self._answer()
        self.terms.append(is_starting)
        self._batch = 0
        self.signal.note()
        return Term(epoch=len(self.terms), now_ms=1_000_000)

    async def release_term(self) -> None:
        self._answer()
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
        self._batch = batch
        self.written += rows
        self.signal.note()
        if how == "cut":
            raise DatabaseUnavailable("The connection broke.")

    async def last_batch(self) -> int:
        self._answer()
        return self._batch

    async def reserve_tokens(self) -> tuple[int, int]:
        self._answer()
        first, self._tokens = self._tokens, self._tokens + 1000
        return first, 1000

    async def unfinished_plans(self) -> list[int]:
        self._answer()
        return sorted(set(self.plans) - set(self.submitted))

    async def submitted_plans(self) -> list[int]:
        self._answer()
        return list(self.submitted)

    async def load_plan(self, plan_id: int) -> AsyncIterator[PlanSlice]:
        self.readings.append(plan_id)
        self.signal.note()
        await self.may_read.wait()
        if plan_id not in self.plans:
            raise NotFound(f"There is no plan {plan_id}.")
        breaks_after = self.breaks_reading_after.pop(0) if self.breaks_reading_after else None
        for n, part in enumerate(self.plans[plan_id]):
            if n == breaks_after:
                raise DatabaseUnavailable("The connection broke.")
            yield part

    async def reports(self) -> list[AttemptStarted | AttemptEnded]:
        self.signal.note()
        return list(self.stored_reports)

    async def beats(self) -> dict[int, int]:
        return {}

    async def fate(self, token: int, *, is_proven_gone: bool, reason: str) -> Fate:
        self._answer()
        self.asked_fates.append((token, is_proven_gone, reason))
        self.signal.note()
        left = self.fates[token]
        if is_proven_gone or not left:
            return Fate(verdict="fenced")
        return left.pop(0) if len(left) > 1 else left[0]

    async def changed_affinity(self) -> tuple[AffinityRow, ...]:
        return ()

    async def save_state(self, key: str, value: Mapping[str, object]) -> None:
        del key, value


class MemoryExecutors:
    """Remembers what the scheduler asked for. `proofs` answers kill_tree, the last one again and again."""

    def __init__(self) -> None:
        self.signal = Signal()
        self.starts: list[tuple[str, list[int]]] = []
        self.cancels: list[tuple[str, int, str]] = []
        self.kills: list[tuple[str, int]] = []
        self.proofs: list[bool] = [True]
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

    async def kill_tree(self, executor: str, token: int) -> bool:
        self.kills.append((executor, token))
        self.signal.note()
        return self.proofs.pop(0) if len(self.proofs) > 1 else self.proofs[0]

    async def want(self, sessions: Mapping[str, int]) -> None:
        self.told.append(dict(sessions))
        self.signal.note()
        await self.may_be_told.wait()
