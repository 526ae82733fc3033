"""Proposals as they are recorded: what a model was asked for, what it said, what it cost."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import insert

from orchestrator.ports import Usage
from orchestrator.proposals import Subtask
from orchestrator.store import tables
from orchestrator.store.engine import Connection


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
) -> int:
    """Record a proposal, or with `error` why there is none, and return its id."""
    values = {
        "tenant_id": tenant_id,
        "plan_id": plan_id,
        "task_key": task_key,
        "model": model,
        "subtasks": [subtask.model_dump(mode="json") for subtask in subtasks],
        "error": error,
        "requests": usage.requests,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cost_micros": usage.cost_micros,
    }
    statement = insert(tables.proposals).values(values).returning(tables.proposals.c.id)
    return int((await connection.execute(statement)).scalar_one())
