"""Routes that look at a plan as a whole: its graph, its forecast, and the plan in other notations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from orchestrator.analysis_views import ForecastView, GraphView
from orchestrator.plan.export import EXPORTS
from orchestrator.plan.forecast import SAMPLES_MAX, WIDTH_MAX
from serve_app.openapi import problems
from serve_app.parameters import PlanRef, Served

router = APIRouter(tags=["plans"])

_Width = Annotated[
    int, Query(ge=0, le=WIDTH_MAX, description="Sessions at once; 0 = as many as are recommended.")
]
_Samples = Annotated[
    int, Query(ge=0, le=SAMPLES_MAX, description="How often the plan is worked through; 0 = enough.")
]
_Seed = Annotated[int, Query(description="The same seed and plan give the same forecast.")]
_To = Annotated[str, Query(description=f"One of {', '.join(EXPORTS)}.")]


@router.get(
    "/plans/{ref:path}/graph", summary="Show what is left and what hangs on what", responses=problems(404)
)
async def graph(service: Served, ref: PlanRef) -> GraphView:
    """Return the ready, held and blocked tasks, waves, critical path, slack and bottlenecks."""
    return await service.graph(await service.plan_id(ref))


@router.get("/plans/{ref:path}/forecast", summary="Forecast its end and its cost", responses=problems(404))
async def forecast(
    service: Served, ref: PlanRef, width: _Width = 0, samples: _Samples = 0, seed: _Seed = 0
) -> ForecastView:
    """Return when the plan will be done and what it will cost, by how many sessions work on it."""
    return await service.forecast(await service.plan_id(ref), width=width, samples=samples, seed=seed)


@router.get(
    "/plans/{ref:path}/export",
    summary="Write a plan in another notation",
    response_class=Response,
    responses=problems(404, 422),
)
async def export(service: Served, ref: PlanRef, to: _To = "json") -> Response:
    """Return the plan as it stands now: its marks are those of its tasks' states."""
    text = await service.export(await service.plan_id(ref), to=to)
    return Response(text, media_type=EXPORTS[to].media_type)
