"""Errors of chat completions, judged.

The type of an error says little here: that of a wrong key is `invalid_request_error` too. So its code counts,
and else its status.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx2
import openai

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
ERRORS = (openai.APIError, httpx2.HTTPError)

_OUTGROWN = Row(FailureClass.AGENT, may_pass=False, remedy="The conversation outgrew the context window.")

#: Of a model or an endpoint that takes no tools; without them no session can report.
_NO_TOOLS = "Name a model that can call functions: without them a session cannot even report."

_BY_CODE: Mapping[str, Row] = {
    "insufficient_quota": CREDIT,
    "billing_hard_limit_reached": CREDIT,
    "rate_limit_exceeded": RATE_LIMITED,
    "slow_down": RATE_LIMITED,
    "overloaded": RATE_LIMITED,
    "invalid_api_key": KEY,
    "model_not_found": MODEL,
    "context_length_exceeded": _OUTGROWN,
    "server_error": SERVICE,
}


def judgement_of(error: Exception, *, has_begun: bool) -> Judgement:
    """Judge one of ERRORS.

    Args:
        has_begun: the model had answered before; a request that is refused later is the agent's doing.
    """
    if not isinstance(error, openai.APIStatusError):
        return _judgement(NETWORK, f"{type(error).__name__}: {error}", whose=FailureClass.INFRASTRUCTURE)
    whose = FailureClass.AGENT if has_begun else FailureClass.PLAN_DEFECT
    told = error.body.get("message") if isinstance(error.body, Mapping) else error.body
    reason = " ".join(f"{error.status_code} {error.code or error.type or 'error'}: {told or error}".split())
    row = _row_of(error)
    if row is MALFORMED and "tool" in reason and "support" in reason:
        row = row._replace(remedy=_NO_TOOLS)
    return _judgement(row, reason, whose=whose, retry_after=retry_after_s(error.response.headers))


def _judgement(row: Row, reason: str, *, whose: FailureClass, retry_after: float = 0.0) -> Judgement:
    return Judgement(
        failure_class=row.failure_class or whose,
        may_pass=row.may_pass,
        reason=f"The model's API failed: {reason}".rstrip(". "),
        remedy=row.remedy,
        retry_after_s=retry_after,
    )


def _row_of(error: openai.APIStatusError) -> Row:
    code = error.code or ""
    by_code = _BY_CODE.get(code) or _BY_CODE.get(error.type or "")
    status = int(code) if code.isdecimal() else error.status_code  # routers tell that of who is behind them
    return by_code or BY_STATUS.get(status, SERVICE)
