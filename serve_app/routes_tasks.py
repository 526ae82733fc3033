"""Routes of tasks: what is ready, one task with its attempts, what its sessions said, changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query

from orchestrator.views import LogView, Page, TaskDetail, TaskView
from serve_app.openapi import problems
from serve_app.parameters import IdempotencyKey, InPlan, Limit, Served, TaskRef, plan_of
from serve_app.schemas import Change

router = APIRouter(tags=["tasks"])


@router.get("/tasks/ready", summary="List the ready tasks of a plan", responses=problems(404))
async def ready(service: Served, plan: InPlan, limit: Limit = 50) -> Page[TaskView]:
    """Return the tasks of a plan that would start now, the next one first."""
    return Page(items=await service.ready(await service.plan_id(plan), limit=limit))


@router.get("/tasks/{ref:path}/logs", summary="Read what its sessions said", responses=problems(404, 409))
async def logs(
    service: Served,
    ref: TaskRef,
    plan: InPlan = "",
    token: Annotated[int | None, Query(ge=1, description="Token of the one attempt to show.")] = None,
) -> Page[LogView]:
    """Return the transcripts of a task's attempts, oldest first."""
    task = await _task(service, ref, plan)
    return Page(items=await service.logs(task.id, token=token))


@router.post("/tasks/{ref:path}/cancel", summary="Cancel a task", responses=problems(404, 409))
async def cancel(
    service: Served,
    ref: TaskRef,
    plan: InPlan = "",
    change: Change | None = None,
    idempotency_key: IdempotencyKey = "",
) -> Mapping[str, Any]:
    """Stop its session and start it no more; answered after the commit."""
    return await _change(service, "cancel_task", await _task(service, ref, plan), change, idempotency_key)


@router.post("/tasks/{ref:path}/retry", summary="Retry a task", responses=problems(404, 409))
async def retry(
    service: Served,
    ref: TaskRef,
    plan: InPlan = "",
    change: Change | None = None,
    idempotency_key: IdempotencyKey = "",
) -> Mapping[str, Any]:
    """Give a failed or cancelled task new attempts."""
    return await _change(service, "retry_task", await _task(service, ref, plan), change, idempotency_key)


@router.post("/tasks/{ref:path}/release", summary="Release a held task", responses=problems(404, 409))
async def release(
    service: Served,
    ref: TaskRef,
    plan: InPlan = "",
    change: Change | None = None,
    idempotency_key: IdempotencyKey = "",
) -> Mapping[str, Any]:
    """Say that what it was held for is settled."""
    return await _change(service, "release_task", await _task(service, ref, plan), change, idempotency_key)


@router.get("/tasks/{ref:path}", summary="Show a task", responses=problems(404, 409))
async def show(service: Served, ref: TaskRef, plan: InPlan = "") -> TaskDetail:
    """Return a task with its words, dependencies and attempts."""
    return await _task(service, ref, plan)


async def _task(service: Served, ref: str, plan: str) -> TaskDetail:
    return await service.task(ref, plan_id=await plan_of(service, plan))


async def _change(
    service: Served, kind: str, task: TaskDetail, change: Change | None, idempotency_key: str
) -> Mapping[str, Any]:
    return await service.request(
        kind,
        plan_id=task.plan_id,
        task_id=task.id,
        reason=change.reason if change else "",
        idempotency_key=idempotency_key,
    )
