"""What the OpenAPI document says beyond the types: bodies, streams, and how every route refuses."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from orchestrator.views import EventView, Page, SubmitRequest
from serve_app.errors import MEDIA_TYPE
from serve_app.schemas import Problem

DESCRIPTION = """\
Hand in a plan, follow its events, ask for changes.

    curl -H "Authorization: Bearer $(cat $ORCHESTRATOR_HOME/token)" -H "Content-Type: text/markdown" \\
         --data-binary @plan.md http://127.0.0.1:8000/api/v1/plans

Every refusal is a problem (RFC 9457) with the thing, the reason and the remedy. Lists are read page by page:
`next` of a page is `after` of the following one.
"""

_EXAMPLE_PLAN = "# Tidy up\n\n- [ ] **A.1** Count the files\n  - run: `ls | wc -l`\n"
_EXAMPLE_EVENT = (
    'id: 12\nevent: task.done\ndata: {"seq":12,"plan_id":1,"task_id":7,"task_key":"A.1","token":1001,'
    '"type":"task.done","payload":{},"at":"2026-11-20T12:00:00Z"}\n\n'
)
_SCHEMAS = "#/components/schemas/"

SUBMIT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/markdown": {"schema": {"type": "string"}, "example": _EXAMPLE_PLAN},
            "application/json": {
                "schema": {"$ref": f"{_SCHEMAS}SubmitRequest"},
                "example": {"text": _EXAMPLE_PLAN, "workdir": "/srv/tidy-up"},
            },
        },
    }
}

EVENT_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events as they are committed, or a page of them.",
        "content": {
            "text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE_EVENT},
            "application/json": {"schema": {"$ref": f"{_SCHEMAS}Page_EventView_"}},
        },
    }
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the refusals of a route in the form that its decorator takes."""
    schema = {"$ref": f"{_SCHEMAS}Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of `app`, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for path, operation in _operations(made):
            _complete(operation, is_open=not path.startswith("/api/"))
        schemas = made["components"]["schemas"]
        schemas |= _schemas_of(Problem) | _schemas_of(SubmitRequest) | _page_of_events()
        app.openapi_schema = made
    return app.openapi_schema


def _operations(made: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in made["paths"].items():
        for operation in operations.values():
            yield path, operation


def _complete(operation: dict[str, Any], *, is_open: bool) -> None:
    responses = operation["responses"]
    is_default = "HTTPValidationError" in str(responses.get("422"))
    if is_default:
        del responses["422"]
    everywhere = (503,) if is_open else (400, 401, 429, 503)
    for status, problem in problems(*everywhere).items():
        responses.setdefault(str(status), problem)


def _schemas_of(model: Any) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template=_SCHEMAS + "{model}")
    return {**schema.pop("$defs", {}), model.__name__: schema}


def _page_of_events() -> dict[str, Any]:
    found = _schemas_of(Page[EventView])
    found["Page_EventView_"] = found.pop("Page[EventView]")
    return found
