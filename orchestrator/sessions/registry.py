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
from orchestrator.settings import ANTHROPIC, OPENAI


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

    def with_models(api: ModelApi, grants: Grants) -> Backend:
        return ModelBackend(api, launcher, notes=notes, journals=journals, grants=grants)

    backends: list[Backend] = [CommandBackend(launcher), SimulatedBackend(seed=seed)]
    # The SDKs take a second to import, so only who uses them does.
    if claude := providers.get(ANTHROPIC):
        from orchestrator.sessions.models.messages import MessagesApi

        config, grants = claude
        backends.append(with_models(MessagesApi(config), grants))
        if claude_code_program():
            from orchestrator.sessions.claude_code.backend import ClaudeCodeBackend

            backends.append(ClaudeCodeBackend(config, launcher, notes=notes, grants=grants))
    if other := providers.get(OPENAI):
        from orchestrator.sessions.models.chat import ChatApi

        config, grants = other
        backends.append(with_models(ChatApi(config), grants))
    return {backend.name: backend for backend in backends}
