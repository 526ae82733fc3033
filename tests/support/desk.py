"""A task whose attempts a test makes and ends, in the tables alone, as the scheduler would."""

from __future__ import annotations

from orchestrator.core.commands import RowCommand
from orchestrator.core.words import AttemptState, TaskState
from orchestrator.ports import Fate
from orchestrator.store.urls import DatabaseUrls
from tests.support.rows import Rows, end, lease, make_store


class Desk:
    """One task of an active plan. The token of an attempt is its number; close it."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self.urls = urls
        self.rows = Rows(urls)
        self.plan_id, (self.task_id,) = self.rows.plan(1, state="active")
        self._scheduler = make_store(urls.direct)
        self._batch = 0

    async def lease(self, number: int) -> None:
        """Have an attempt."""
        if not self._batch:
            await self._scheduler.take_term(incarnation="i1", is_starting=True, patience_s=5)
        given = lease(number, plan_id=self.plan_id, task_id=self.task_id, number=number)
        await self._commit(given)

    async def lose(self, number: int) -> None:
        """Declare an attempt lost, and end it."""
        fate: Fate = await self._scheduler.fate(number, may_fence=True, reason="its node is dead")
        assert fate.verdict == "fenced"
        await self.end(number, AttemptState.LOST)

    async def end(self, number: int, state: AttemptState) -> None:
        """End an attempt."""
        await self._commit(end(number, state))

    def move(self, state: TaskState) -> None:
        """Set the state of the task."""
        self.rows.all("UPDATE task_states SET state = %s WHERE task_id = %s", state, self.task_id)

    def stored(self) -> list[tuple[int, int]]:
        """Return token and seq of every journal entry."""
        found = self.rows.all("SELECT token, seq FROM journal_entries ORDER BY token, seq")
        return [(row["token"], row["seq"]) for row in found]

    async def close(self) -> None:
        """Close the connections of the scheduler's store."""
        await self._scheduler.close()

    async def _commit(self, row: RowCommand) -> None:
        self._batch += 1
        await self._scheduler.commit(self._batch, [row])
