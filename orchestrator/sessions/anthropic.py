"""The backend `anthropic`: a conversation with Claude over the Messages API, with tools, to a report."""

from __future__ import annotations

from orchestrator.grant_ports import Grants
from orchestrator.journal_ports import Journals
from orchestrator.ports import Launcher, NoteBook
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.messages import MessagesApi
from orchestrator.sessions.model_backend import ModelBackend


class AnthropicBackend(ModelBackend):
    """Implements `ports.Backend` with the Messages API; see ModelBackend.

    Args:
        config: key, address, model and prices.
    """

    def __init__(
        self,
        config: SessionConfig,
        launcher: Launcher,
        *,
        notes: NoteBook,
        journals: Journals,
        governor: Grants | None = None,
    ) -> None:
        api = MessagesApi(config)
        super().__init__("anthropic", api, launcher, notes=notes, journals=journals, governor=governor)
