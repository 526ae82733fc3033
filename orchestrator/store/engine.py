"""Opens the database for readers: one engine a process, one tenant a transaction.

Everything a front end reads or inserts goes through `tenant_transaction`, which names the tenant inside the
transaction itself. Row level security does the rest: no statement repeats the tenant and none can forget it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

from sqlalchemy import URL, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from orchestrator.errors import DatabaseUnavailable, QueueFull
from orchestrator.store.hot import REMEDY

Engine: TypeAlias = AsyncEngine
Connection: TypeAlias = AsyncConnection

_SET_TENANT = text("SELECT set_config('app.tenant', :tenant, true)")


def make_engine(url: str, *, connections_max: int = 10, name: str = "orchestrator") -> Engine:
    """Make the engine of a process; it connects on first use.

    Args:
        url: libpq URL, such as `postgresql://user:password@127.0.0.1:5432/orchestrator`.
        connections_max: connections open at once; more callers wait up to 10 s, then get QueueFull.
        name: how the server's activity view shows the connections.
    """
    return create_async_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        pool_size=connections_max,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={"application_name": name, "connect_timeout": 5},
    )


@asynccontextmanager
async def tenant_transaction(engine: Engine, tenant_id: str) -> AsyncIterator[Connection]:
    """Open a transaction that sees and writes the rows of one tenant; commits unless the body raises.

    Raises:
        DatabaseUnavailable: the server does not answer or hung up.
        QueueFull: every connection of this process stayed busy for 10 s.
    """
    try:
        async with engine.begin() as connection:
            await connection.execute(_SET_TENANT, {"tenant": tenant_id})
            yield connection
    except PoolTimeout as error:
        raise QueueFull("Every database connection of this process is busy.", remedy="Try again.") from error
    except (OperationalError, InterfaceError) as error:
        raise unavailable(engine.url, error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise unavailable(engine.url, error) from error
        raise


def unavailable(url: URL, error: DBAPIError) -> DatabaseUnavailable:
    """Return the error that says which server failed and why, without its password."""
    reason = str(error.orig).strip().partition("\n")[0] or type(error.orig).__name__
    where = f"{url.host}:{url.port or 5432}/{url.database}"
    return DatabaseUnavailable(f"PostgreSQL at {where} cannot be used: {reason.rstrip('.')}.", remedy=REMEDY)


def libpq_url(engine: Engine) -> str:
    """Return the URL of an engine as libpq reads it, password included; never show it."""
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
