"""Columns of rows as array literals of PostgreSQL, for `unnest` on the hot path.

psycopg's own dump of a list looks at every element with a regular expression: it was the largest single cost
of a batch (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterable


def array(values: Iterable[str | int | bool | None]) -> str:
    """Return one column as a literal that any array type reads: text is quoted, None is NULL."""
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: str | int | bool | None) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return "NULL" if value is None else str(value)
