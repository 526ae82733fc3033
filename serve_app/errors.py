"""Every refusal as problem+json (RFC 9457): one table from the error tree to HTTP, one shape for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from orchestrator.errors import (
    Conflict,
    EnvironmentFault,
    NotFound,
    OrchestratorError,
    Overloaded,
    PlanError,
    QueueFull,
    RequestRefused,
    ServerUnavailable,
    Unauthorized,
)
from orchestrator.views import FindingView
from serve_app.schemas import Problem

MEDIA_TYPE = "application/problem+json"

#: The first class that fits counts; what is not here is 500.
STATUS: Mapping[type[OrchestratorError], int] = {
    PlanError: 422,
    NotFound: 404,
    Conflict: 409,
    Unauthorized: 401,
    QueueFull: 429,
    Overloaded: 503,
    RequestRefused: 400,
    EnvironmentFault: 503,  # DatabaseUnavailable among them
}

_CODES: Mapping[int, type[OrchestratorError]] = {
    404: NotFound,
    429: QueueFull,
    503: Overloaded,
    504: ServerUnavailable,
}


def install(app: FastAPI) -> None:
    """Make `app` answer every failure with a problem."""
    app.add_exception_handler(OrchestratorError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)


def status_of(error: OrchestratorError) -> int:
    """Return the HTTP status of an error."""
    return next((status for cls, status in STATUS.items() if isinstance(error, cls)), 500)


def problem_response(
    status: int,
    *,
    code: type[OrchestratorError],
    detail: str,
    remedy: str = "",
    findings: tuple[FindingView, ...] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a problem as a response; `code` names the class that a client raises."""
    problem = Problem(
        type=f"urn:orchestrator:error:{code.__name__}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        remedy=remedy,
        findings=findings,
    )
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, OrchestratorError)
    findings = None
    if isinstance(error, PlanError):
        findings = tuple(FindingView(**asdict(finding)) for finding in error.findings)
    return problem_response(
        status_of(error),
        code=type(error),
        detail=error.message,
        remedy=error.remedy,
        findings=findings,
        headers=_headers(error),
    )


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = (f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors())
    return problem_response(
        400,
        code=RequestRefused,
        detail=f"The request is malformed: {'; '.join(faults)}.",
        remedy="/openapi.json describes every request.",
    )


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, RequestRefused)
    return problem_response(error.status_code, code=code, detail=str(error.detail), headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    return problem_response(
        500,
        code=OrchestratorError,
        detail=f"The server failed at {request.method} {request.url.path}: a defect of ours.",
        remedy="Its log says more.",
    )


def _headers(error: OrchestratorError) -> dict[str, str]:
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, Overloaded):
        return {"Retry-After": str(max(1, round(error.retry_after_s)))}
    return {"Retry-After": "1"} if error.retryable else {}
