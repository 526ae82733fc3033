"""Routes of events: a stream of server-sent events that resumes by seq, or a page of JSON."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response, StreamingResponse

from orchestrator.runtime.service import Service
from orchestrator.views import EventView, Page
from serve_app.openapi import EVENT_STREAM, problems
from serve_app.parameters import InPlan, Limit, PlanRef, Served, plan_of

router = APIRouter(tags=["events"])

HEARTBEAT_S = 15.0

_STREAM = "text/event-stream"
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # proxies pass it on at once

Seq = Annotated[int, Query(ge=0, lt=2**63, description="Seq of the last event seen.")]
LastEventId = Annotated[
    int | None,
    Header(
        alias="Last-Event-ID", ge=0, lt=2**63, description="The same; what a browser sends on reconnecting."
    ),
]


@router.get("/plans/{ref:path}/events", summary="Follow a plan", responses=EVENT_STREAM | problems(404))
async def plan_events(
    request: Request,
    service: Served,
    ref: PlanRef,
    after: Seq = 0,
    limit: Limit = 500,
    last_event_id: LastEventId = None,
) -> Response:
    """Stream the events of a plan; see `/events`."""
    plan_id = await service.plan_id(ref)
    return await _answer(request, service, plan_id, _first(last_event_id, after), limit)


@router.get("/events", summary="Follow everything", responses=EVENT_STREAM | problems(404))
async def events(
    request: Request,
    service: Served,
    plan: InPlan = "",
    after: Seq = 0,
    limit: Limit = 500,
    last_event_id: LastEventId = None,
) -> Response:
    """Stream events as they are committed, from any seq on; the stream never ends by itself.

    With `Accept: application/json` a page of what has happened so far instead; `next` goes on from there.
    """
    plan_id = await plan_of(service, plan)
    return await _answer(request, service, plan_id, _first(last_event_id, after), limit)


async def _answer(
    request: Request, service: Service, plan_id: int | None, after: int, limit: int
) -> Response:
    accepted = request.headers.get("accept", "")
    if "application/json" in accepted and _STREAM not in accepted:
        found = await service.events(after=after, plan_id=plan_id, limit=limit)
        page = Page[EventView](items=found, next=str(found[-1].seq) if len(found) == limit else "")
        return Response(page.model_dump_json(), media_type="application/json")
    watched = service.watch(plan_id=plan_id, after=after)
    return StreamingResponse(server_sent(watched), media_type=_STREAM, headers=_HEADERS)


async def server_sent(
    events: AsyncIterator[EventView], *, heartbeat_s: float = HEARTBEAT_S
) -> AsyncGenerator[bytes]:
    """Write events in the format of server-sent events, with a comment whenever none came for a while."""
    yield b": events follow\n\n"
    following = asyncio.ensure_future(anext(events))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=heartbeat_s)
            if not done:
                yield b": still here\n\n"
                continue
            event = following.result()
            following = asyncio.ensure_future(anext(events))
            yield f"id: {event.seq}\nevent: {event.type}\ndata: {event.model_dump_json()}\n\n".encode()
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


def _first(last_event_id: int | None, after: int) -> int:
    return after if last_event_id is None else last_event_id
