"""`python -m tests.support.session_process`: one session with a model, which may be killed.

It reads what it needs as a JSON object from stdin: `service_url`, `keys`, `token`, `provider`, `base_url`,
`folder` and `records`. It stores start, journal and result, and writes the notes of the transcript to stdout.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from orchestrator.ports import SessionLimits
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.models.backend import ModelBackend
from orchestrator.sessions.registry import model_api
from orchestrator.store.crypto import FieldKeys
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.journals import PostgresJournals
from orchestrator.workspace.launcher import ProcessLauncher
from tests.support.messages_api import API_KEY
from tests.support.notes import MemoryNoteBook
from tests.support.sessions import MODEL, PRICES, workspace


class Notes:
    """A transcript of which only the notes are told."""

    def write(self, stream: str, text: str) -> None:
        """Print a note."""
        if stream == "note":
            print(text, end="", flush=True)


async def run(given: dict[str, Any]) -> None:
    """Run the session to its end."""
    token, limits = given["token"], SessionLimits(total_timeout_s=600, idle_timeout_s=600, grace_s=0.5)
    store = ExecutorStore(
        given["service_url"], executor="x1", incarnation=f"i{token}", node_id="n1", limits=limits
    )
    journals = PostgresJournals(given["service_url"], name="journals", keys=FieldKeys(given["keys"]))
    config = SessionConfig(api_key=API_KEY, base_url=given["base_url"], model=MODEL, prices=PRICES)
    launcher = ProcessLauncher(records=Path(given["records"]))
    api = model_api(given["provider"], config)
    backend = ModelBackend(api, launcher, notes=MemoryNoteBook(), journals=journals)
    (assignment,) = await store.start([token])
    outcome = await backend.run(assignment, workspace(Path(given["folder"])), Notes())
    await store.save_results([(token, outcome)])
    await journals.close()
    await store.close()


if __name__ == "__main__":
    asyncio.run(run(json.load(sys.stdin)))
