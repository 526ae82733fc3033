"""What people and programs ask for: carried out at once, answered after the commit."""

from __future__ import annotations

from orchestrator.core.asked import NotInMemory, Refusal, Result, is_loaded
from orchestrator.core.commands import Answer, SaveAnswer
from orchestrator.core.events import Requested
from orchestrator.core.plan_requests import GLOBAL_HANDLERS, PLAN_HANDLERS
from orchestrator.core.state import State
from orchestrator.core.task_requests import TASK_HANDLERS

_HANDLERS = {**TASK_HANDLERS, **PLAN_HANDLERS, **GLOBAL_HANDLERS}

#: What may be asked for.
REQUEST_KINDS = frozenset(_HANDLERS)

#: Those that decide on the dependencies of a plan; then all others, by what they are about.
DEPENDENCY_REQUESTS = frozenset({"add_dependency", "drop_dependency"})
TASK_REQUESTS = frozenset(TASK_HANDLERS) - DEPENDENCY_REQUESTS
PLAN_REQUESTS = frozenset(PLAN_HANDLERS)
GLOBAL_REQUESTS = frozenset(GLOBAL_HANDLERS)


def on_requested(s: State, event: Requested) -> None:
    """Carry out one request and order its answer; one with a key is also written, if it is the last word."""
    result: Result = {}
    error = remedy = ""
    is_final = True
    try:
        result = _HANDLERS[event.kind](s, event)
    except Refusal as refusal:
        error, remedy = refusal.message, refusal.remedy
        is_final = not isinstance(refusal, NotInMemory)
    if event.key and is_final:
        s.out.append(
            SaveAnswer(
                tenant_id=event.tenant_id,
                key=event.key,
                digest=event.digest,
                result=result,
                error=error,
                remedy=remedy,
            )
        )
    is_absent = not is_final and event.plan_id != 0 and not is_loaded(s, event.plan_id)
    s.out.append(
        Answer(request_id=event.request_id, result=result, error=error, remedy=remedy, is_absent=is_absent)
    )
