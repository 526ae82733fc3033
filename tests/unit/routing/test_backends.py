"""The choice of a backend."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.routing import backend_of_models, choose_backend, keyless, not_installed
from orchestrator.routing.backends import backend_note
from orchestrator.settings import load_settings

OWN = {"general-purpose": "auto", "poet": "claude-code"}


@pytest.mark.parametrize(
    ("wanted", "agent_type", "has_run", "chosen"),
    [
        ("auto", "general-purpose", True, "command"),
        ("auto", "general-purpose", False, "anthropic"),
        ("auto", "poet", False, "claude-code"),
        ("auto", "poet", True, "command"),
        ("auto", "nobody-knows", False, "anthropic"),
        ("anthropic", "poet", True, "anthropic"),
        ("simulated", "poet", False, "simulated"),
        ("claude-code", "general-purpose", False, "claude-code"),
        ("command", "general-purpose", True, "command"),
        ("command", "poet", False, "command"),
    ],
)
def test_choice(wanted: str, agent_type: str, has_run: bool, chosen: str) -> None:
    assert choose_backend(OWN, wanted, agent_type, has_run) == chosen


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_the_key_that_there_is_decides_who_asks_models(tmp_path: Path, no_keys: None) -> None:
    def asked(*providers: str) -> tuple[str, frozenset[str]]:
        settings = load_settings(tmp_path, {name: {"api_key": "k"} for name in providers})
        chosen = choose_backend(OWN, "auto", "nobody-knows", False, of_models=backend_of_models(settings))
        return chosen, keyless(settings)

    assert asked() == ("anthropic", {"anthropic", "claude-code", "openai"})
    assert asked("anthropic") == ("anthropic", {"openai"})
    assert asked("openai") == ("openai", {"anthropic", "claude-code"})
    assert asked("anthropic", "openai") == ("anthropic", frozenset())


def test_a_type_that_no_file_defines_has_the_backend_of_the_general_one() -> None:
    assert choose_backend({"general-purpose": "simulated"}, "auto", "nobody-knows", False) == "simulated"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({}, "held until ANTHROPIC_API_KEY or OPENAI_API_KEY is set"),
        ({"anthropic": {"api_key": "k", "model": "claude-x"}}, "everything else by claude-x"),
        ({"openai": {"api_key": "k", "model": "gpt-x"}}, "everything else by gpt-x"),
        ({"anthropic": {"api_key": "k", "model": "claude-x"}, "openai": {"api_key": "k"}}, "by claude-x"),
        ({"sessions": {"backend": "simulated"}}, "simulated, as set"),
    ],
)
def test_the_note_says_what_runs_a_task(tmp_path, no_keys, overrides, words):
    assert words in backend_note(load_settings(tmp_path, overrides))


def test_claude_code_is_installed_with_its_extra_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not_installed() == frozenset()
    monkeypatch.setitem(sys.modules, "claude_agent_sdk", None)  # as if it were not installed
    assert not_installed() == frozenset({"claude-code"})
