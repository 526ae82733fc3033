"""Errors of the Messages API in our words: whose fault it is, and what to do about it.

Rule: a fault of the plan or of the agent is charged to them; everything else is charged to nobody.
"""

from __future__ import annotations

import anthropic
import httpx2

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.ports import Outcome

#: What the SDK raises when a request fails, and what it lets through when a stream breaks.
API_ERRORS = (anthropic.APIError, httpx2.HTTPError)

_KEY_REMEDY = "Check the API key in the settings and what it may use."
_SUMMARY_CHARS = 300


def failure_of(error: anthropic.APIError | httpx2.HTTPError, *, has_begun: bool) -> Outcome:
    """Return the outcome of an attempt that this error ended.

    Args:
        error: after the retries of the client.
        has_begun: the model had answered before; a request that is refused later is the agent's doing.
    """
    failure_class, remedy = _judge(error, has_begun=has_begun)
    reason = " ".join(f"The Messages API failed: {_reason(error)}. {remedy}".split())
    return Outcome(
        state=AttemptState.FAILED, failure_class=failure_class, summary=reason[:_SUMMARY_CHARS], detail=reason
    )


def _judge(error: Exception, *, has_begun: bool) -> tuple[FailureClass, str]:
    if not isinstance(error, anthropic.APIStatusError):
        return FailureClass.INFRASTRUCTURE, "Check the network and the base URL."
    if error.status_code in (429, 529) or error.type in ("rate_limit_error", "overloaded_error"):
        return FailureClass.RATE_LIMITED, _retry_after(error)
    if error.status_code in (401, 403):
        return FailureClass.INFRASTRUCTURE, _KEY_REMEDY
    if error.status_code == 402:
        return FailureClass.INFRASTRUCTURE, "Check the credit of the account."
    if error.status_code == 404:
        return FailureClass.PLAN_DEFECT, "Name a model that exists and that the key may use."
    if error.status_code in (400, 413, 422):
        return FailureClass.AGENT if has_begun else FailureClass.PLAN_DEFECT, ""
    return FailureClass.INFRASTRUCTURE, ""


def _reason(error: Exception) -> str:
    if isinstance(error, anthropic.APIStatusError):
        return f"{error.status_code} {error.type or 'error'}: {error.api_message or error.message}".rstrip(
            "."
        )
    return f"{type(error).__name__}: {error}".rstrip(". ")


def _retry_after(error: anthropic.APIStatusError) -> str:
    wait_s = error.response.headers.get("retry-after")
    return f"It asks to wait {wait_s} s." if wait_s else ""
