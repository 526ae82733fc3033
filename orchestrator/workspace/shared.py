"""The workspace kind `shared`: every attempt of a plan works in the plan's own folder.

Nothing is isolated but HOME and TMPDIR; plans whose tasks write the same files need another kind. Rule: the
environment of a session's children is what is listed here and the launcher's marker, so it holds no secret.
Where we are root, programs run as the owner of the workdir; a plan without one gets a user of its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from orchestrator.errors import EnvironmentFault
from orchestrator.ports import Assignment, Owner, Transcript, Workspace

_PATH_WITHOUT_ANY = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Of a workdir that its author names: as the umask says. What is ours nobody else may enter.
_AUTHORS_MODE = 0o777


class SharedWorkspaces:
    """Implements `ports.WorkspaceProvider` with the plan's workdir.

    Args:
        root: private folder of this machine for homes, temporary files and the scratch folders of plans that
            have no workdir; made when missing.
        search_path: PATH of the children; empty takes this process's own.
        uids: of the plans without a workdir, whose accounts need not exist; empty = they run as we do.
    """

    def __init__(self, *, root: Path, search_path: str = "", uids: range = range(0)) -> None:
        self._root = root
        self._uids = uids if os.geteuid() == 0 else range(0)
        self._search_path = search_path or os.environ.get("PATH", _PATH_WITHOUT_ANY)

    @asynccontextmanager
    async def open(self, assignment: Assignment, transcript: Transcript) -> AsyncIterator[Workspace]:
        """Make the folders of this attempt; its TMPDIR goes when the context is left.

        Raises:
            EnvironmentFault: a folder cannot be made or written.
        """
        del transcript  # making folders is nothing to tell of
        plan = self._root / assignment.tenant_id / str(assignment.plan_id)
        workdir = Path(assignment.workdir) if assignment.workdir else plan / "work"
        home, temporary = plan / "home", plan / f"tmp-{assignment.token}"
        owner = self.owner(assignment)
        for folder in (home, temporary):
            _make(folder, owner)
        if not assignment.workdir:
            _make(workdir, owner)
        else:
            _make(workdir, mode=_AUTHORS_MODE)
        try:
            yield Workspace(
                path=workdir,
                env=self._env(assignment, home=home, temporary=temporary),
                writable=(home, temporary),
                owner=owner,
            )
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True))

    def owner(self, assignment: Assignment) -> Owner | None:
        """Return as whom the programs of an attempt run; None = as we do."""
        if not self._uids:
            return None
        if not assignment.workdir:
            uid = self._uids[assignment.plan_id % len(self._uids)]
            return Owner(uid=uid, gid=uid)
        _make(Path(assignment.workdir), mode=_AUTHORS_MODE)
        status = Path(assignment.workdir).stat()
        return Owner(uid=status.st_uid, gid=status.st_gid) if status.st_uid else None

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


def _make(folder: Path, owner: Owner | None = None, *, mode: int = 0o700) -> None:
    """Make a folder; a new one is given to its owner, also by whoever finds it made and not given yet."""
    try:
        folder.mkdir(parents=True, mode=mode, exist_ok=True)
        if owner is not None and folder.stat().st_uid == os.geteuid():
            os.chown(folder, owner.uid, owner.gid)
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
