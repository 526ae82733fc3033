"""The scheduler's one writer: a batch of row commands in, one transaction out.

The term's row is updated first in every transaction: that checks the epoch, renews the term and numbers the
batch in one statement, so the outcome of a commit whose answer was lost can be looked up. Rows travel as one
array per column (`UPDATE … FROM unnest`), statements in pipeline mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg

from orchestrator.core.commands import RowCommand
from orchestrator.errors import Fenced, InvariantViolation
from orchestrator.ports import Term
from orchestrator.store.batches import Statement, statements
from orchestrator.store.hot import PLAN_ONCE, TOKEN_BLOCK, HotConnection
from orchestrator.store.listener import CHANNEL

#: How the server's activity view shows the one connection that writes.
_NAME = "orchestrator-committer"

_RENEW = b"""
UPDATE scheduler_term SET batch = %(batch)s, renewed_at = clock_timestamp()
WHERE epoch = %(epoch)s AND NOT is_released
"""

#: It waits for a commit of ours that the server is still working on, whose connection we have lost.
_LAST_BATCH_SQL = "SELECT batch FROM scheduler_term WHERE epoch = %(epoch)s FOR UPDATE"

_TERM_SQL = """
SELECT epoch, cluster_id, is_released, batch || ' ' || renewed_at, incarnation FROM scheduler_term
"""

#: Ends what a frozen holder left open, which locks the term's row for as long as it is frozen. The server's
#: idle_in_transaction_session_timeout does not: psycopg ends a pipeline with a Flush, which stops its clock.
_END_FROZEN_SQL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = %(name)s AND datname = current_database() AND usename = current_user
    AND wait_event = 'ClientRead' AND xact_start IS NOT NULL
    AND state_change < clock_timestamp() - interval '1 second'
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
        self._hot = HotConnection(url, name=_NAME, options=PLAN_ONCE)

    @property
    def epoch(self) -> int:
        """The term under which this committer writes."""
        return self._epoch

    async def commit(self, batch: int, rows: Sequence[RowCommand]) -> None:
        """Write everything or nothing; see ports.SchedulerStore."""
        async with self._hot.use() as connection:
            counts = await self._write(connection, batch, rows)
            for what, hit, meant in counts:
                if hit == meant:
                    continue
                await connection.rollback()
                if what == "term":
                    raise self._fenced()
                raise InvariantViolation(f"Batch {batch}: memory has {meant} rows of {what}, {hit} are so.")
            await connection.commit()

    async def _write(
        self, connection: psycopg.AsyncConnection[Any], batch: int, rows: Sequence[RowCommand]
    ) -> list[tuple[str, int, int]]:
        """Send every statement in one round trip; return (what, rows hit, rows meant) of the guarded ones."""
        own = {"epoch": self._epoch, "cluster_id": self._cluster_id, "channel": CHANNEL}
        renewal = Statement(what="term", sql=_RENEW, values={**own, "batch": batch}, hits=1)
        renewed = connection.cursor()
        try:
            async with connection.pipeline():
                sent = [(renewal, await renewed.execute(renewal.sql, renewal.values))]
                sent += [(s, await connection.execute(s.sql, s.values)) for s in statements(rows, own)]
        except psycopg.IntegrityError:
            if renewed.rowcount == 0:  # another scheduler has leased what we wanted to lease
                raise self._fenced() from None
            raise
        return [(s.what, cursor.rowcount, s.hits) for s, cursor in sent if s.hits is not None]

    def _fenced(self) -> Fenced:
        return Fenced(f"Epoch {self._epoch} no longer holds the scheduler's term.")

    async def take_term(self, *, incarnation: str, is_starting: bool, patience_s: float) -> Term:
        """Wait until the term may be taken, and take it; see ports.SchedulerStore."""
        seen: tuple[int, object] | None = None
        since = 0.0
        loop = asyncio.get_running_loop()
        while True:
            async with self._hot.use() as connection:
                row = await self._one(connection, _TERM_SQL)
                is_free = row is None or row[2] or row[4] == incarnation
                is_free = is_free or (is_starting and row is not None and row[1] == self._cluster_id)
                still = (row[0], row[3]) if row is not None else None
                if still != seen:
                    seen, since = still, loop.time()
                if is_free or loop.time() - since >= patience_s:
                    await connection.execute(_END_FROZEN_SQL, {"name": _NAME})
                    epoch = row[0] if row else 0
                    values = {"cluster": self._cluster_id, "incarnation": incarnation, "epoch": epoch}
                    taken = await self._one(connection, _TAKE_SQL, values)
                    await connection.commit()
                    if taken is not None:
                        self._epoch = taken[0]
                        return Term(epoch=taken[0], now_ms=int(taken[1]))
                await connection.rollback()
            await asyncio.sleep(min(1.0, patience_s / 5))

    async def release_term(self) -> None:
        """Give the term back."""
        async with self._hot.use() as connection:
            await connection.execute(
                "UPDATE scheduler_term SET is_released = true WHERE epoch = %s", (self._epoch,)
            )
            await connection.commit()

    async def last_batch(self) -> int:
        """Return the number of the last committed batch; see ports.SchedulerStore."""
        async with self._hot.use() as connection:
            row = await self._one(connection, _LAST_BATCH_SQL, {"epoch": self._epoch})
            await connection.rollback()
        if row is None:
            raise self._fenced()
        return int(row[0])

    async def reserve_tokens(self) -> tuple[int, int]:
        """Take a block of tokens from the sequence."""
        async with self._hot.use() as connection:
            row = await self._one(connection, "SELECT nextval('attempt_tokens')")
            await connection.commit()
        assert row is not None
        return int(row[0]), TOKEN_BLOCK

    async def close(self) -> None:
        """Close the connection."""
        await self._hot.close()

    @staticmethod
    async def _one(
        connection: psycopg.AsyncConnection[Any], statement: str, values: dict[str, Any] | None = None
    ) -> tuple[Any, ...] | None:
        cursor = await connection.execute(statement.encode(), values or {})
        return await cursor.fetchone()
