"""The backend `simulated`: pretends to work for a while, and says so everywhere.

For trying plans and measuring the orchestrator itself. Rule: the same seed, plan, key and attempt give the
same session, and nothing but a timer is spent on it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from hashlib import blake2b

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.plan.amounts import duration_ms
from orchestrator.ports import Assignment, Outcome, Transcript, Workspace
from orchestrator.sessions.watch import effective_limits

LABEL = "[simulated]"
_DURATIONS_MS = (200, 2_000)
_SIMULATE = re.compile(
    r"(?P<duration>(?:(?!fail|refuse).)*?)\s*(?:\bfail\s+(?P<fails>\d{1,6}))?"
    r"\s*(?:\brefuse\s+(?P<refuses>\d{1,6}))?"
)


def parse_simulate(text: str) -> dict[str, int]:
    """Read a plan's `simulate:` value, such as `1s`, `250ms fail 1`, `fail 2` or `1s refuse 1`.

    Returns:
        The options `duration_ms`, `fail_attempts` and `refuse_reviews`, as far as the text gives them.

    Raises:
        ValueError: it says something else.
    """
    match = _SIMULATE.fullmatch(text.strip())
    wanted_ms = duration_ms(match["duration"]) if match else None
    if match is None or (match["duration"] and wanted_ms is None):
        raise ValueError(
            f"simulate: {text!r} is not a duration, `fail N` and `refuse N`; write for example `1s fail 1`."
        )
    options: dict[str, int] = {}
    if wanted_ms is not None:
        options["duration_ms"] = wanted_ms
    if match["fails"]:
        options["fail_attempts"] = int(match["fails"])
    if match["refuses"]:
        options["refuse_reviews"] = int(match["refuses"])
    return options


class SimulatedBackend:
    """Implements `ports.Backend` with a timer.

    The option `simulate` of the assignment says how long it takes (drawn from the seed when missing), and how
    many work attempts fail and how many reviews refuse first; see `parse_simulate`.
    """

    name = "simulated"

    def __init__(self, *, seed: int = 0) -> None:
        self._seed = seed

    async def run(self, assignment: Assignment, workspace: Workspace, transcript: Transcript) -> Outcome:
        """Sleep, then succeed or fail as the option says."""
        try:
            options = parse_simulate(str(assignment.options.get("simulate", "")))
        except ValueError as error:
            return _failed(FailureClass.PLAN_DEFECT, str(error))
        duration_s = self._duration_ms(assignment, options) / 1000
        limit_s = effective_limits(assignment.limits).total_timeout_s
        transcript.write(
            "note", f"{LABEL} {assignment.kind} {assignment.key}: pretends for {duration_s:g} s\n"
        )
        await asyncio.sleep(min(duration_s, limit_s))
        if duration_s > limit_s:
            return Outcome(
                state=AttemptState.TIMED_OUT,
                failure_class=FailureClass.TIMEOUT,
                summary=f"{LABEL} It took longer than {limit_s:g} s in total.",
            )
        if assignment.kind is AttemptKind.WORK and assignment.number <= options.get("fail_attempts", 0):
            return _failed(FailureClass.AGENT, f"Attempt {assignment.number} was to fail.")
        if assignment.kind is AttemptKind.REVIEW and assignment.number <= options.get("refuse_reviews", 0):
            return _failed(FailureClass.GATE, f"Review {assignment.number} was to refuse.")
        return Outcome(state=AttemptState.SUCCEEDED, summary=f"{LABEL} Pretended for {duration_s:g} s.")

    def _duration_ms(self, assignment: Assignment, options: Mapping[str, int]) -> int:
        identity = f"{self._seed}\0{assignment.plan_name}\0{assignment.key}\0{assignment.number}"
        draw = int.from_bytes(blake2b(identity.encode(), digest_size=8).digest())
        shortest, longest = _DURATIONS_MS
        return options.get("duration_ms", shortest + draw % (longest - shortest))


def _failed(failure_class: FailureClass, why: str) -> Outcome:
    summary = f"{LABEL} {why}"
    return Outcome(state=AttemptState.FAILED, failure_class=failure_class, summary=summary, detail=summary)
