"""The report with which a model session ends: what it did, in a shape that can be stored and judged.

Rule: a session that gives no valid report has not succeeded, whatever else it said.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.ports import Outcome

_SUMMARY_CHARS = 200
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


def outcome_of(report: Report) -> Outcome:
    """Return the outcome that a report means; its usage is added by the backend."""
    is_done = report.status == "done"
    return Outcome(
        state=AttemptState.SUCCEEDED if is_done else AttemptState.FAILED,
        failure_class=None if is_done else FailureClass.AGENT,
        summary=" ".join(f"{'' if is_done else f'{report.status}: '}{report.summary}".split())[
            :_SUMMARY_CHARS
        ],
        detail=report.model_dump_json(indent=2)[:_DETAIL_CHARS],
        report=report.model_dump(),
    )
