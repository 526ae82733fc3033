"""The two Python clients offer the same calls."""

from __future__ import annotations

import inspect

from actors.blocking import Orchestrator
from actors.client import AsyncOrchestrator


def calls(of: type) -> dict[str, list[str]]:
    """Return the public calls of a class, each with its parameters."""
    return {
        name: [str(parameter) for parameter in inspect.signature(call).parameters.values()]
        for name, call in vars(of).items()
        if callable(call) and not name.startswith("_")
    }


def test_whatever_one_client_can_be_asked_the_other_can_too() -> None:
    assert calls(Orchestrator) == calls(AsyncOrchestrator)
    assert all(inspect.getdoc(getattr(Orchestrator, name)) for name in calls(Orchestrator))
