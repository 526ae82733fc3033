"""What an error of a model's API means, whoever provides it: whose fault it is, and whether it may pass.

Rule: a fault of the plan or of the agent is charged to them; everything else is charged to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.ports import Outcome

_SUMMARY_CHARS = 300


class Row(NamedTuple):
    """What to make of an error; `failure_class` None: of a request that the model has never answered, the
    plan's defect; of a later one, the agent's doing."""

    failure_class: FailureClass | None
    may_pass: bool
    remedy: str = ""


RATE_LIMITED = Row(FailureClass.RATE_LIMITED, may_pass=True)
MALFORMED = Row(None, may_pass=False)
KEY = Row(
    FailureClass.INFRASTRUCTURE,
    may_pass=False,
    remedy="Check the API key in the settings and what it may use.",
)
CREDIT = Row(FailureClass.INFRASTRUCTURE, may_pass=False, remedy="Check the credit of the account.")
MODEL = Row(
    FailureClass.PLAN_DEFECT, may_pass=False, remedy="Name a model that exists and that the key may use."
)
SERVICE = Row(FailureClass.INFRASTRUCTURE, may_pass=True)
NETWORK = Row(FailureClass.INFRASTRUCTURE, may_pass=True, remedy="Check the network and the base URL.")

#: By the status, where the error's own words say nothing; any other is a fault of the service.
BY_STATUS: Mapping[int, Row] = {
    400: MALFORMED,
    401: KEY,
    402: CREDIT,
    403: KEY,
    404: MODEL,
    413: MALFORMED,
    422: MALFORMED,
    429: RATE_LIMITED,
    529: RATE_LIMITED,
}


class Judgement(NamedTuple):
    """What an error means.

    Attributes:
        failure_class: whom an attempt that it ends is charged to.
        may_pass: the same request may succeed later.
        reason: what happened, without a full stop.
        remedy: what a person can do; may be empty.
        retry_after_s: how long the service asks to wait, in seconds; 0 if it does not say.
    """

    failure_class: FailureClass
    may_pass: bool
    reason: str
    remedy: str
    retry_after_s: float

    def outcome(self) -> Outcome:
        """Return the outcome of an attempt that the error ended; the usage is added by the backend."""
        wait = f"It asks to wait {self.retry_after_s:g} s." if self.retry_after_s else ""
        words = " ".join(f"{self.reason}. {self.remedy} {wait}".split())
        return Outcome(
            state=AttemptState.FAILED,
            failure_class=self.failure_class,
            summary=words[:_SUMMARY_CHARS],
            detail=words,
        )
