"""Taking a revision, as the scheduler does: the rows of a plan become those of its new text.

States and attempts are not touched; what follows for them is decided by the core once it has read the rows.
Taken twice is taken once.

The committer writes meanwhile, and neither may wait for the other in a circle. So first comes what it never
waits for: rows that it does not write, and nothing of their keys, because no new attempt can refer to a row
whose key changes. What both write comes after the row of the term is locked: with that the committer begins
each transaction, so it holds nothing while it waits.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg import sql

from orchestrator.errors import Fenced

#: By what a row is known again, in each table that a revision writes. Named here and not taken from
#: tables.py, whose library would take a second of every scheduler's start.
KEYS = {
    "tasks": ("id",),
    "task_states": ("task_id",),
    "task_dependencies": ("task_id", "on_task_id", "kind"),
    "routing_decisions": ("task_id",),
    "plan_files": ("plan_id", "path"),
}

#: What else never changes in a row of theirs, or is changed under the row of the term alone.
FIXED = frozenset({"tenant_id", "plan_id", "key"})

_FOUND_SQL = """
SELECT r.plan_id, r.tenant_id, r.state, r.content, r.digest, r.base_digest = p.source_digest AS is_next,
       p.state = 'cancelled' AS is_cancelled
FROM plan_revisions AS r JOIN plans AS p ON p.id = r.plan_id WHERE r.id = %(id)s FOR UPDATE OF r
"""

_TERM_SQL = "SELECT epoch FROM scheduler_term WHERE epoch = %(epoch)s AND NOT is_released FOR UPDATE"

_ENDED_SQL = "UPDATE plan_revisions SET state = %(state)s, reason = %(reason)s WHERE id = %(id)s"

_RENAMED_SQL = """
UPDATE tasks AS t SET key = u.key FROM json_to_recordset(%(tasks)s::json) AS u (id bigint, key text)
WHERE t.id = u.id AND t.key <> u.key
"""

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

_DECIDED_SQL = """
SELECT task_id, on_task_id, kind FROM task_dependencies
WHERE plan_id = %(plan)s AND evidence LIKE 'by hand%%'
"""

_NO_FILES_SQL = "DELETE FROM plan_files WHERE plan_id = %(plan)s"

Connection = psycopg.AsyncConnection[dict[str, Any]]


async def take_revision(connection: Connection, revision_id: int, *, epoch: int) -> bool:
    """Write the rows of a revision in this transaction; False if it was refused.

    It is when another one came first, when people have decided on dependencies since the text was compared,
    or when the plan was cancelled.

    Raises:
        Fenced: another scheduler holds the term; nothing may be committed.
    """
    cursor = await connection.execute(_FOUND_SQL, {"id": revision_id})
    found = await cursor.fetchone()
    assert found is not None, "revisions are never deleted"
    if found["state"] != "submitted":
        return bool(found["state"] != "refused")
    decided = await _decided(connection, found["plan_id"])
    if reason := _reason_to_refuse(found, decided):
        await connection.execute(_ENDED_SQL, {"id": revision_id, "state": "refused", "reason": reason})
        return False
    await connection.execute("SET CONSTRAINTS uq_tasks_tenant_id_plan_id_key DEFERRED")
    await connection.execute(_NO_FILES_SQL, {"plan": found["plan_id"]})
    for name in ("tasks", "task_states", "routing_decisions", "plan_files"):
        await _upsert(connection, name, found["content"][name], tenant_id=found["tenant_id"])
    cursor = await connection.execute(_TERM_SQL, {"epoch": epoch})
    if await cursor.fetchone() is None:
        raise Fenced(f"Epoch {epoch} no longer holds the scheduler's term.")
    await _write_shared(connection, found, decided)
    await connection.execute(_ENDED_SQL, {"id": revision_id, "state": "stored", "reason": ""})
    return True


async def _decided(connection: Connection, plan_id: int) -> set[tuple[int, int, str]]:
    """Return what people have decided of the plan's dependencies: (task, on, kind)."""
    cursor = await connection.execute(_DECIDED_SQL, {"plan": plan_id})
    return {(row["task_id"], row["on_task_id"], row["kind"]) for row in await cursor.fetchall()}


def _reason_to_refuse(found: dict[str, Any], decided: set[tuple[int, int, str]]) -> str:
    if found["is_cancelled"]:
        return "the plan is cancelled"
    if not found["is_next"]:
        return "the plan was revised meanwhile"
    if {tuple(decision) for decision in found["content"]["decided"]} != decided:
        return "dependencies were decided on by hand meanwhile"
    return ""


async def _write_shared(
    connection: Connection, found: dict[str, Any], decided: set[tuple[int, int, str]]
) -> None:
    """Write what the committer may be waiting to refer to, or to write as well."""
    content, plan = found["content"], found["content"]["plan"]
    keys = [{"id": task["id"], "key": task["key"]} for task in content["tasks"]]
    await connection.execute(_RENAMED_SQL, {"tasks": json.dumps(keys)})
    await connection.execute(_REMOVED_SQL, {"removed": content["removed"]})
    await _relink(connection, found, decided)
    await connection.execute(
        _PLAN_SQL,
        {
            "plan": found["plan_id"],
            "digest": found["digest"],
            "meta": json.dumps(plan["meta"]),
            "title": plan["title"],
            "format": plan["format"],
        },
    )


async def _relink(connection: Connection, found: dict[str, Any], decided: set[tuple[int, int, str]]) -> None:
    """Write the dependencies of the text, if they are new ones, but for pairs that people have decided on."""
    content = found["content"]
    if content["task_dependencies"] is None:
        return
    values = {"plan": found["plan_id"], "removed": content["removed"]}
    await connection.execute(_UNLINKED_SQL, values)
    pairs = {(task_id, on_id) for task_id, on_id, _ in decided}
    edges = [
        edge for edge in content["task_dependencies"] if (edge["task_id"], edge["on_task_id"]) not in pairs
    ]
    await _upsert(connection, "task_dependencies", edges, tenant_id=found["tenant_id"])


async def _upsert(connection: Connection, name: str, rows: list[dict[str, Any]], *, tenant_id: str) -> None:
    """Insert rows, or give those that are there these values, but for what makes up their keys."""
    if not rows:
        return
    rows = [{"tenant_id": tenant_id, **row} for row in rows]
    columns, keys = list(rows[0]), KEYS[name]
    statement = sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {columns}"
        " FROM json_populate_recordset(NULL::{table}, %s::json) AS row"
        " ON CONFLICT ({keys}) DO UPDATE SET {values}"
    ).format(
        table=sql.Identifier(name),
        columns=_names(columns),
        keys=_names(keys),
        values=sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column))
            for column in columns
            if column not in FIXED.union(keys)
        ),
    )
    await connection.execute(statement, (json.dumps(rows),))


def _names(columns: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
