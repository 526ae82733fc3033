"""Routes of tasks: what is ready, one task with its attempts, what its sessions said, changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query

from orchestrator.proposals import Proposal
from orchestrator.views import LogView, Page, TaskDetail, TaskView
from serve_app.openapi import problems
from serve_app.parameters import IdempotencyKey, InPlan, Limit, Served, TaskRef, plan_of
from serve_app.schemas import Change, NewBudget, NewDependency

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
    after: Annotated[int, Query(ge=0, description="With `token`: only what follows this `seq`.")] = 0,
) -> Page[LogView]:
    """Return the transcripts of a task's attempts, oldest first."""
    task = await _task(service, ref, plan)
    return Page(items=await service.logs(task.id, token=token, after=after))


@router.post(
    "/tasks/{ref:path}/decompose",
    summary="Have a model propose subtasks",
    responses=problems(400, 404, 409, 422, 503),
)
async def decompose(
    service: Served,
    ref: TaskRef,
    plan: InPlan = "",
    again: Annotated[bool, Query(description="Ask the model even if a proposal is kept.")] = False,
    idempotency_key: IdempotencyKey = "",
) -> Proposal:
    """Return subtasks and the plan's text with them in it; nothing of the plan is changed.

    To apply it, put its `files` as a revision of `base_digest`. What was proposed is kept, and given again as
    long as the task is as it was; asking the model costs money, of the plan's budget.
    """
    task = await _task(service, ref, plan)
    return await service.decompose(task.id, again=again, idempotency_key=idempotency_key)


@router.post(
    "/tasks/{ref:path}/dependencies/add", summary="Let a task wait for another", responses=problems(404, 409)
)
async def add_dependency(
    service: Served, ref: TaskRef, new: NewDependency, plan: InPlan = "", idempotency_key: IdempotencyKey = ""
) -> Mapping[str, Any]:
    """Add a dependency, or accept one that was inferred; refused if it would close a cycle."""
    return await _relink(service, "add_dependency", await _task(service, ref, plan), new, idempotency_key)


@router.post("/tasks/{ref:path}/dependencies/drop", summary="Drop a dependency", responses=problems(404, 409))
async def drop_dependency(
    service: Served, ref: TaskRef, new: NewDependency, plan: InPlan = "", idempotency_key: IdempotencyKey = ""
) -> Mapping[str, Any]:
    """Say that a task has nothing to do with another one, whatever the plan says."""
    return await _relink(service, "drop_dependency", await _task(service, ref, plan), new, idempotency_key)


@router.post("/tasks/{ref:path}/budget", summary="Set the budget of a task", responses=problems(404, 409))
async def budget(
    service: Served, ref: TaskRef, new: NewBudget, plan: InPlan = "", idempotency_key: IdempotencyKey = ""
) -> Mapping[str, Any]:
    """Set the most that all attempts of a task may spend together; 0 = as its author says.

    If it is held for that budget, it goes on from what it has, as far as the new one suffices.
    """
    task = await _task(service, ref, plan)
    return await service.request(
        "set_task_budget",
        task_id=task.id,
        budget_micros=new.budget_micros,
        idempotency_key=idempotency_key,
    )


async def _relink(
    service: Served, kind: str, task: TaskDetail, new: NewDependency, idempotency_key: str
) -> Mapping[str, Any]:
    return await service.relink(
        kind, task_id=task.id, on_key=new.on_key, reason=new.reason, idempotency_key=idempotency_key
    )


def _add_change(action: str, summary: str, description: str) -> None:
    """Add the route that asks the scheduler for `<action>_task`."""

    async def change(
        service: Served,
        ref: TaskRef,
        plan: InPlan = "",
        change: Change | None = None,
        idempotency_key: IdempotencyKey = "",
    ) -> Mapping[str, Any]:
        task = await _task(service, ref, plan)
        return await service.request(
            f"{action}_task",
            task_id=task.id,
            reason=change.reason if change else "",
            idempotency_key=idempotency_key,
        )

    router.add_api_route(
        f"/tasks/{{ref:path}}/{action}",
        change,
        methods=["POST"],
        name=action,
        summary=summary,
        description=f"{description} Answered after the commit.",
        responses=problems(404, 409),
    )


for _change in (
    ("cancel", "Cancel a task", "Stop its session and start it no more."),
    ("skip", "Skip a task", "Give up on it; what depends on it goes on without it."),
    ("finish", "Finish a task by hand", "Say that it is done."),
    ("tick", "Tick a task", "Its author has ticked it: end what works on it, and call it done by file."),
    ("untick", "Take a tick away", "Do a task again that was done, and flag what has relied on it."),
    ("retry", "Retry a task", "Give a failed, cancelled or skipped task new attempts."),
    ("reopen", "Reopen a task", "Do a task again that was done; what depends on it waits for it again."),
    ("hold", "Hold a task", "Keep a task that waits or is ready from starting until it is released."),
    ("release", "Release a held task", "Say that what it was held for is settled."),
    ("approve", "Approve a task", "Let a task start that is held for approval."),
    ("reject", "Reject a task", "Refuse what is held for approval: the task fails, and may be retried."),
):
    _add_change(*_change)


@router.get("/tasks/{ref:path}", summary="Show a task", responses=problems(404, 409))
async def show(service: Served, ref: TaskRef, plan: InPlan = "") -> TaskDetail:
    """Return a task with its words, dependencies and attempts."""
    return await _task(service, ref, plan)


async def _task(service: Served, ref: str, plan: str) -> TaskDetail:
    return await service.task(ref, plan_id=await plan_of(service, plan))
