"""Routes of plans: hand in, list, show, change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from orchestrator.core.words import TaskState
from orchestrator.errors import PlanError
from orchestrator.views import (
    Page,
    PlanDependencyView,
    PlanView,
    Revised,
    ReviseRequest,
    SourceView,
    SubmitRequest,
    Submitted,
    TaskView,
)
from serve_app.openapi import SUBMIT_BODY, problems
from serve_app.parameters import After, IdempotencyKey, Limit, PlanRef, Served
from serve_app.schemas import Change, NewBudget, SubmitOptions

router = APIRouter(tags=["plans"])

DependencyKindName: TypeAlias = Annotated[
    Literal["", "blocks", "informs", "relates", "dropped"], Query(description="Only those of this kind.")
]

_TEXT = ("text/markdown", "text/plain")
_JSON = "application/json"


@router.post(
    "/plans",
    status_code=202,
    summary="Hand in a plan",
    responses=problems(409, 413, 415, 422),
    openapi_extra=SUBMIT_BODY,
)
async def submit(
    request: Request,
    response: Response,
    service: Served,
    options: Annotated[SubmitOptions, Query()],
    idempotency_key: IdempotencyKey = "",
) -> Submitted:
    """Store a plan and start it, or go on with the known plan of its name.

    The body is the Markdown itself, with options in the query, or a JSON object with both.
    """
    handed_in = _read(await request.body(), request.headers.get("content-type", ""), options)
    submitted = await service.submit(handed_in, idempotency_key=idempotency_key)
    response.headers["Location"] = f"/api/v1/plans/{submitted.plan_id}"
    return submitted


@router.get("/plans", summary="List the plans, newest first")
async def list_plans(service: Served, after: After = "", limit: Limit = 100) -> Page[PlanView]:
    """Return a page of plans."""
    return await service.plans(after=after, limit=limit)


@router.get("/plans/{ref:path}/tasks/ready", summary="List the ready tasks", responses=problems(404))
async def ready(service: Served, ref: PlanRef, limit: Limit = 50) -> Page[TaskView]:
    """Return the tasks of a plan that would start now, the next one first."""
    return Page(items=await service.ready(await service.plan_id(ref), limit=limit))


@router.get("/plans/{ref:path}/tasks", summary="List the tasks", responses=problems(404))
async def tasks(
    service: Served, ref: PlanRef, state: TaskState | None = None, after: After = "", limit: Limit = 200
) -> Page[TaskView]:
    """Return a page of a plan's tasks in the plan's order."""
    plan_id = await service.plan_id(ref)
    return await service.tasks(plan_id, state=state or "", after=after, limit=limit)


@router.get("/plans/{ref:path}/dependencies", summary="List the dependencies", responses=problems(404))
async def dependencies(
    service: Served, ref: PlanRef, kind: DependencyKindName = "", after: After = "", limit: Limit = 200
) -> Page[PlanDependencyView]:
    """Return what the tasks of a plan wait for, with the words that say so; `limit` counts tasks."""
    plan_id = await service.plan_id(ref)
    return await service.dependencies(plan_id, kind=kind, after=after, limit=limit)


@router.post("/plans/{ref:path}/cancel", summary="Cancel a plan", responses=problems(404, 409))
async def cancel(
    service: Served, ref: PlanRef, change: Change | None = None, idempotency_key: IdempotencyKey = ""
) -> Mapping[str, Any]:
    """Stop what runs and start nothing more; answered after the commit."""
    return await _change(service, "cancel_plan", ref, change, idempotency_key)


@router.post("/plans/{ref:path}/pause", summary="Pause a plan", responses=problems(404, 409))
async def pause(
    service: Served, ref: PlanRef, change: Change | None = None, idempotency_key: IdempotencyKey = ""
) -> Mapping[str, Any]:
    """Start nothing more; what runs may end."""
    return await _change(service, "pause_plan", ref, change, idempotency_key)


@router.post("/plans/{ref:path}/resume", summary="Resume a plan", responses=problems(404, 409))
async def resume(
    service: Served, ref: PlanRef, change: Change | None = None, idempotency_key: IdempotencyKey = ""
) -> Mapping[str, Any]:
    """Go on with a paused plan; `until_key` works only on one task and what it needs."""
    return await _change(service, "resume_plan", ref, change, idempotency_key)


@router.post("/plans/{ref:path}/budget", summary="Set the budget of a plan", responses=problems(404, 409))
async def budget(
    service: Served, ref: PlanRef, new: NewBudget, idempotency_key: IdempotencyKey = ""
) -> Mapping[str, Any]:
    """Set the most that a plan may spend; tasks that are held for the budget go on if it suffices.

    Sessions that it does not bear are ended, with what they have done, and start again with what is left.
    """
    return await service.request(
        "set_budget",
        plan_id=await service.plan_id(ref),
        budget_micros=new.budget_micros,
        idempotency_key=idempotency_key,
    )


@router.get("/plans/{ref:path}/source", summary="Read the text of a plan", responses=problems(404))
async def source(service: Served, ref: PlanRef) -> SourceView:
    """Return the text of each file of a plan, as files and database last agreed on it, and its tasks."""
    return await service.source(ref)


@router.put(
    "/plans/{ref:path}/source", summary="Revise a plan by a new text", responses=problems(404, 409, 413, 422)
)
async def revise(service: Served, ref: PlanRef, new: ReviseRequest, apply: bool = False) -> Revised:
    """Tell what a new text of a plan changes; with `apply` the plan runs by it, and what runs goes on.

    Tasks are known again by their ids, else by titles and places; their states and attempts stay. What is no
    longer in the text is cancelled.
    """
    return await service.revise(ref, new, is_applied=apply)


@router.get("/plans/{ref:path}", summary="Show a plan", responses=problems(404))
async def show(service: Served, ref: PlanRef) -> PlanView:
    """Return a plan with its roll-up."""
    return await service.plan(ref)


async def _change(
    service: Served, kind: str, ref: str, change: Change | None, idempotency_key: str
) -> Mapping[str, Any]:
    told = change or Change()
    return await service.request(
        kind,
        plan_id=await service.plan_id(ref),
        reason=told.reason,
        until_key=told.until_key,
        idempotency_key=idempotency_key,
    )


def _read(body: bytes, content_type: str, options: SubmitOptions) -> SubmitRequest:
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _TEXT:
        return options.request(_decoded(body))
    if kind == _JSON:
        return _read_json(body, options)
    raise HTTPException(
        415, f"The content type {kind or 'of the body'!r} is not taken; send text/markdown or {_JSON}."
    )


def _read_json(body: bytes, options: SubmitOptions) -> SubmitRequest:
    text = _decoded(body)
    if _is_native_plan(text):
        return options.request(text)
    try:
        return SubmitRequest.model_validate_json(text)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error


def _is_native_plan(text: str) -> bool:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "plan_version" in document


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PlanError(
            f"The plan is not UTF-8: byte {error.start} does not fit.", remedy="Save it as UTF-8."
        ) from error
