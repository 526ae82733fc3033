"""The backends that this configuration allows, by name."""

from __future__ import annotations

from orchestrator.grant_ports import Grants
from orchestrator.installed import claude_code_program
from orchestrator.journal_ports import Journals
from orchestrator.ports import Backend, Launcher, NoteBook
from orchestrator.sessions.command import CommandBackend
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.simulated import SimulatedBackend


def make_backends(
    config: SessionConfig,
    launcher: Launcher,
    *,
    notes: NoteBook,
    journals: Journals,
    governor: Grants | None = None,
) -> dict[str, Backend]:
    """Make every backend that can work: those with a model only where there is a key."""
    backends: list[Backend] = [CommandBackend(launcher), SimulatedBackend(seed=config.seed)]
    if config.api_key:
        # A second of imports, for those who use it.
        from orchestrator.sessions.anthropic import AnthropicBackend

        backends.append(AnthropicBackend(config, launcher, notes=notes, journals=journals, governor=governor))
    if config.api_key and claude_code_program():
        from orchestrator.sessions.claude_code import ClaudeCodeBackend

        backends.append(ClaudeCodeBackend(config, launcher, notes=notes, governor=governor))
    return {backend.name: backend for backend in backends}
