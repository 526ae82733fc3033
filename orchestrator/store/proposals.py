"""Proposals as they are recorded: what a model was asked for, what it said, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, insert, select

from orchestrator.ports import Usage
from orchestrator.proposals import Subtask
from orchestrator.store.engine import Connection
from orchestrator.store.tables import plan_revisions, proposals

_p = proposals.c
_USAGE = (
    "requests",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cost_micros",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProposal:
    """A proposal as its row has it; without subtasks the error says why there are none."""

    id: int
    model: str
    subtasks: tuple[Subtask, ...]
    error: str
    usage: Usage


async def insert_proposal(
    connection: Connection,
    *,
    tenant_id: str,
    plan_id: int,
    task_key: str,
    model: str,
    subtasks: Sequence[Subtask],
    error: str,
    usage: Usage,
) -> StoredProposal:
    """Record a proposal, or with `error` why there is none."""
    values = {
        "tenant_id": tenant_id,
        "plan_id": plan_id,
        "task_key": task_key,
        "model": model,
        "subtasks": [subtask.model_dump(mode="json") for subtask in subtasks],
        "error": error,
        **{name: getattr(usage, name) for name in _USAGE},
    }
    statement = insert(proposals).values(values).returning(_p.id)
    proposal_id = int((await connection.execute(statement)).scalar_one())
    return StoredProposal(id=proposal_id, model=model, subtasks=tuple(subtasks), error=error, usage=usage)


async def read_proposal(connection: Connection, proposal_id: int) -> StoredProposal:
    """Return a proposal; it must exist."""
    found = await _find(connection, _p.id == proposal_id)
    assert found is not None, "proposals are never deleted"
    return found


async def last_proposal(connection: Connection, *, plan_id: int, task_key: str) -> StoredProposal | None:
    """Return the last subtasks proposed for a task, unless its author has changed the task since."""
    r = plan_revisions.c
    is_outdated = exists().where(
        r.plan_id == plan_id,
        r.created_at >= _p.created_at,
        r.state != "refused",
        r.changes.contains([{"key": task_key}]),
    )
    is_of_task = (_p.plan_id == plan_id) & (_p.task_key == task_key) & (_p.error == "")
    return await _find(connection, is_of_task & ~is_outdated)


async def _find(connection: Connection, condition: ColumnElement[bool]) -> StoredProposal | None:
    row = (await connection.execute(select(*_p).where(condition).order_by(_p.id.desc()).limit(1))).first()
    if row is None:
        return None
    return StoredProposal(
        id=row.id,
        model=row.model,
        subtasks=tuple(Subtask.model_validate(subtask) for subtask in row.subtasks),
        error=row.error,
        usage=Usage(**{name: getattr(row, name) for name in _USAGE}),
    )
