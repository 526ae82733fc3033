"""A session with a model against the local server of its provider, in a folder of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.ports import Outcome
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.models import messages
from orchestrator.sessions.models.api import ModelApi
from orchestrator.sessions.models.backend import ModelBackend
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.journals import MemoryJournals
from tests.support.messages_api import API_KEY, MessagesApi, Reply, script
from tests.support.notes import MemoryNoteBook
from tests.support.sessions import MODEL, PRICES, Recorder, assignment, workspace


class ModelSession:
    """A backend, its server and its workspace, ready to run.

    Args:
        api: its server.
        make: how the backend asks it; each session gets a new one.
    """

    def __init__(
        self,
        api: MessagesApi,
        folder: Path,
        make: Callable[[SessionConfig], ModelApi] = messages.MessagesApi,
    ) -> None:
        self.api = api
        self._make = make
        self.folder = folder
        self.transcript = Recorder()
        self.notes = MemoryNoteBook()
        self.journals = MemoryJournals()
        self.config: dict[str, Any] = {
            "api_key": API_KEY, "base_url": api.base_url, "model": MODEL, "prices": PRICES, "retries_max": 0,
        }  # fmt: skip

    async def run(self, *replies: Reply, config: dict[str, Any] | None = None, **values: Any) -> Outcome:
        if replies:
            self.api.scenario = script(*replies)
        launcher = ProcessLauncher(records=self.folder.parent / "records")
        given_config = SessionConfig(**{**self.config, **(config or {})})
        backend = ModelBackend(self._make(given_config), launcher, notes=self.notes, journals=self.journals)
        given = assignment(backend=backend.name, **values)
        return await backend.run(given, workspace(self.folder), self.transcript)

    def results(self, request: int) -> list[tuple[str, bool]]:
        return [(result["content"], result["is_error"]) for result in self.api.requests[request].results]


def expect_failure(outcome: Outcome, failure_class: FailureClass, words: str) -> None:
    """Hold an outcome against what it must be; `words` are a regular expression."""
    assert outcome.state is AttemptState.FAILED
    assert outcome.failure_class is failure_class
    assert re.search(words, outcome.summary), outcome.summary
