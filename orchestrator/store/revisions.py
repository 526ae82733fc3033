"""Revisions as front ends write them: what is stored of a plan, and how its rows are to be by a new text.

A revision is inert until the scheduler takes it: it holds the rows themselves, so that taking it is one short
transaction (store/revising.py) and needs no reading of a plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import insert, select

from orchestrator.core.words import TaskKind, TaskState
from orchestrator.plan.diff import PlanDiff
from orchestrator.plan.model import DependencyKind, Mark, MarkSpan, Notation, PlanDependency, PlanTask
from orchestrator.plan.standing import Standing
from orchestrator.store import tables
from orchestrator.store.bulk import take_ids
from orchestrator.store.engine import Connection
from orchestrator.store.plan_rows import (
    NewPlan,
    decision_columns,
    dependency_columns,
    file_columns,
    state_columns,
    task_columns,
)

Row = dict[str, Any]

_t = tables.tasks.c
_d = tables.task_dependencies.c
_r = tables.plan_revisions.c


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A plan as its tables have it.

    Attributes:
        digest: of its files; a revision says which one it is based on.
        tasks: without those that were removed, in the order of the plan.
        ids, standings: of the tasks, by key.
        rows: of the tasks, by id, as they would be written.
        edges: rows of the dependencies.
    """

    plan_id: int
    digest: str
    format: str
    files: Mapping[str, str]
    tasks: tuple[PlanTask, ...]
    ids: Mapping[str, int]
    standings: Mapping[str, Standing]
    rows: Mapping[int, Row]
    edges: Sequence[Row]

    @property
    def read(self) -> list[Row]:
        """Those of the edges that were read in the text."""
        return [edge for edge in self.edges if not is_decided(edge)]

    def as_dependencies(self, edges: Iterable[Row]) -> tuple[PlanDependency, ...]:
        """Return rows of dependencies under the keys of their tasks."""
        keys = {task_id: key for key, task_id in self.ids.items()}
        return tuple(
            PlanDependency(
                task=keys[edge["task_id"]],
                on=keys[edge["on_task_id"]],
                kind=DependencyKind(edge["kind"]),
                is_explicit=edge["is_explicit"],
                evidence=edge["evidence"],
                line=edge["line"],
                confidence=edge["confidence"],
            )
            for edge in edges
        )

    @property
    def dependencies(self) -> tuple[PlanDependency, ...]:
        """The dependencies that were read in the text, under the keys of its tasks."""
        return self.as_dependencies(self.read)

    @property
    def added(self) -> tuple[PlanDependency, ...]:
        """The dependencies of kind blocks that people have decided on, under the keys of their tasks."""
        return self.as_dependencies(
            edge for edge in self.edges if is_decided(edge) and edge["kind"] == DependencyKind.BLOCKS
        )

    @property
    def decided(self) -> frozenset[tuple[str, str]]:
        """Pairs of keys (task, on) of which a person has decided."""
        keys = {task_id: key for key, task_id in self.ids.items()}
        return frozenset(
            (keys[edge["task_id"]], keys[edge["on_task_id"]]) for edge in self.edges if is_decided(edge)
        )


def is_decided(edge: Row) -> bool:
    """Tell whether a person has decided this of two tasks; it outlives what a text says of them."""
    return str(edge["evidence"]).startswith("by hand")


async def read_stored(connection: Connection, plan_id: int) -> StoredPlan:
    """Return a plan as stored; it must exist."""
    plan = tables.plans.c
    about = select(plan.source_digest, plan.format).where(plan.id == plan_id)
    digest, format_name = (await connection.execute(about)).one()
    files = await read_files(connection, plan_id)
    query = (
        select(*_t, tables.task_states.c.state, tables.task_states.c.reason)
        .join(tables.task_states, tables.task_states.c.task_id == _t.id)
        .where(_t.plan_id == plan_id, ~_t.is_removed)
        .order_by(_t.ordinal)
    )
    found = [dict(row) for row in (await connection.execute(query)).mappings()]
    standings = {
        row["key"]: Standing(state=TaskState(row.pop("state")), reason=row.pop("reason")) for row in found
    }
    edges = await connection.execute(select(*_d).where(_d.plan_id == plan_id))
    keys = {row["id"]: row["key"] for row in found}
    return StoredPlan(
        plan_id=plan_id,
        digest=digest,
        format=format_name,
        files=files,
        tasks=tuple(_task(row, keys) for row in found),
        ids={row["key"]: row["id"] for row in found},
        standings=standings,
        rows={row["id"]: row for row in found},
        edges=[dict(row) for row in edges.mappings()],
    )


