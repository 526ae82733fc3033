"""The choice of a backend."""

from __future__ import annotations

import pytest

from orchestrator.errors import PlanError
from orchestrator.routing import choose_backend, needs_credentials


@pytest.mark.parametrize(
    ("wanted", "has_run", "is_gate", "chosen"),
    [
        ("auto", True, False, "command"),
        ("auto", False, False, "anthropic"),
        ("anthropic", True, False, "anthropic"),
        ("simulated", True, False, "simulated"),
        ("command", True, False, "command"),
        ("anthropic", False, True, "command"),
        ("command", False, True, "command"),
    ],
)
def test_choice(wanted: str, has_run: bool, is_gate: bool, chosen: str) -> None:
    assert choose_backend(wanted, has_run=has_run, is_gate=is_gate) == chosen


def test_command_needs_something_to_run() -> None:
    with pytest.raises(PlanError, match="no `run:` lines"):
        choose_backend("command", has_run=False, is_gate=False)


def test_only_models_need_credentials() -> None:
    assert [needs_credentials(name) for name in ("anthropic", "command", "simulated")] == [True, False, False]
