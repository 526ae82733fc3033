"""Rotation of keys: what is encrypted under an old key, or not at all, is encrypted under the newest one.

It goes batch by batch, each a transaction of its own, so it may be interrupted at any time and goes on with
what is left when it is begun again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from orchestrator.store.arrays import array, words
from orchestrator.store.crypto import FieldKeys
from orchestrator.store.roles import connect

#: Rows of a batch.
BATCH = 200

_Connection = psycopg.Connection[Any]

#: What is encrypted: each row has `token`, `seq`, `key_id` and `bytes`.
_TABLES = ("transcript_chunks", "journal_entries")

_NEXT_SQL = """
SELECT token, seq, key_id, bytes FROM {table}
WHERE (token, seq) > (%s, %s) AND key_id IS DISTINCT FROM %s
ORDER BY token, seq LIMIT %s FOR UPDATE
"""

_UPDATE_SQL = """
UPDATE {table} AS c SET key_id = u.key_id, bytes = u.bytes
FROM unnest(%(tokens)s::bigint[], %(seqs)s::int[], %(key_ids)s::text[], %(bytes)s::bytea[])
    AS u(token, seq, key_id, bytes)
WHERE (c.token, c.seq) = (u.token, u.seq)
"""

_UNDER_SQL = "SELECT DISTINCT key_id FROM {table} WHERE key_id IS NOT NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a batch came to, in rows; `unreadable` stay as they are, because their key is lost."""

    encrypted: int
    unreadable: int


def reencrypt(url: str, keys: FieldKeys, *, rows_max: int = BATCH) -> Iterator[Batch]:
    """Encrypt everything under the newest key; yields after each batch is committed.

    Args:
        url: libpq URL of the service role.

    Raises:
        DatabaseUnavailable: the server does not answer; what was yielded is done.
    """
    with connect(url) as connection:
        for table in _TABLES:
            yield from _reencrypt_table(connection, table, keys, rows_max)


def _reencrypt_table(connection: _Connection, table: str, keys: FieldKeys, rows_max: int) -> Iterator[Batch]:
    after = (0, 0)
    while True:
        with connection.transaction():
            query = _NEXT_SQL.format(table=table).encode()
            rows = connection.execute(query, (*after, keys.newest_id, rows_max)).fetchall()
            encrypted = _replace(connection, table, rows, keys)
        if not rows:
            return
        after = rows[-1][:2]
        yield Batch(encrypted=encrypted, unreadable=len(rows) - encrypted)


def key_ids_in_use(connection: _Connection) -> tuple[str, ...]:
    """Return the ids of the keys under which anything is stored."""
    query = " UNION ".join(_UNDER_SQL.format(table=table) for table in _TABLES)
    return tuple(key_id for (key_id,) in connection.execute(f"{query} ORDER BY key_id".encode()))


def _replace(
    connection: _Connection, table: str, rows: list[tuple[int, int, str | None, bytes]], keys: FieldKeys
) -> int:
    """Store rows anew under the newest key; return how many could be read."""
    readable = [
        (token, seq, *keys.seal(plain))
        for token, seq, key_id, stored in rows
        if (plain := keys.unseal(key_id, stored)) is not None
    ]
    if readable:
        values = {
            "tokens": array([token for token, _, _, _ in readable]),
            "seqs": array([seq for _, seq, _, _ in readable]),
            "key_ids": words([key_id for _, _, key_id, _ in readable]),
            "bytes": [stored for _, _, _, stored in readable],
        }
        connection.execute(_UPDATE_SQL.format(table=table).encode(), values)
    return len(readable)
