"""Which backend runs a task: decided once, when its plan is loaded, from what is wanted and possible."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.agent_types import GENERAL
from orchestrator.backends import PROVIDERS
from orchestrator.errors import PlanError
from orchestrator.installed import claude_code_program
from orchestrator.plan.model import Plan
from orchestrator.settings import Settings

AUTO = "auto"
COMMAND = "command"
SIMULATED = "simulated"
ANTHROPIC = "anthropic"
CLAUDE_CODE = "claude-code"
OPENAI = "openai"
BACKENDS = (AUTO, *PROVIDERS)


def wanted_backend(asked: str, *, plan: Plan, settings: Settings) -> str:
    """Return what is wanted for all of a plan: what the request asks for, else the plan, else the settings.

    Raises:
        PlanError: there is no such backend.
    """
    wishes = (asked, str(plan.meta.get("backend") or AUTO), settings.sessions.backend)
    wanted = next((wish for wish in wishes if wish != AUTO), AUTO)
    if wanted not in BACKENDS:
        raise PlanError(f"There is no backend {wanted!r}.", remedy=f"Choose one of {', '.join(BACKENDS)}.")
    return wanted


def choose_backend(
    own: Mapping[str, str], wanted: str, agent_type: str, has_run: bool, *, of_models: str = ANTHROPIC
) -> str:
    """Return the backend of a task's work; its `verify:` lines are commands in any case.

    No file of an agent type turns `run:` lines into sessions.

    Args:
        own: what the file of each agent type names; one that no file defines works like `general-purpose`.
        wanted: what the plan asks for; `auto` leaves the choice to us.
        has_run: the task has `run:` lines; a review has none.
        of_models: what asks a model where nothing names a backend; see `backend_of_models`.
    """
    if wanted != AUTO:
        return wanted
    named = COMMAND if has_run else own.get(agent_type, own.get(GENERAL, AUTO))
    return of_models if named == AUTO else named


def backend_of_models(settings: Settings) -> str:
    """Return what asks a model where nothing names a backend: Claude, unless there is another key only."""
    return OPENAI if settings.credentials == (OPENAI,) else ANTHROPIC


def provider_of_models(settings: Settings) -> str:
    """Return whose model is asked for no task's sake: by the backend that is set, or else ours."""
    return PROVIDERS.get(settings.sessions.backend) or PROVIDERS[backend_of_models(settings)]


def keyless(settings: Settings) -> frozenset[str]:
    """Return the backends with a model for which there is no key."""
    return frozenset(name for name, whose in PROVIDERS.items() if whose and whose not in settings.credentials)


def not_installed() -> frozenset[str]:
    """Return the backends of which what they run is not installed on this machine."""
    return frozenset() if claude_code_program() else frozenset({CLAUDE_CODE})


def backend_note(settings: Settings) -> str:
    """Return in one line what runs a task where its plan leaves the choice open."""
    if settings.sessions.backend != AUTO:
        return f"{settings.sessions.backend}, as set"
    if settings.credentials:
        asked = settings.openai if backend_of_models(settings) == OPENAI else settings.anthropic
        return f"auto: `run:` lines by command, everything else by {asked.model}"
    return (
        "auto: `run:` lines by command; tasks without them, or with a `review:`, are held until "
        "ANTHROPIC_API_KEY or OPENAI_API_KEY is set"
    )
