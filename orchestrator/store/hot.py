"""What scheduler, executors and metrics share of the hot path: a connection, and the size of token blocks.

Plain psycopg: an executor's start is somebody's wait, and SQLAlchemy alone would add half a second to it.
Rule: after any error the connection is closed, because nobody knows what state it is in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
import structlog
from psycopg.rows import AsyncRowFactory, tuple_row

from orchestrator.errors import DatabaseUnavailable, InvariantViolation, OrchestratorError
from orchestrator.store.roles import place_of, reason_of

log = structlog.get_logger(__name__)

#: Tokens of attempts (and later of landings). The scheduler takes them in blocks of this size.
TOKEN_BLOCK = 1000

REMEDY = "Check that the server runs and that the database URL names it; `orchestrator doctor` tells more."

#: Bounded waits, so that none of ours can block another; and nothing read that was not asked for: every
#: statement here goes by key, in the order of an index where there is one, but while tables grow, the
#: statistics of a moment ago make the server think them small, and read and sort them whole. Before version
#: 18 servers take such a detour for so dear that they would compile each statement.
_OPTIONS = (
    "-c statement_timeout=15s -c idle_in_transaction_session_timeout=10s -c jit=off"
    " -c enable_seqscan=off -c enable_bitmapscan=off"
)

#: Longest time for which a connection is used at a stretch. The bounds above are kept by the server; one that
#: is frozen, or out of reach behind a connection that stays open, keeps none.
PATIENCE_S = 20.0

#: Time after which what was sent and never acknowledged ends the connection, in ms.
UNACKNOWLEDGED_MS = 15_000

#: For connections whose statements all go by token or id: they are planned once, not for every batch.
PLAN_ONCE = " -c plan_cache_mode=force_generic_plan"


class HotConnection:
    """A connection of the service role: opened when it is wanted, and again after it broke.

    Args:
        url: libpq URL.
        name: how the server's activity view shows it.
        row_factory: of psycopg; rows are tuples by default.
        prepare: statement that is carried out, and committed, whenever it is opened.
        options: more settings of the server for it, such as PLAN_ONCE.
        autocommit: each statement is a transaction of its own, one message there and one back.
        patience_s: longest time of one use.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        row_factory: AsyncRowFactory[Any] = tuple_row,
        prepare: str = "",
        options: str = "",
        autocommit: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._url = url
        self._name = name
        self._row_factory = row_factory
        self._prepare = prepare
        self._options = _OPTIONS + options
        self._autocommit = autocommit
        self._patience_s = patience_s
        self._lock = asyncio.Lock()
        self._connection: psycopg.AsyncConnection[Any] | None = None

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Give the connection to one caller at a time, who commits or rolls back.

        Raises:
            DatabaseUnavailable: the server does not answer or hung up; what was not known committed may be.
            InvariantViolation: the server refused a statement of ours.
        """
        async with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await self._open()
                with self._deadline(self._connection):
                    yield self._connection
            except psycopg.Error as error:
                await self.close()
                raise _meaning(error, url=self._url) from error
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        """Close the connection; the next use opens one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _open(self) -> psycopg.AsyncConnection[Any]:
        connection = await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=self._autocommit,
            application_name=self._name,
            connect_timeout=5,
            keepalives_idle=5,
            tcp_user_timeout=UNACKNOWLEDGED_MS,
            options=self._options,
        )
        connection.row_factory = self._row_factory
        if self._prepare:
            with self._deadline(connection):
                await connection.execute(self._prepare.encode())
                await connection.commit()
        return connection

    @contextlib.contextmanager
    def _deadline(self, connection: psycopg.AsyncConnection[Any]) -> Iterator[None]:
        """Hang up when the patience is over. A mere cancel would wait for the server to take note of it."""
        timer = asyncio.get_running_loop().call_later(self._patience_s, hang_up, connection)
        try:
            yield
        finally:
            timer.cancel()


def hang_up(connection: psycopg.AsyncConnection[Any] | psycopg.Connection[Any]) -> None:
    """End a connection under whoever waits for its server: he gets an OperationalError. From any thread."""
    log.warning("the database was silent for too long")
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as twin,
    ):
        twin.shutdown(socket.SHUT_RDWR)


def unavailable(error: psycopg.Error, *, url: str) -> DatabaseUnavailable:
    """Return the error that says which server failed and why, without its password."""
    return DatabaseUnavailable(
        f"PostgreSQL at {place_of(url)} cannot be used: {reason_of(error)}.", remedy=REMEDY
    )


def _meaning(error: psycopg.Error, *, url: str) -> OrchestratorError:
    """Tell callers whether the server is away or a statement of ours is wrong."""
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return unavailable(error, url=url)
    return InvariantViolation(f"The database refused a statement of ours: {error}")
