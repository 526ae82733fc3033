"""Notes as sessions write and read them: by the token of their attempt, on the executor's side.

Whoever holds a live token may write, on the task of that attempt only; what it reads is of the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from psycopg.rows import dict_row

from orchestrator.store.hot import PLAN_ONCE, HotConnection
from orchestrator.store.surroundings import (
    NOTE_FIELDS,
    NOTE_JOINS,
    NOTES_MAX,
    OUTCOME_FIELDS,
    OUTCOME_JOINS,
    outcome_of,
)
from orchestrator.surroundings import Recalled
from orchestrator.text import storable
from orchestrator.views import NoteKind, NoteView

#: The row lock lets two writes of one session follow each other, so that a repeated one is seen.
_WRITE_SQL = """
WITH mine AS (
    SELECT token, tenant_id, plan_id, task_id FROM attempts
    WHERE token = %(token)s AND state IN ('leased', 'started') FOR NO KEY UPDATE
), written AS (
    INSERT INTO notes (tenant_id, plan_id, task_id, token, kind, text)
    SELECT tenant_id, plan_id, task_id, token, %(kind)s, %(text)s FROM mine
    WHERE NOT EXISTS (
        SELECT FROM notes AS n
        WHERE n.task_id = mine.task_id AND n.token = mine.token AND (n.kind, n.text) = (%(kind)s, %(text)s)
    )
)
SELECT token FROM mine
"""

_READ_SQL = f"""
SELECT jsonb_build_object({NOTE_FIELDS}) AS note
FROM attempts AS a JOIN LATERAL (
    SELECT * FROM notes WHERE plan_id = a.plan_id ORDER BY id DESC LIMIT {NOTES_MAX}
) AS n ON true {NOTE_JOINS}
WHERE a.token = %(token)s ORDER BY n.id DESC
"""  # noqa: S608 - our own words

_RECALL_SQL = f"""
SELECT jsonb_build_object({OUTCOME_FIELDS}) AS outcome, o.body, (
    SELECT coalesce(jsonb_agg(jsonb_build_object({NOTE_FIELDS}) ORDER BY n.id DESC), '[]') AS notes
    FROM (SELECT * FROM notes WHERE task_id = o.id ORDER BY id DESC LIMIT {NOTES_MAX}) AS n {NOTE_JOINS}
) AS notes
FROM attempts AS mine
    JOIN tasks AS o ON o.tenant_id = mine.tenant_id AND o.plan_id = mine.plan_id AND o.key = %(key)s
    {OUTCOME_JOINS}
WHERE mine.token = %(token)s
"""  # noqa: S608 - our own words


class PostgresNoteBook:
    """Implements ports.NoteBook.

    Args:
        url: libpq URL of the service role.
        name: how the server's activity view shows the connection; it is opened for the first note.
        redact: takes secrets out of what is written.
    """

    def __init__(self, url: str, *, name: str, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._connection = HotConnection(url, name=name, row_factory=dict_row, options=PLAN_ONCE)

    async def write(self, token: int, *, kind: NoteKind, text: str) -> bool:
        """Leave a note on the task of a live attempt; False: it is over. The same text is kept once."""
        values = {"token": token, "kind": kind.value, "text": self._redact(storable(text))}
        return bool(await self._rows(_WRITE_SQL, values))

    async def read(self, token: int) -> tuple[NoteView, ...]:
        """Return the newest notes and decisions of the plan, the newest first."""
        return tuple(NoteView(**row["note"]) for row in await self._rows(_READ_SQL, {"token": token}))

    async def recall(self, token: int, key: str) -> Recalled | None:
        """Return what is known of a task of the plan; None if it has none of that key."""
        for row in await self._rows(_RECALL_SQL, {"token": token, "key": storable(key)}):
            notes = tuple(NoteView(**note) for note in row["notes"])
            return Recalled(outcome=outcome_of(row["outcome"]), body=row["body"], notes=notes)
        return None

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def _rows(self, statement: str, values: Mapping[str, object]) -> list[dict[str, Any]]:
        async with self._connection.use() as connection:
            rows = await (await connection.execute(statement.encode(), values)).fetchall()
            await connection.commit()
        return rows
