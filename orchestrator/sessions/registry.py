"""The backends that this configuration allows, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.grant_ports import Grants
from orchestrator.installed import claude_code_program
from orchestrator.journal_ports import Journals
from orchestrator.ports import Backend, Launcher, NoteBook
from orchestrator.sessions.command import CommandBackend
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.grants import UNGOVERNED
from orchestrator.sessions.models.api import ModelApi
from orchestrator.sessions.models.backend import ModelBackend
from orchestrator.sessions.simulated import SimulatedBackend
from orchestrator.settings import ANTHROPIC


class Provider(NamedTuple):
    """How the models of a provider are asked.

    Attributes:
        config: key, address, model and prices.
        grants: give leave for each request.
    """

    config: SessionConfig
    grants: Grants = UNGOVERNED


def make_backends(
    providers: Mapping[str, Provider],
    launcher: Launcher,
    *,
    notes: NoteBook,
    journals: Journals,
    seed: int = 0,
) -> dict[str, Backend]:
    """Make every backend that can work.

    Args:
        providers: those for whose models there is a key, by name.
        launcher: starts the programs that sessions run.
        notes: for the tool of that name.
        journals: keep what is needed to go on with a session whose executor is lost.
        seed: of simulated sessions.
    """

    backends: list[Backend] = [CommandBackend(launcher), SimulatedBackend(seed=seed)]
    for provider, (config, grants) in providers.items():
        api = model_api(provider, config)
        backends.append(ModelBackend(api, launcher, notes=notes, journals=journals, grants=grants))
    if (claude := providers.get(ANTHROPIC)) and claude_code_program():
        from orchestrator.sessions.claude_code.backend import ClaudeCodeBackend

        config, grants = claude
        backends.append(ClaudeCodeBackend(config, launcher, notes=notes, grants=grants))
    return {backend.name: backend for backend in backends}


def model_api(provider: str, config: SessionConfig) -> ModelApi:
    """Make what asks the models of a provider. Its SDK takes a second to import, so only who asks does."""
    if provider == ANTHROPIC:
        from orchestrator.sessions.models.messages import MessagesApi

        return MessagesApi(config)
    from orchestrator.sessions.models.chat import ChatApi

    return ChatApi(config)
