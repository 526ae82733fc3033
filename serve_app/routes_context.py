"""Routes of what sessions are told: context packs of tasks, briefs of plans, and the notes in them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from orchestrator.views import ContextPackView, NewNote, NoteKind, NoteView, Page
from serve_app.openapi import problems
from serve_app.parameters import After, IdempotencyKey, InPlan, Limit, PlanRef, Served, TaskRef, plan_of

router = APIRouter(tags=["context"])

Tokens = Annotated[
    int, Query(ge=0, le=1_000_000, description="Most tokens of the text; 0 = as many as sessions get.")
]


@router.get("/tasks/{ref:path}/context", summary="Read what a task is about", responses=problems(404, 409))
async def of_task(service: Served, ref: TaskRef, plan: InPlan = "", tokens: Tokens = 0) -> ContextPackView:
    """Return what a session is told of the task before it starts, as Markdown, with its size."""
    return await service.orient(ref, plan_id=await plan_of(service, plan), tokens_max=tokens)


@router.get("/plans/{ref:path}/context", summary="Read what a plan is about", responses=problems(404))
async def of_plan(service: Served, ref: PlanRef, tokens: Tokens = 0) -> ContextPackView:
    """Return how far the plan is, what is ready and what is in the way, and what has been decided."""
    return await service.orient(plan_id=await service.plan_id(ref), tokens_max=tokens)


@router.get("/plans/{ref:path}/notes", summary="List the notes of a plan", responses=problems(404))
async def notes(
    service: Served,
    ref: PlanRef,
    task: Annotated[str, Query(description="Only those on this task: its key or id.")] = "",
    kind: Annotated[NoteKind | None, Query(description="Only those of this kind.")] = None,
    after: After = "",
    limit: Limit = 100,
) -> Page[NoteView]:
    """Return notes and decisions, the newest first."""
    plan_id = await service.plan_id(ref)
    return await service.notes(plan_id, task=task, kind=kind or "", after=after, limit=limit)


@router.post(
    "/plans/{ref:path}/notes", status_code=201, summary="Leave a note", responses=problems(404, 409, 422)
)
async def write(
    service: Served, ref: PlanRef, new: NewNote, idempotency_key: IdempotencyKey = ""
) -> NoteView:
    """Leave a note on a task or on the plan, or a decision; sessions that start from now on are told."""
    return await service.write_note(await service.plan_id(ref), new, idempotency_key=idempotency_key)
