"""The backend `openai`: a conversation with any model whose provider speaks OpenAI's chat completions."""

from __future__ import annotations

from orchestrator.grant_ports import Grants
from orchestrator.journal_ports import Journals
from orchestrator.ports import Launcher, NoteBook
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.model_backend import ModelBackend
from orchestrator.sessions.openai_chat import ChatApi


class OpenAIBackend(ModelBackend):
    """Implements `ports.Backend` with chat completions; see ModelBackend.

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
        api = ChatApi(config)
        super().__init__("openai", api, launcher, notes=notes, journals=journals, governor=governor)
