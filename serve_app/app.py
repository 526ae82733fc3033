"""Assembles the HTTP front end; it runs under Ray Serve and under any other ASGI server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

from orchestrator import __version__
from orchestrator.runtime.service import Service
from orchestrator.settings import Http
from serve_app import (
    errors,
    routes_agents,
    routes_analysis,
    routes_context,
    routes_controls,
    routes_events,
    routes_health,
    routes_plans,
    routes_tasks,
)
from serve_app.auth import require_token
from serve_app.limits import RequestLimits
from serve_app.openapi import DESCRIPTION, document

OpenService: TypeAlias = Callable[[], AbstractAsyncContextManager[Service]]


def create_app(open_service: OpenService, *, token: str, http: Http) -> FastAPI:
    """Return the application.

    Args:
        open_service: opens the service for as long as the application runs.
        token: what requests must carry.
        http: bounds of a request.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_service() as service:
            app.state.service = service
            yield

    app = FastAPI(
        title="CODITECT Task Orchestrator",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # with the token only, below
        docs_url=None,
        redoc_url=None,
    )
    app.state.token = token
    app.add_middleware(
        RequestLimits, body_bytes_max=http.body_bytes_max, request_timeout_s=http.request_timeout_s
    )
    errors.install(app)
    _add_routes(app)
    return app


def _add_routes(app: FastAPI) -> None:
    app.include_router(routes_health.probes)
    guarded = APIRouter(prefix="/api/v1", dependencies=[Depends(require_token)])
    # routes_plans takes every path below /plans that nobody else does, routes_tasks below /tasks
    first = (routes_events, routes_analysis, routes_context)
    for module in (*first, routes_plans, routes_tasks, routes_agents, routes_controls, routes_health):
        guarded.include_router(module.router)
    app.include_router(guarded)
    app.include_router(_documentation(app))


def _documentation(app: FastAPI) -> APIRouter:
    router = APIRouter(dependencies=[Depends(require_token)], include_in_schema=False)

    @router.get("/openapi.json")
    async def openapi() -> dict[str, Any]:
        return document(app)

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(openapi_url="/openapi.json", title=app.title)

    return router
