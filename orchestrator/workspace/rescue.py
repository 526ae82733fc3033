"""Bringing the work of an attempt from its clone to the mirror and the repository, whoever finds it.

What a session left is committed and packed by git as the session; we take only the pack, which is data.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import EnvironmentFault
from orchestrator.ports import Launcher, Owner, Workspace
from orchestrator.repository_ports import AttemptCommits
from orchestrator.workspace.git import git, settled
from orchestrator.workspace.places import About
from orchestrator.workspace.repositories import Repositories

#: Its own settings and files count here. Whatever is half done becomes a commit, so that nothing is lost; of
#: a repository that a session made inside, git would take none of the files. A bundle is made of what the
#: mirror cannot have.
_PACK = """
message=$1 bundle=$2; shift 2
rm -f .git/index.lock .git/HEAD.lock "$bundle"
find . -mindepth 2 -name .git -type d -prune -exec rm -rf {} +
git add --all
git diff --cached --quiet || git commit --quiet --no-verify --message "$message"
git rev-parse --verify HEAD
test -z "$(git rev-list --max-count=1 HEAD "$@")" || git bundle create --quiet "$bundle" HEAD "$@"
"""

_BUNDLE = ".git/orchestrator.bundle"


async def bring(
    about: About, workspace: Workspace, *, repositories: Repositories, launcher: Launcher
) -> AttemptCommits:
    """Commit what is uncommitted, and bring all commits to the mirror and the repository.

    Args:
        workspace: the clone, and as whom its programs run.
        launcher: of the programs of sessions.

    Raises:
        EnvironmentFault: it cannot be done; the clone stays.
    """
    bundle = workspace.path / _BUNDLE
    message = (
        f"Keep what attempt {about.number} at {about.key} left uncommitted\n\n"
        f"Plan: {about.plan}\nTask: {about.key}\nAttempt: {about.number}\n"
    )
    values = (message, str(bundle), *(f"^{sha}" for sha in about.known))
    place = replace(workspace, env=settled(workspace.env))
    head = (await git(launcher, _PACK, *values, workspace=place, token=about.token)).strip()
    if not re.fullmatch(r"[0-9a-f]{40,64}", head):
        raise EnvironmentFault(f"The clone in {workspace.path} has no commit to keep.")
    return await repositories.keep(about, head=head, bundle=bundle if bundle.is_file() else None)


def left_workspace(about: About) -> Workspace:
    """Return where git works on what a session left, as the user to whom that belongs."""
    status = Path(about.workdir).stat()
    owner = Owner(uid=status.st_uid, gid=status.st_gid) if os.geteuid() == 0 and status.st_uid else None
    env = {"PATH": os.environ.get("PATH", os.defpath)}
    return Workspace(path=Path(about.workdir), env=env, readable=(about.borrowed,), owner=owner)
