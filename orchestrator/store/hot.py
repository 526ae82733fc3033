"""What scheduler and executors share of the hot path: their connection, and the size of a block of tokens.

Plain psycopg: an executor's start is somebody's wait, and SQLAlchemy alone would add half a second to it.
"""

from __future__ import annotations

from typing import Any

import psycopg

#: Tokens of attempts (and later of landings). The scheduler takes them in blocks of this size.
TOKEN_BLOCK = 1000


async def connect(url: str, *, name: str) -> psycopg.AsyncConnection[Any]:
    """Open a connection of the service role with bounded waits, so that none of ours can block another."""
    return await psycopg.AsyncConnection.connect(
        url,
        application_name=name,
        connect_timeout=5,
        keepalives_idle=5,
        options="-c statement_timeout=15s -c idle_in_transaction_session_timeout=10s",
    )
