"""What front ends read and write of notes, and of what stands around a task; as the role `api`."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, func, insert, select, true

from orchestrator.store.engine import Connection
from orchestrator.store.surroundings import NOTES_MAX, SURROUNDINGS_SQL, surroundings_of
from orchestrator.store.tables import attempts, notes, tasks
from orchestrator.surroundings import Surroundings
from orchestrator.text import id_in, storable
from orchestrator.views import NoteKind, NoteView, Page


async def read_surroundings(connection: Connection, task_id: int) -> Surroundings:
    """Return what stands around a task; it must exist."""
    rows = await connection.exec_driver_sql(SURROUNDINGS_SQL, {"tasks": [task_id]})
    return surroundings_of(rows.mappings().one())


async def insert_note(
    connection: Connection, *, tenant_id: str, plan_id: int, task_id: int | None, kind: NoteKind, text: str
) -> NoteView:
    """Record a note of a person, on a task or on the plan."""
    values = {"tenant_id": tenant_id, "plan_id": plan_id, "task_id": task_id, "kind": kind.value}
    statement = insert(notes).values(values | {"text": storable(text)}).returning(notes.c.id)
    note_id = (await connection.execute(statement)).scalar_one()
    (note,) = await _views(connection, _listed().where(notes.c.id == note_id))
    return note


async def note_page(
    connection: Connection, plan_id: int, *, task_id: int | None, kind: str, after: str, limit: int
) -> Page[NoteView]:
    """Return notes of a plan, the newest first; `task_id` and `kind` keep those of one task and kind."""
    n, seen = notes.c, id_in(after)
    query = (
        _listed()
        .where(n.plan_id == plan_id)
        .where(n.task_id == task_id if task_id is not None else true())
        .where(n.kind == kind if kind else true())
        .where(n.id < seen if seen is not None else true())
        .order_by(n.id.desc())
        .limit(limit + 1)
    )
    found = await _views(connection, query)
    return Page(items=tuple(found[:limit]), next=str(found[limit - 1].id) if len(found) > limit else "")


async def shared_notes(connection: Connection, plan_id: int) -> Sequence[NoteView]:
    """Return the newest decisions of a plan and notes on it as a whole, the newest first."""
    n = notes.c
    is_shared = (n.kind == NoteKind.DECISION) | n.task_id.is_(None)
    query = _listed().where(n.plan_id == plan_id, is_shared).order_by(n.id.desc()).limit(NOTES_MAX)
    return await _views(connection, query)


def _listed() -> Select[tuple[int, str, str, str, str, object]]:
    n = notes.c
    return (
        select(
            n.id,
            n.kind,
            func.coalesce(tasks.c.key, "").label("task_key"),
            func.coalesce(attempts.c.agent_type, "").label("author"),
            n.text,
            n.created_at.label("at"),
        )
        .outerjoin(tasks, tasks.c.id == n.task_id)
        .outerjoin(attempts, attempts.c.token == n.token)
    )


async def _views(
    connection: Connection, query: Select[tuple[int, str, str, str, str, object]]
) -> Sequence[NoteView]:
    return [NoteView(**row) for row in (await connection.execute(query)).mappings()]
