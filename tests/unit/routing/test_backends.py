"""The choice of a backend."""

from __future__ import annotations

import sys

import pytest

from orchestrator.routing import choose_backend, not_installed
from orchestrator.routing.backends import backend_note
from orchestrator.settings import load_settings


@pytest.mark.parametrize(
    ("wanted", "has_run", "chosen"),
    [
        ("auto", True, "command"),
        ("auto", False, "anthropic"),
        ("anthropic", True, "anthropic"),
        ("simulated", True, "simulated"),
        ("claude-code", False, "claude-code"),
        ("command", True, "command"),
        ("command", False, "command"),
    ],
)
def test_choice(wanted: str, has_run: bool, chosen: str) -> None:
    assert choose_backend(wanted, has_run=has_run) == chosen


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"anthropic": {"api_key": ""}}, "held until ANTHROPIC_API_KEY is set"),
        ({"anthropic": {"api_key": "k", "model": "claude-x"}}, "everything else by claude-x"),
        ({"sessions": {"backend": "simulated"}}, "simulated, as set"),
    ],
)
def test_the_note_says_what_runs_a_task(tmp_path, monkeypatch, overrides, words):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    assert words in backend_note(load_settings(tmp_path, overrides))


def test_claude_code_is_installed_with_its_extra_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not_installed() == frozenset()
    monkeypatch.setitem(sys.modules, "claude_agent_sdk", None)  # as if it were not installed
    assert not_installed() == frozenset({"claude-code"})
