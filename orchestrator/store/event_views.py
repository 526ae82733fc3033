"""Events as readers see them: what happened, in the order of its commits, from any point on."""

from __future__ import annotations

from sqlalchemy import text

from orchestrator.store.engine import Connection
from orchestrator.views import EventView

#: No more batches are opened than can be wanted: each holds one event at least.
_EVENTS = """
SELECT b.first_seq + e.n - 1 AS seq, b.plan_id, nullif(e.task_id, 0) AS task_id,
       nullif(e.token, 0) AS token, e.type, e.payload, b.at, coalesce(t.key, '') AS task_key
FROM (
    SELECT * FROM event_batches WHERE last_seq > :after {of_plan} ORDER BY last_seq LIMIT :limit
) AS b, ROWS FROM (
    unnest(b.types), unnest(b.task_ids), unnest(b.tokens), json_array_elements(b.payloads)
) WITH ORDINALITY AS e (type, task_id, token, payload, n) LEFT JOIN tasks AS t ON t.id = e.task_id
WHERE b.first_seq + e.n - 1 > :after ORDER BY 1 LIMIT :limit
"""
_OF_ALL = text(_EVENTS.format(of_plan=""))
_OF_PLAN = text(_EVENTS.format(of_plan="AND plan_id = :plan"))


async def events_after(
    connection: Connection, *, after: int, plan_id: int | None, limit: int
) -> tuple[EventView, ...]:
    """Return the events whose seq is greater than `after`, oldest first."""
    values = {"after": after, "limit": limit}
    of_plan = {} if plan_id is None else {"plan": plan_id}
    query = _OF_PLAN if of_plan else _OF_ALL
    rows = (await connection.execute(query, values | of_plan)).mappings()
    return tuple(EventView(**row) for row in rows)
