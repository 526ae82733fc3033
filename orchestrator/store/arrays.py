"""Columns of rows as array literals of PostgreSQL, for `unnest` on the hot path.

psycopg's own dump of a list looks at every element with a regular expression: it was the largest single cost
of a batch (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

#: Stands between the words while they are one string; in a word of its own it is like any other character.
_BETWEEN = "\x1f"


def array(values: Collection[int | bool | None]) -> str:
    """Return a column of numbers or truths as a literal that their array types read; None is NULL."""
    literal = "{" + ",".join(map(str, values)) + "}"
    return literal.replace("None", "NULL") if None in values else literal


def words(values: Collection[str | None]) -> str:
    """Return a column of text, JSON or words of an enumeration as a literal; None is NULL."""
    if not values:
        return "{}"
    if None not in values:
        joined = _BETWEEN.join(cast("Collection[str]", values))
        if joined.count(_BETWEEN) < len(values):  # none of them holds it itself
            return '{"' + _escaped(joined).replace(_BETWEEN, '","') + '"}'
    return "{" + ",".join("NULL" if value is None else f'"{_escaped(value)}"' for value in values) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
