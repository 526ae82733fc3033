"""Errors of the Messages API, judged."""

from __future__ import annotations

from collections.abc import Mapping

import anthropic
import httpx2

from orchestrator.core.words import FailureClass
from orchestrator.sessions.models.judging import (
    BY_STATUS,
    CREDIT,
    KEY,
    MALFORMED,
    MODEL,
    NETWORK,
    RATE_LIMITED,
    SERVICE,
    Judgement,
    Row,
)
from orchestrator.sessions.rate_headers import retry_after_s

#: What the SDK raises when a request fails, and what it lets through when a stream breaks.
API_ERRORS = (anthropic.APIError, httpx2.HTTPError)

#: By the type that the error itself names, which also one in mid-stream has; else by the status.
_BY_TYPE: Mapping[str | None, Row] = {
    "rate_limit_error": RATE_LIMITED,
    "overloaded_error": RATE_LIMITED,
    "authentication_error": KEY,
    "permission_error": KEY,
    "billing_error": CREDIT,
    "not_found_error": MODEL,
    "invalid_request_error": MALFORMED,
    "timeout_error": SERVICE,
    "api_error": SERVICE,
}


def judgement_of(error: anthropic.APIError | httpx2.HTTPError, *, has_begun: bool = True) -> Judgement:
    """Judge an error.

    Args:
        error: what the SDK raised.
        has_begun: the model had answered before; a request that is refused later is the agent's doing.
    """
    row = _row_of(error)
    whose = FailureClass.AGENT if has_begun else FailureClass.PLAN_DEFECT
    headers = error.response.headers if isinstance(error, anthropic.APIStatusError) else {}
    return Judgement(
        failure_class=row.failure_class or whose,
        may_pass=row.may_pass,
        reason=f"The Messages API failed: {_reason(error)}",
        remedy=row.remedy,
        retry_after_s=retry_after_s(headers),
    )


def _row_of(error: Exception) -> Row:
    if not isinstance(error, anthropic.APIStatusError):
        return NETWORK
    return _BY_TYPE.get(error.type) or BY_STATUS.get(error.status_code, SERVICE)


def _reason(error: Exception) -> str:
    if isinstance(error, anthropic.APIStatusError):
        return f"{error.status_code} {error.type or 'error'}: {error.api_message or error.message}".rstrip(
            "."
        )
    return f"{type(error).__name__}: {error}".rstrip(". ")
