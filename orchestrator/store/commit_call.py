"""A batch as one message to the server and one back: the call of a function that holds the whole transaction.

The committer's connection defines the function for itself when it opens, out of the same tables that give it
its arguments, so the two never differ. Each message of a pipeline wakes the server, and each answer the
scheduler; on two cores that cost a batch more than its rows (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.store.arrays import array, words

#: What the function raises when the epoch no longer holds the term, and when a guard hits another number of
#: rows than there are.
FENCED_STATE = "OR001"
GUARD_STATE = "OR002"

#: Types whose values are quoted in an array.
_WORDS = ("text", "jsonb")

#: For each column the type of its array, and how a row gives the value.
Columns = tuple[tuple[str, Callable[[Any], Any]], ...]

#: Name and type of what every call says beside its rows, in the order of the arguments.
_CONSTANTS = {"batch": "bigint", "epoch": "bigint", "cluster_id": "text", "channel": "text", "events": "int"}

_FUNCTION = """
CREATE OR REPLACE FUNCTION pg_temp.commit_batch({types}) RETURNS void LANGUAGE plpgsql AS $function$
DECLARE
    hit bigint;
    seq_before bigint;
BEGIN
    UPDATE scheduler_term SET batch = {batch}, last_seq = last_seq + {events}, renewed_at = clock_timestamp()
    WHERE epoch = {epoch} AND NOT is_released RETURNING last_seq - {events} INTO seq_before;
    IF NOT FOUND THEN
        RAISE 'fenced' USING ERRCODE = '{fenced}';
    END IF;
{tables}
END
$function$
"""

_TABLE = """
    IF {first} IS NOT NULL THEN
{statements}
    END IF;
"""

_GUARD = """
        GET DIAGNOSTICS hit = ROW_COUNT;
        IF hit <> cardinality({first}) THEN
            RAISE 'memory has % rows of {what}, % are so', cardinality({first}), hit
            USING ERRCODE = '{guard}';
        END IF;
"""


class Table:
    """Writes all rows of one kind.

    Args:
        what: the rows it writes, in the words of an error.
        sql: a statement in which `{columns}` stands for the arrays of the columns, `{0}` and so on for one of
            them, `{batch}`, `{epoch}`, `{cluster_id}` and `{channel}` for what the call says; `seq_before` is
            the seq of the last event before it.
        is_guarded: whether the statement must hit as many rows as there are.
        then: a second statement over the same rows.
    """

    def __init__(
        self,
        what: str,
        kind: type[Any],
        sql: str,
        columns: Columns,
        *,
        is_guarded: bool,
        then: str = "",
    ) -> None:
        self.what = what
        self.kind = kind
        self.types = [f"{type_}[]" for type_, _ in columns]
        self._sql = sql
        self._columns = [(words if type_ in _WORDS else array, value) for type_, value in columns]
        self._is_guarded = is_guarded
        self._then = then

    def block(self, first: int, constants: Mapping[str, str]) -> str:
        """Return its part of the function; `first` is the number of the argument with its first column."""
        arguments = [f"${first + n}" for n in range(len(self.types))]
        guard = _GUARD.format(first=arguments[0], what=self.what, guard=GUARD_STATE)
        parts = (f"{self._sql.strip()};", guard if self._is_guarded else "", self._then and f"{self._then};")
        statements = "\n".join(parts)
        names = {**constants, "columns": ", ".join(arguments)}
        body = statements.format(*arguments, **names)
        return _TABLE.format(first=arguments[0], statements=body)

    def arrays(self, rows: Sequence[Any]) -> list[str | None]:
        """Return an array literal for each column; NULL for each when there are no rows."""
        if not rows:
            return [None] * len(self._columns)
        return [literal(list(map(value, rows))) for literal, value in self._columns]


class CommitCall:
    """The function over some tables, and the arguments of a call.

    Attributes:
        function: the statement that defines it.
        sql: the statement that calls it, with the server's own placeholders.
    """

    def __init__(self, tables: Sequence[Table]) -> None:
        self._tables = tables
        types = [*_CONSTANTS.values(), *(type_ for table in tables for type_ in table.types)]
        constants = {name: f"${n}" for n, name in enumerate(_CONSTANTS, start=1)}
        blocks: list[str] = []
        first = len(_CONSTANTS) + 1
        for table in tables:
            blocks.append(table.block(first, constants))
            first += len(table.types)
        self.function = _FUNCTION.format(
            types=", ".join(types), fenced=FENCED_STATE, tables="".join(blocks), **constants
        )
        arguments = ", ".join(f"${n}::{type_}" for n, type_ in enumerate(types, start=1))
        self.sql = f"SELECT pg_temp.commit_batch({arguments})".encode()

    def arguments(
        self,
        rows: Mapping[type[Any], Sequence[Any]],
        *,
        batch: int,
        epoch: int,
        cluster_id: str,
        channel: str,
        events: int,
    ) -> list[str | None]:
        """Return the arguments of a call, all as text, so that one plan serves every call.

        Args:
            events: how many there are in the batch.
        """
        found: list[str | None] = [str(batch), str(epoch), cluster_id, channel, str(events)]
        for table in self._tables:
            found += table.arrays(rows.get(table.kind, ()))
        return found
