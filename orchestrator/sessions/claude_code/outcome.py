"""What a session of Claude Code came to, in our words."""

from __future__ import annotations

from typing import NamedTuple

from claude_agent_sdk import ResultMessage
from pydantic import ValidationError

from orchestrator.core.words import FailureClass
from orchestrator.errors import Overloaded
from orchestrator.money import MICROS
from orchestrator.ports import Outcome, SessionLimits
from orchestrator.sessions.claude_code.access import Access
from orchestrator.sessions.models.messages_errors import judgement_of
from orchestrator.sessions.report import Report, Review, no_report
from orchestrator.sessions.tools.toolbox import explain


class Ending(NamedTuple):
    """How the program ended: its last word, if it came to one, and what the SDK complains about."""

    result: ResultMessage | None
    error: str


def outcome_of(
    ending: Ending, access: Access, limits: SessionLimits, *, report: type[Report | Review]
) -> Outcome:
    """Return the outcome: the report, else why there is none. The usage is added by the backend."""
    result = ending.result
    if result is not None and result.structured_output is not None:
        try:
            return report.model_validate(result.structured_output).outcome()
        except ValidationError as error:
            return no_report(FailureClass.AGENT, f"The report is not valid: {explain(error)}")
    subtype = result.subtype if result is not None else ""
    if access.was_refused or subtype == "error_max_budget_usd":
        cap = f"${limits.cost_micros_max / MICROS:.2f}"
        return no_report(FailureClass.BUDGET, f"The session reached its cap of {cap}.")
    if isinstance(access.failure, Overloaded):
        return no_report(FailureClass.RATE_LIMITED, str(access.failure))
    if access.failure is not None:
        return judgement_of(access.failure, has_begun=access.meter.usage.requests > 0).outcome()
    if access.answer.stop_reason == "refusal":
        why = access.answer.stop_details.get("explanation") or "no reason given"
        return no_report(FailureClass.AGENT, f"The model refused the task: {why}.")
    if result is None:
        return no_report(FailureClass.INFRASTRUCTURE, f"Claude Code ended without a result. {ending.error}")
    why, said = _why_without(result, limits)
    return no_report(FailureClass.AGENT, why, said=said)


def _why_without(result: ResultMessage, limits: SessionLimits) -> tuple[str, str]:
    """Return why there is no report, and what was said instead."""
    said = result.result or "; ".join(result.errors or ())
    match result.subtype:
        case "error_max_turns":
            return f"There was no report after {limits.turns_max} turns.", ""
        case "error_max_structured_output_retries":
            return "The model gave no valid report.", said
    if result.is_error:
        return f"Claude Code gave up: {said}", ""
    return "The model ended its turn without a report.", said
