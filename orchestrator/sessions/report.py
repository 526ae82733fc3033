"""The report with which a model session ends, in a shape that can be stored and judged: what it did, or, of
a review, what it thinks of the work.

Rule: a session that gives no valid report has not succeeded, whatever else it said.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.ports import Outcome

_SUMMARY_CHARS = 200
_REASON_CHARS = 300
_DETAIL_CHARS = 20_000


class Report(BaseModel):
    """End the session and report on the task. Call this exactly once, when nothing is left to do."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["done", "failed", "blocked"] = Field(
        description="done: every acceptance criterion is met; failed: it could not be done; "
        "blocked: something outside of this task is missing."
    )
    summary: str = Field(min_length=1, description="What was done or why not, in one to three sentences.")
    files: list[str] = Field(default_factory=list, description="Paths created or changed.")
    tests: list[str] = Field(default_factory=list, description="Checks that were run, each with its result.")
    follow_ups: list[str] = Field(default_factory=list, description="Work that was found and not done.")
    blockers: list[str] = Field(default_factory=list, description="What is missing, if blocked.")

    def outcome(self) -> Outcome:
        """Return what it means; the usage is added by the backend."""
        is_done = self.status == "done"
        return Outcome(
            state=AttemptState.SUCCEEDED if is_done else AttemptState.FAILED,
            failure_class=None if is_done else FailureClass.AGENT,
            summary=_one_line(self.summary if is_done else f"{self.status}: {self.summary}"),
            detail=self.model_dump_json(indent=2)[:_DETAIL_CHARS],
            report=self.model_dump(),
        )


class Review(BaseModel):
    """End the session with your judgement of the work. Call this exactly once, when you have seen enough."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["accepted", "refused"] = Field(
        description="accepted: every acceptance criterion is met; refused: the work must be mended first."
    )
    summary: str = Field(min_length=1, description="Why, in one to three sentences.")
    reasons: list[str] = Field(
        default_factory=list,
        description="What must change before it can be accepted, one point each; none if it is accepted.",
    )

    @model_validator(mode="after")
    def _says_what_must_change(self) -> Self:
        if self.verdict == "refused" and not self.reasons:
            raise ValueError("refused work needs `reasons`: say what must change")
        return self

    def outcome(self) -> Outcome:
        """Return what it means: refused work goes back with the reasons, like work that failed its gate."""
        is_accepted = self.verdict == "accepted"
        points = "\n".join(f"- {reason}" for reason in self.reasons)
        return Outcome(
            state=AttemptState.SUCCEEDED if is_accepted else AttemptState.FAILED,
            failure_class=None if is_accepted else FailureClass.GATE,
            summary=_one_line(f"{self.verdict}: {self.summary}"),
            detail=f"{self.summary}\n{points}"[:_DETAIL_CHARS],
            report=self.model_dump(),
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_SUMMARY_CHARS]


def no_report(failure_class: FailureClass, summary: str, *, said: str = "") -> Outcome:
    """Return how a session ended that gave none: why, on one line, and what the model said last.

    Args:
        summary: why; as it stands it goes on in the detail.
    """
    detail = f"{summary}\n{said}" if said else summary
    return Outcome(
        state=AttemptState.FAILED,
        failure_class=failure_class,
        summary=" ".join(summary.split())[:_REASON_CHARS],
        detail=detail[:_DETAIL_CHARS],
    )
