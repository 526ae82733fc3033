"""The backend that docs/architecture.md shows is one: it is taken from the page and run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from orchestrator.core.words import AttemptState
from orchestrator.ports import Assignment, Backend, Outcome, Transcript, Workspace
from tests.support.sessions import Recorder, assignment, workspace

PAGE = Path(__file__).parents[3] / "docs" / "architecture.md"
NAMES: dict[str, Any] = {
    word.__name__: word for word in (Assignment, AttemptState, Outcome, Transcript, Workspace)
}


async def test_the_backend_of_the_page_runs_a_session(tmp_path: Path) -> None:
    shown = re.search(r"```python\n(class \w+Backend:.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    found = dict(NAMES)
    exec(compile(shown[1], str(PAGE), "exec"), found)
    backend: Backend = found["EchoBackend"]()
    transcript = Recorder()
    outcome = await backend.run(
        assignment(backend=backend.name, title="Say so"), workspace(tmp_path), transcript
    )
    assert outcome == Outcome(state=AttemptState.SUCCEEDED, summary="Say so")
    assert transcript.entries == [("note", "Say so\n")]
