"""The scheduler's one writer: a batch of row commands in, one transaction out.

The term's row is updated first in every transaction: that checks the epoch, renews the term and numbers the
batch in one statement, so the outcome of a commit whose answer was lost can be looked up. Rows travel as one
array per column (`UPDATE … FROM unnest`), and a batch is one call (store/commit_call.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg

from orchestrator.core.commands import RowCommand
from orchestrator.errors import Fenced, InvariantViolation
from orchestrator.ports import Term
from orchestrator.store.batches import COMMIT, rows_by_kind
from orchestrator.store.commit_call import FENCED_STATE, GUARD_STATE
from orchestrator.store.event_batches import EventBatch, events_in
from orchestrator.store.hot import PLAN_ONCE, TOKEN_BLOCK, HotConnection
from orchestrator.store.listener import CHANNEL

#: How the server's activity view shows the one connection that writes.
_NAME = "orchestrator-committer"

#: It waits for a commit of ours that the server is still working on, whose connection we have lost.
_LAST_BATCH_SQL = "SELECT batch FROM scheduler_term WHERE epoch = %(epoch)s FOR UPDATE"

_TERM_SQL = """
SELECT epoch, cluster_id, is_released, batch || ' ' || renewed_at, incarnation FROM scheduler_term
"""

_TAKE_SQL = """
INSERT INTO scheduler_term AS t (epoch, cluster_id, incarnation, is_released)
VALUES (1, %(cluster)s, %(incarnation)s, false)
ON CONFLICT ("only") DO UPDATE
SET epoch = t.epoch + 1, cluster_id = excluded.cluster_id, incarnation = excluded.incarnation, batch = 0,
    is_released = false, renewed_at = clock_timestamp()
WHERE t.epoch = %(epoch)s
RETURNING epoch, extract(epoch FROM clock_timestamp()) * 1000
"""


class Committer:
    """The hot connection, used by one caller at a time: the scheduler's loop.

    Args:
        url: libpq URL of the service role, past any connection pooler.
        cluster_id: identity of the Ray cluster whose executors may still run attempts of ours.
    """

    def __init__(self, url: str, *, cluster_id: str) -> None:
        self._cluster_id = cluster_id
        self._epoch = 0
        self._hot = HotConnection(
            url, name=_NAME, options=PLAN_ONCE, prepare=COMMIT.function, autocommit=True
        )

    @property
    def epoch(self) -> int:
        """The term under which this committer writes."""
        return self._epoch

    async def commit(self, batch: int, rows: Sequence[RowCommand]) -> None:
        """Write everything or nothing; see ports.SchedulerStore."""
        by_kind = rows_by_kind(rows)
        arguments = COMMIT.arguments(
            by_kind,
            batch=batch,
            epoch=self._epoch,
            cluster_id=self._cluster_id,
            channel=CHANNEL,
            events=events_in(by_kind[EventBatch]),
        )
        async with self._hot.use() as connection:
            try:
                # psycopg would read the statement anew each time to find its many placeholders.
                await psycopg.AsyncRawCursor(connection).execute(COMMIT.sql, arguments)
            except psycopg.Error as error:
                if error.sqlstate == FENCED_STATE:
                    raise self._fenced() from None
                if error.sqlstate == GUARD_STATE:
                    raise InvariantViolation(f"Batch {batch}: {error.diag.message_primary}.") from None
                raise

    def _fenced(self) -> Fenced:
        return Fenced(f"Epoch {self._epoch} no longer holds the scheduler's term.")

    async def take_term(self, *, incarnation: str, is_starting: bool, patience_s: float) -> Term:
        """Wait until the term may be taken, and take it; see ports.SchedulerStore."""
        seen: tuple[int, object] | None = None
        since = 0.0
        loop = asyncio.get_running_loop()
        while True:
            row = await self._one(_TERM_SQL)
            is_free = row is None or row[2] or row[4] == incarnation
            is_free = is_free or (is_starting and row is not None and row[1] == self._cluster_id)
            still = (row[0], row[3]) if row is not None else None
            if still != seen:
                seen, since = still, loop.time()
            if is_free or loop.time() - since >= patience_s:
                epoch = row[0] if row else 0
                values = {"cluster": self._cluster_id, "incarnation": incarnation, "epoch": epoch}
                taken = await self._one(_TAKE_SQL, values)
                if taken is not None:
                    self._epoch = taken[0]
                    return Term(epoch=taken[0], now_ms=int(taken[1]))
            await asyncio.sleep(min(1.0, patience_s / 5))

    async def release_term(self) -> None:
        """Give the term back."""
        async with self._hot.use() as connection:
            await connection.execute(
                "UPDATE scheduler_term SET is_released = true WHERE epoch = %s", (self._epoch,)
            )

    async def last_batch(self) -> int:
        """Return the number of the last committed batch; see ports.SchedulerStore."""
        row = await self._one(_LAST_BATCH_SQL, {"epoch": self._epoch})
        if row is None:
            raise self._fenced()
        return int(row[0])

    async def reserve_tokens(self) -> tuple[int, int]:
        """Take a block of tokens from the sequence."""
        row = await self._one("SELECT nextval('attempt_tokens')")
        assert row is not None
        return int(row[0]), TOKEN_BLOCK

    async def close(self) -> None:
        """Close the connection."""
        await self._hot.close()

    async def _one(self, statement: str, values: dict[str, Any] | None = None) -> tuple[Any, ...] | None:
        async with self._hot.use() as connection:
            cursor = await connection.execute(statement.encode(), values or {})
            return await cursor.fetchone()
