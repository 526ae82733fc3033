"""Idempotency keys: the same request under the same key is answered once and then repeated.

The key's row is inserted in the transaction of the work itself. Whoever comes second waits on that row
until the first has committed, and then reads the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from orchestrator.errors import Conflict
from orchestrator.store.engine import Connection
from orchestrator.store.tables import idempotency_keys as table


async def stored_answer(connection: Connection, *, key: str, body_digest: str) -> Mapping[str, Any] | None:
    """Return the answer given under `key`, or None if the key is new.

    Raises:
        Conflict: the key was used for another body.
    """
    query = select(table.c.body_digest, table.c.response).where(table.c.key == key)
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    if row.body_digest != body_digest:
        raise Conflict(
            f"Idempotency key {key!r} was used for another request.",
            remedy="Use a new key for a new request.",
        )
    return dict(row.response or {})


async def claim(
    connection: Connection, *, tenant_id: str, key: str, body_digest: str
) -> Mapping[str, Any] | None:
    """Take a key for this transaction and return None, or return the answer that another one gave.

    Raises:
        Conflict: the key was used for another body.
    """
    values = {"tenant_id": tenant_id, "key": key, "body_digest": body_digest}
    taken = await connection.execute(
        insert(table).values(values).on_conflict_do_nothing().returning(table.c.key)
    )
    if taken.first():
        return None
    return await stored_answer(connection, key=key, body_digest=body_digest)


async def store_answer(connection: Connection, *, key: str, answer: Mapping[str, Any]) -> None:
    """Keep the answer of a claimed key."""
    await connection.execute(update(table).where(table.c.key == key).values(response=dict(answer)))
