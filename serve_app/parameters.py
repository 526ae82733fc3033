"""What several routes take: the service, references, cursors and keys, each described once."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends, Header, Path, Query, Request

from orchestrator.runtime.service import Service


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Served: TypeAlias = Annotated[Service, Depends(_service)]
PlanRef: TypeAlias = Annotated[str, Path(description="Id or name of a plan.", examples=["1"])]
TaskRef: TypeAlias = Annotated[
    str, Path(description="Id of a task, or its key together with `plan`.", examples=["7", "A.1.1"])
]
InPlan: TypeAlias = Annotated[str, Query(alias="plan", description="Id or name of a plan.")]
After: TypeAlias = Annotated[
    str, Query(pattern=r"^\d{0,18}$", description="`next` of the page before; empty for the first page.")
]
Limit: TypeAlias = Annotated[int, Query(ge=1, le=1000, description="Most items of the page.")]
IdempotencyKey: TypeAlias = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        description="The same request under the same key is carried out once and answered alike, also after "
        "a restart: the key is written in the transaction of what it changed.",
    ),
]


async def plan_of(service: Service, ref: str) -> int | None:
    """Return the id of the plan that a query names, None if it names none. Raises NotFound."""
    return await service.plan_id(ref) if ref else None
