"""Agent types as they are stored: what routes by them, and what readers see of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from orchestrator.agent_types import AgentType, AgentTypeView, LiveAgentType, own_name
from orchestrator.core.limits import Limits
from orchestrator.errors import NotFound
from orchestrator.routing import Routing
from orchestrator.settings import Settings
from orchestrator.store.agent_types import read_agent_types, stored_names
from orchestrator.store.engine import Connection
from orchestrator.store.task_views import agent_types_in_use


async def stored_routing(connection: Connection, routing: Routing, *, plan_id: int = 0) -> Routing:
    """Return the rules over the agent types that are stored, those of a plan among them if one is named."""
    found = await read_agent_types(connection, plan_id=plan_id)
    common = routing.with_stored(each.agent_type for each in found if each.plan_id is None)
    return common.with_own_types(each.agent_type for each in found if each.plan_id is not None)


async def agent_type_views(
    connection: Connection,
    routing: Routing,
    *,
    plan_id: int,
    settings: Settings,
    told: Mapping[str, Any] | None,
) -> tuple[AgentTypeView, ...]:
    """Return the agent types of everybody, then those of a plan.

    Args:
        routing: tells of the agent types where none are stored.
        told: what the scheduler says of itself; None = it is away.
    """
    found = await read_agent_types(connection, plan_id=plan_id)
    views = [_view(each.agent_type, plan_id=each.plan_id, fault=each.fault) for each in found] or [
        _view(agent_type, plan_id=None, fault=agent_type.fault) for agent_type in routing.agent_types()
    ]
    if told is None:
        return tuple(views)
    limits = Limits(
        agent_default_max=settings.limits.agent_default_max,
        agent_sessions_max=settings.limits.agent_sessions_max,
    )
    allowed = limits.narrowed({view.pool: view.limits.sessions for view in views})
    return tuple(view.model_copy(update={"live": _live(view.pool, told, allowed)}) for view in views)


def agent_type_named(name: str, views: Sequence[AgentTypeView]) -> AgentTypeView:
    """Return the agent type whose pool has that name. Raises NotFound."""
    for view in views:
        if view.pool == name:
            return view
    near = next(iter(get_close_matches(name, [view.pool for view in views], n=1)), "")
    raise NotFound(
        f"No file defines the agent type {name!r}.",
        remedy=f"Write {near!r} if that is meant." if near else "`orchestrator agents list` names them.",
    )


async def require_agent_types(connection: Connection, routing: Routing, names: Collection[str]) -> None:
    """Raise NotFound if no file defines one of the names and no task has it."""
    stored = await stored_names(connection, names)
    unknown = [name for name in names if name not in stored and not routing.is_known(name)]
    used = await agent_types_in_use(connection, unknown) if unknown else frozenset()
    for name in unknown:
        if name not in used:
            near = routing.near(name)
            raise NotFound(
                f"There is no agent type {name!r}: no file defines it, and no task names it.",
                remedy=f"Write {near!r} if that is meant." if near else "Correct the name.",
            )


def _view(agent_type: AgentType, *, plan_id: int | None, fault: str) -> AgentTypeView:
    pool = agent_type.name if plan_id is None else own_name(agent_type.name, plan_id)
    return AgentTypeView(**agent_type.model_dump() | {"fault": fault}, pool=pool, plan_id=plan_id)


def _live(pool: str, told: Mapping[str, Any], allowed: Limits) -> LiveAgentType:
    row = _first(told.get("pools", ()), agent_type=pool)
    limit = _first(told.get("limits", ()), scope="agent", name=pool)
    by_files = allowed.agent_sessions_max.get(pool, allowed.agent_default_max)
    return LiveAgentType(
        running=row.get("running", 0),
        queued=row.get("queued", 0),
        sessions_max=limit.get("sessions_max") or by_files,
        breaker=row.get("breaker", "closed"),
    )


def _first(rows: Iterable[Mapping[str, Any]], **wanted: str) -> Mapping[str, Any]:
    found = (row for row in rows if all(row.get(name) == value for name, value in wanted.items()))
    return next(found, {})
