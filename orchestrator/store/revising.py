"""Taking a revision, as the scheduler does: the rows of a plan become those of its new text.

States and attempts are not touched, so it cannot meet the committer over a row; what follows for them is
decided by the core once it has read the rows. Taken twice is taken once.
"""

from __future__ import annotations

import json
from typing import Any

import psycopg
from psycopg import sql

from orchestrator.store.tables import metadata

_FOUND_SQL = """
SELECT r.plan_id, r.tenant_id, r.state, r.content, r.digest, r.base_digest = p.source_digest AS is_next,
       p.state = 'cancelled' AS is_cancelled
FROM plan_revisions AS r JOIN plans AS p ON p.id = r.plan_id WHERE r.id = %(id)s FOR UPDATE OF r
"""

_ENDED_SQL = "UPDATE plan_revisions SET state = %(state)s, reason = %(reason)s WHERE id = %(id)s"

#: Its key is free for another; its place is behind all that is in the plan.
_REMOVED_SQL = """
UPDATE tasks SET is_removed = true, key = key || '@' || id, parent_id = NULL, ordinal = 1000000000 + id
WHERE id = ANY(%(removed)s)
"""

_PLAN_SQL = """
UPDATE plans SET title = %(title)s, format = %(format)s, meta = %(meta)s::jsonb, source_digest = %(digest)s,
    tasks_total = (SELECT count(*) FROM tasks WHERE plan_id = %(plan)s AND kind = 'leaf')
WHERE id = %(plan)s
"""

#: What a person has decided of two tasks stays, as long as both are in the plan.
_UNLINKED_SQL = """
DELETE FROM task_dependencies
WHERE plan_id = %(plan)s AND (evidence NOT LIKE 'by hand%%'
                              OR task_id = ANY(%(removed)s) OR on_task_id = ANY(%(removed)s))
"""

_DECIDED_SQL = "SELECT task_id, on_task_id FROM task_dependencies WHERE plan_id = %(plan)s"

_NO_FILES_SQL = "DELETE FROM plan_files WHERE plan_id = %(plan)s"

Connection = psycopg.AsyncConnection[dict[str, Any]]


async def take_revision(connection: Connection, revision_id: int) -> bool:
    """Write the rows of a revision in this transaction; False if it was refused.

    It is when another one came first, or when the plan was cancelled.
    """
    cursor = await connection.execute(_FOUND_SQL, {"id": revision_id})
    found = await cursor.fetchone()
    assert found is not None, "revisions are never deleted"
    if found["state"] != "submitted":
        return bool(found["state"] != "refused")
    if found["is_cancelled"] or not found["is_next"]:
        reason = "the plan is cancelled" if found["is_cancelled"] else "the plan was revised meanwhile"
        await connection.execute(_ENDED_SQL, {"id": revision_id, "state": "refused", "reason": reason})
        return False
    content = found["content"]
    await connection.execute("SET CONSTRAINTS uq_tasks_tenant_id_plan_id_key DEFERRED")
    await connection.execute(_REMOVED_SQL, {"removed": content["removed"]})
    await connection.execute(_NO_FILES_SQL, {"plan": found["plan_id"]})
    for name in ("tasks", "task_states", "routing_decisions", "plan_files"):
        await _upsert(connection, name, content[name], tenant_id=found["tenant_id"])
    await _relink(connection, found, content)
    plan = content["plan"]
    values = {"plan": found["plan_id"], "digest": found["digest"], "meta": json.dumps(plan["meta"])}
    await connection.execute(_ENDED_SQL, {"id": revision_id, "state": "stored", "reason": ""})
    # Last, because the committer writes this row too.
    await connection.execute(_PLAN_SQL, {**values, "title": plan["title"], "format": plan["format"]})
    return True


async def _relink(connection: Connection, found: dict[str, Any], content: dict[str, Any]) -> None:
    """Write the dependencies of the text, if they are new ones."""
    if content["task_dependencies"] is None:
        return
    values = {"plan": found["plan_id"], "removed": content["removed"]}
    await connection.execute(_UNLINKED_SQL, values)
    cursor = await connection.execute(_DECIDED_SQL, values)
    decided = {(row["task_id"], row["on_task_id"]) for row in await cursor.fetchall()}
    edges = [
        edge for edge in content["task_dependencies"] if (edge["task_id"], edge["on_task_id"]) not in decided
    ]
    await _upsert(connection, "task_dependencies", edges, tenant_id=found["tenant_id"])


async def _upsert(connection: Connection, name: str, rows: list[dict[str, Any]], *, tenant_id: str) -> None:
    """Insert rows, or give those that are there these values."""
    if not rows:
        return
    rows = [{"tenant_id": tenant_id, **row} for row in rows]
    table, columns = metadata.tables[name], list(rows[0])
    keys = [column.name for column in table.primary_key]
    statement = sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {columns} FROM json_to_recordset(%s::json) AS row ({shape}) "
        "ON CONFLICT ({keys}) DO UPDATE SET {values}"
    ).format(
        table=sql.Identifier(name),
        columns=_names(columns),
        shape=sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(table.c[column].type.compile()))
            for column in columns
        ),
        keys=_names(keys),
        values=sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in columns
        ),
    )
    await connection.execute(statement, (json.dumps(rows),))


def _names(columns: list[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
