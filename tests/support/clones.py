"""A repository of its own, and clones of it as an executor gives them to sessions."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.ports import Assignment, Repository, Workspace
from orchestrator.workspace.clone import CloneWorkspaces
from orchestrator.workspace.launcher import ProcessLauncher
from orchestrator.workspace.repositories import Repositories
from orchestrator.workspace.shared import SharedWorkspaces
from tests.support.repositories import MemoryBook, new_repository
from tests.support.sessions import Recorder, assignment


class Clones:
    """The repository `origin`, and what an executor makes of it below `root`."""

    def __init__(self, folder: Path, *, root: Path) -> None:
        self.origin = new_repository(folder / "origin")
        self.folder = root / "clones"
        self.book = MemoryBook()
        self.transcript = Recorder()
        launcher = ProcessLauncher(records=folder / "records")
        self.provider = CloneWorkspaces(
            root=self.folder,
            shared=SharedWorkspaces(root=root),
            repositories=Repositories(root=root / "mirrors", launcher=launcher),
            own=launcher,
            launcher=launcher,
            book=self.book,
        )

    def task(self, token: int = 1, **values: Any) -> Assignment:
        """Return an attempt at a task of a plan with this repository."""
        return replace(assignment(token=token), **{"repository": Repository(url=str(self.origin)), **values})

    def open(self, task: Assignment) -> AbstractAsyncContextManager[Workspace]:
        """Prepare the workspace of an attempt."""
        return self.provider.open(task, self.transcript)
