"""Agent types as stored: those of everybody, in step with their files, and those that plans brought along.

What turns bad stays as it was when it could last be read; the fault of its file stands beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert

from orchestrator.agent_types import AgentType, name_and_plan, own_name
from orchestrator.store.arrays import words
from orchestrator.store.engine import Connection
from orchestrator.store.hot import unavailable
from orchestrator.store.tables import agent_types

_c = agent_types.c

_KEEP_SQL = """
INSERT INTO agent_types AS known (name, definition, fault)
SELECT * FROM unnest(%(names)s::text[], %(definitions)s::jsonb[], %(faults)s::text[])
ON CONFLICT (tenant_id, name) DO UPDATE
SET definition = coalesce(excluded.definition, known.definition), fault = excluded.fault, updated_at = now()
WHERE (coalesce(excluded.definition, known.definition), excluded.fault)
    IS DISTINCT FROM (known.definition, known.fault)
"""

_FORGET_SQL = "DELETE FROM agent_types WHERE plan_id IS NULL AND name <> ALL(%(names)s::text[])"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAgentType:
    """An agent type with its plan (None = of everybody), and what is wrong with its file now."""

    agent_type: AgentType
    plan_id: int | None
    fault: str


def keep_agent_types(url: str, found: Iterable[AgentType]) -> None:
    """Make the agent types of everybody these; libpq URL of the service role.

    Raises:
        DatabaseUnavailable: nothing was changed.
    """
    rows = [_row(agent_type) for agent_type in found]
    values = {
        "names": words([row["name"] for row in rows]),
        "definitions": words([json.dumps(row["definition"]) if row["definition"] else None for row in rows]),
        "faults": words([row["fault"] for row in rows]),
    }
    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            connection.execute(_KEEP_SQL, values)
            connection.execute(_FORGET_SQL, {"names": values["names"]})
    except psycopg.Error as error:
        raise unavailable(error, url=url) from error


async def save_own(connection: Connection, own: Iterable[AgentType], *, plan_id: int, tenant_id: str) -> None:
    """Store what a plan brings along; what it brought before and no longer does stays."""
    rows = [{**_row(agent_type), "name": own_name(agent_type.name, plan_id)} for agent_type in own]
    if not rows:
        return
    statement = insert(agent_types).values(
        [{"tenant_id": tenant_id, "plan_id": plan_id, **row} for row in rows]
    )
    fresh = {name: statement.excluded[name] for name in ("definition", "fault")} | {"updated_at": func.now()}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["tenant_id", "name"], set_=fresh)
    )


async def read_agent_types(connection: Connection, *, plan_id: int = 0) -> Sequence[StoredAgentType]:
    """Return the agent types of everybody by name, then those of a plan; plan 0 = of none."""
    query = (
        select(_c.name, _c.plan_id, _c.definition, _c.fault)
        .where(or_(_c.plan_id.is_(None), _c.plan_id == plan_id))
        .order_by(_c.plan_id.nulls_first(), _c.name)
    )
    return [
        StoredAgentType(
            agent_type=_agent_type(row.name, row.definition, row.fault),
            plan_id=row.plan_id,
            fault=row.fault,
        )
        for row in await connection.execute(query)
    ]


async def stored_names(connection: Connection, names: Iterable[str]) -> frozenset[str]:
    """Return those of the names under which an agent type is stored."""
    query = select(_c.name).where(_c.name.in_(list(names)))
    return frozenset((await connection.execute(query)).scalars())


def _row(agent_type: AgentType) -> dict[str, Any]:
    definition = None if agent_type.fault else agent_type.model_dump(mode="json", exclude={"fault"})
    return {"name": agent_type.name, "definition": definition, "fault": agent_type.fault}


def _agent_type(name: str, definition: dict[str, Any] | None, fault: str) -> AgentType:
    """Return what stands in a row, under the name that its file gives it."""
    if definition is None:
        return AgentType(name=name_and_plan(name)[0], fault=fault)
    return AgentType(**definition)
