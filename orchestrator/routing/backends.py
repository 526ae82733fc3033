"""Which backend runs an attempt: decided once, when the attempt is made, from what is wanted and possible."""

from __future__ import annotations

from orchestrator.errors import PlanError

AUTO = "auto"
COMMAND = "command"
SIMULATED = "simulated"
ANTHROPIC = "anthropic"


def choose_backend(wanted: str, *, has_run: bool, is_gate: bool) -> str:
    """Return the backend of an attempt.

    Args:
        wanted: what plan or agent type ask for; `auto` leaves the choice to us.
        has_run: the task has `run:` lines.
        is_gate: the attempt runs the task's `verify:` lines, which are commands whatever is wanted.

    Raises:
        PlanError: `command` is wanted and there is nothing to run.
    """
    if is_gate:
        return COMMAND
    if wanted == COMMAND and not has_run:
        raise PlanError(
            "The backend `command` is wanted, but the task has no `run:` lines.",
            remedy="Add a `run:` line below the task, or choose the backend `auto`.",
        )
    if wanted != AUTO:
        return wanted
    return COMMAND if has_run else ANTHROPIC


def needs_credentials(backend: str) -> bool:
    """Return whether sessions of `backend` call a paid API."""
    return backend == ANTHROPIC
