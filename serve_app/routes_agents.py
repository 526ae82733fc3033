"""Routes of agent types: which there are, what their files say, and how they stand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from orchestrator.agent_types import AgentTypeView
from orchestrator.views import Page
from serve_app.openapi import problems
from serve_app.parameters import InPlan, Served, plan_of

router = APIRouter(prefix="/agents", tags=["agents"])

Name = Annotated[str, Path(description="Its name; `name@plan` for one that a plan brought along.")]


@router.get("", summary="List the agent types", responses=problems(404))
async def agent_types(service: Served, plan: InPlan = "") -> Page[AgentTypeView]:
    """Return the agent types of everybody, then those that the plan brought along, if one is named."""
    return Page(items=await service.agent_types(plan_id=await plan_of(service, plan) or 0))


@router.get("/{name}", summary="Read an agent type", responses=problems(404))
async def agent_type(service: Served, name: Name) -> AgentTypeView:
    """Return what its file says, with the line of each field that it gives, and how it stands."""
    return await service.agent_type(name)
