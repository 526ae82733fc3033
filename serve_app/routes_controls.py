"""Routes of what holds for everything: pause, resume, limits. What they set outlives the scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from orchestrator.views import NewLimits
from serve_app.openapi import problems
from serve_app.parameters import IdempotencyKey, Served
from serve_app.schemas import Change

router = APIRouter(tags=["controls"])


@router.post("/pause", summary="Pause everything", responses=problems(409))
async def pause(
    service: Served, change: Change | None = None, idempotency_key: IdempotencyKey = ""
) -> Mapping[str, Any]:
    """Start nothing more in any plan, also after a restart; what runs may end."""
    return await service.request(
        "pause_all", reason=change.reason if change else "", idempotency_key=idempotency_key
    )


@router.post("/resume", summary="Resume everything", responses=problems(409))
async def resume(
    service: Served, change: Change | None = None, idempotency_key: IdempotencyKey = ""
) -> Mapping[str, Any]:
    """Take back the pause of everything; plans that are paused themselves stay so."""
    return await service.request(
        "resume_all", reason=change.reason if change else "", idempotency_key=idempotency_key
    )


@router.post("/limits", summary="Change limits", responses=problems(404, 409))
async def set_limits(
    service: Served, limits: NewLimits, idempotency_key: IdempotencyKey = ""
) -> Mapping[str, Any]:
    """Change how many sessions may be live, which ends none, and what may be spent. `/status` shows them."""
    return await service.request("set_limits", limits=limits, idempotency_key=idempotency_key)
