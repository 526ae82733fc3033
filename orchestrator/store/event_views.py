"""Events as readers see them: what happened, in the order of its commits, from any point on."""

from __future__ import annotations

from sqlalchemy import func, select, true

from orchestrator.store.engine import Connection
from orchestrator.store.tables import events, tasks
from orchestrator.views import EventView


async def events_after(
    connection: Connection, *, after: int, plan_id: int | None, limit: int
) -> tuple[EventView, ...]:
    """Return the events whose seq is greater than `after`, oldest first."""
    e = events.c
    columns = (e.seq, e.plan_id, e.task_id, e.token, e.type, e.payload, e.at)
    query = (
        select(*columns, func.coalesce(tasks.c.key, "").label("task_key"))
        .outerjoin(tasks, tasks.c.id == e.task_id)
        .where(e.seq > after)
        .where(e.plan_id == plan_id if plan_id is not None else true())
        .order_by(e.seq)
        .limit(limit)
    )
    rows = (await connection.execute(query)).mappings()
    return tuple(EventView(**row) for row in rows)
