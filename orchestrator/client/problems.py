"""From an HTTP answer that refuses (RFC 9457, problem+json) back to the error tree.

`type` is `urn:orchestrator:error:<code>`, where the code is the name of the error class; answers that are
not ours (a proxy's page) are told by their status.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import (
    Conflict,
    NotFound,
    OrchestratorError,
    Overloaded,
    PlanError,
    QueueFull,
    RequestRefused,
    ServerUnavailable,
    Unauthorized,
    rebuild,
)

_PREFIX = "urn:orchestrator:error:"

_BY_STATUS: Mapping[int, type[OrchestratorError]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: Conflict,
    413: RequestRefused,
    422: PlanError,
    429: QueueFull,
    502: ServerUnavailable,
    503: Overloaded,
    504: ServerUnavailable,
}


def error_from(status: int, headers: Mapping[str, str], body: bytes) -> OrchestratorError:
    """Return the error that an answer of 400 or above stands for."""
    problem = _problem(body)
    detail = str(problem.get("detail") or problem.get("title") or f"The server answered {status}.")
    return rebuild(
        str(problem.get("type", "")).removeprefix(_PREFIX),
        message=detail,
        remedy=str(problem.get("remedy", "")),
        findings=problem.get("findings") or (),
        retry_after_s=_seconds(headers.get("retry-after", "")),
        default=_BY_STATUS.get(status, OrchestratorError if status >= 500 else RequestRefused),
    )


def _problem(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdecimal() else 1.0
