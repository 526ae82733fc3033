"""Inserts any number of rows with one statement.

The rows travel as one JSON document and are unfolded by `json_to_recordset`: one parameter, one prepared
statement per table, and, unlike COPY, allowed under row level security.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Table, TextClause, text
from sqlalchemy.dialects import postgresql

from orchestrator.store.engine import Connection

Columns = Mapping[str, Sequence[Any]]


async def insert_columns(connection: Connection, table: Table, columns: Columns) -> None:
    """Insert `columns` (name to values, all of one length) into `table`; no rows is no statement."""
    names = tuple(columns)
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if rows:
        await connection.execute(_statement(table, names), {"rows": json.dumps(rows)})


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
    into = ", ".join(names)
    shape = ", ".join(f"{name} {table.c[name].type.compile(dialect=dialect)}" for name in names)
    select = f"SELECT {into} FROM json_to_recordset(CAST(:rows AS json)) AS row ({shape})"  # noqa: S608 - our own names
    return text(f"INSERT INTO {table.name} ({into}) {select}")
