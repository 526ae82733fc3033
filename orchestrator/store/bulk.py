"""Inserts any number of rows with one statement.

Rows travel as one array per column and are unfolded by `unnest`: a constant number of parameters, one
prepared statement per table, and, unlike COPY, allowed under row level security.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Table, TextClause, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB

from orchestrator.store.engine import Connection

Columns = Mapping[str, Sequence[Any]]


async def insert_columns(connection: Connection, table: Table, columns: Columns) -> None:
    """Insert `columns` (name to values, all of one length) into `table`; no rows is no statement."""
    rows_count = len(next(iter(columns.values())))
    if not rows_count:
        return
    values = {name: _encoded(table, name, column) for name, column in columns.items()}
    await connection.execute(_statement(table, tuple(columns)), values)


async def take_ids(connection: Connection, table: Table, count: int) -> list[int]:
    """Take `count` new ids of `table.id` from its sequence, ascending."""
    query = text(
        "SELECT nextval(pg_get_serial_sequence(:table, 'id')) FROM generate_series(1, CAST(:count AS bigint))"
    )
    result = await connection.execute(query, {"table": table.name, "count": count})
    return sorted(result.scalars())


@lru_cache(maxsize=64)
def _statement(table: Table, names: tuple[str, ...]) -> TextClause:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    arrays = ", ".join(f"CAST(:{name} AS {table.c[name].type.compile(dialect=dialect)}[])" for name in names)
    return text(f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM unnest({arrays})")  # noqa: S608 - names of our own tables


def _encoded(table: Table, name: str, values: Sequence[Any]) -> list[Any]:
    if isinstance(table.c[name].type, JSONB):
        return [json.dumps(value) for value in values]
    return list(values)
