"""The workspace kind `shared`: every attempt of a plan works in the plan's own folder.

Nothing is isolated but HOME and TMPDIR; plans whose tasks write the same files need another kind. Rule: the
environment of a session's children is what is listed here and the launcher's marker, so it holds no secret.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from orchestrator.errors import EnvironmentFault
from orchestrator.ports import Assignment, Workspace

_PATH_WITHOUT_ANY = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class SharedWorkspaces:
    """Implements `ports.WorkspaceProvider` with the plan's workdir.

    Args:
        root: private folder of this machine for homes, temporary files and the scratch folders of plans that
            have no workdir; made when missing.
        search_path: PATH of the children; empty takes this process's own.
    """

    def __init__(self, *, root: Path, search_path: str = "") -> None:
        self._root = root
        self._search_path = search_path or os.environ.get("PATH", _PATH_WITHOUT_ANY)

    @asynccontextmanager
    async def open(self, assignment: Assignment) -> AsyncIterator[Workspace]:
        """Make the folders of this attempt; its TMPDIR goes when the context is left.

        Raises:
            EnvironmentFault: a folder cannot be made or written.
        """
        plan = self._root / assignment.tenant_id / str(assignment.plan_id)
        workdir = Path(assignment.workdir) if assignment.workdir else plan / "work"
        home, temporary = plan / "home", plan / f"tmp-{assignment.token}"
        for folder in (workdir, home, temporary):
            _make(folder)
        try:
            yield Workspace(path=workdir, env=self._env(assignment, home=home, temporary=temporary))
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True))

    def _env(self, assignment: Assignment, *, home: Path, temporary: Path) -> dict[str, str]:
        return {
            "PATH": self._search_path,
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "TMPDIR": str(temporary),
            "ORCHESTRATOR_PLAN": assignment.plan_name,
            "ORCHESTRATOR_TASK": assignment.key,
            "ORCHESTRATOR_ATTEMPT": str(assignment.number),
        }


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"Cannot make the folder {folder}: {error.strerror}.",
            remedy="Name another workdir, or give this user the right to make it.",
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise EnvironmentFault(
            f"Cannot write to the folder {folder}: Permission denied.",
            remedy="Name another workdir, or give this user the right to write there.",
        )