async def read_files(connection: Connection, plan_id: int) -> dict[str, str]:
    """Return the texts of a plan by path."""
    file = tables.plan_files.c
    query = select(file.path, file.text).where(file.plan_id == plan_id).order_by(file.path)
    return {row.path: row.text for row in await connection.execute(query)}


def _task(row: Row, keys: Mapping[int, str]) -> PlanTask:
    start, end = row["mark_start"], row["mark_end"]
    return PlanTask(
        key=row["key"],
        has_own_key=row["has_own_key"],
        title=row["title"],
        kind=TaskKind(row["kind"]),
        parent=keys.get(row["parent_id"], ""),
        body=row["body"],
        mark=Mark(row["mark"]),
        span=None if start is None else MarkSpan(start, end, Notation(row["notation"])),
        line=row["line"],
        source=row["source_file"],
        priority=row["priority"],
        estimate_ms=row["estimate_ms"],
        agent=row["agent_override"],
        task_type=row["task_type"],
        domain=row["domain"],
        acceptance=tuple(row["acceptance"]),
        touches=tuple(row["touches"]),
        run=tuple(row["run"]),
        verify=tuple(row["verify"]),
        manual=row["manual"],
        approve=row["approve"],
        options=row["options"],
    )


async def insert_revision(
    connection: Connection, stored: StoredPlan, new: NewPlan, diff: PlanDiff, *, tenant_id: str
) -> int:
    """Store a revision, inert, and return its id.

    Args:
        new: the plan of the new text, its known tasks under the keys of `diff`.
    """
    added = [task.key for task in new.plan.tasks if task.key not in diff.old_of]
    ids = {key: stored.ids[old] for key, old in diff.old_of.items()}
    ids |= dict(zip(added, await take_ids(connection, tables.tasks, len(added)), strict=True))
    values = {
        "tenant_id": tenant_id,
        "plan_id": stored.plan_id,
        "base_digest": stored.digest,
        "digest": new.digest,
        "changes": [asdict(change) for change in diff.changes],
        "content": _content(stored, new, ids, set(added)),
    }
    statement = insert(tables.plan_revisions).values(values).returning(_r.id)
    return int((await connection.execute(statement)).scalar_one())


def _content(stored: StoredPlan, new: NewPlan, ids: Mapping[str, int], added: set[str]) -> dict[str, object]:
    """Return the rows that are to change, by table; store/revising.py writes them."""
    plan_id = stored.plan_id
    tasks = [row for row in _rows(task_columns(new, plan_id=plan_id, ids=ids)) if _differs(stored, row)]
    changed = {row["id"] for row in tasks}
    new_ids = {ids[key] for key in added}
    states = [row for row in _rows(state_columns(new, plan_id=plan_id, ids=ids)) if row["task_id"] in new_ids]
    for row in states:
        if row["state"] == TaskState.READY:  # the scheduler decides, by what is done here
            row["state"] = TaskState.WAITING.value
    removed = sorted(set(stored.rows) - set(ids.values()))
    edges = _rows(dependency_columns(new, plan_id=plan_id, ids=ids))
    decisions = [row for row in _rows(decision_columns(new, ids=ids)) if row["task_id"] in changed]
    return {
        "plan": {"title": new.plan.title, "format": new.plan.format, "meta": dict(new.plan.meta)},
        "decided": [
            (edge["task_id"], edge["on_task_id"], edge["kind"]) for edge in stored.edges if is_decided(edge)
        ],
        "removed": removed,
        "tasks": tasks,
        "task_states": states,
        "task_dependencies": edges if removed or _edges(edges) != _edges(stored.read) else None,
        "routing_decisions": decisions,
        "plan_files": _rows(file_columns(new, plan_id=plan_id)),
    }


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[Row]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _differs(stored: StoredPlan, row: Row) -> bool:
    old = stored.rows.get(row["id"])
    return old is None or any(
        (list(value) if isinstance(value, tuple) else value) != old[name] for name, value in row.items()
    )


def _edges(rows: Sequence[Row]) -> set[tuple[tuple[str, object], ...]]:
    unwritten = {"tenant_id"}
    return {tuple(sorted((k, v) for k, v in row.items() if k not in unwritten)) for row in rows}


async def revision_state(connection: Connection, revision_id: int) -> tuple[str, str]:
    """Return the state of a revision, and why it was refused."""
    query = select(_r.state, _r.reason).where(_r.id == revision_id)
    row = (await connection.execute(query)).one()
    return row.state, row.reason
