"""Routes of health: for load balancers without a token, for people with one."""

from __future__ import annotations

from fastapi import APIRouter

from orchestrator.errors import Overloaded
from orchestrator.status_views import StatusView
from serve_app.openapi import problems
from serve_app.parameters import Served
from serve_app.schemas import Health

probes = APIRouter(tags=["health"])
router = APIRouter(tags=["health"])


@probes.get("/healthz", summary="Is this process alive?")
async def healthz() -> Health:
    """Answer as long as this process serves."""
    return Health(status="ok")


@probes.get("/readyz", summary="Can it work?", responses=problems(503))
async def readyz(service: Served) -> Health:
    """Answer 200 when the database answers and the scheduler has recovered, else 503."""
    status = await service.status()
    if not status.is_ready:
        raise Overloaded(
            "The scheduler is not ready.", remedy="It is starting or recovering; ask again soon."
        )
    return Health(status="ready")


@router.get("/status", summary="The whole service at a glance")
async def show_status(service: Served) -> StatusView:
    """Return sessions, pools, plans and tasks."""
    return await service.status()
