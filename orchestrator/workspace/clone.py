"""The workspace kind `clone`: every attempt works in a clone of its own, and leaves commits.

A clone borrows the objects of the mirror and has its own refs, settings and index; it knows no remote and no
credentials. Its commits are in the mirror and in the repository before the result of the attempt is stored,
and before that nothing of it is deleted. What is left of an attempt whose executor died is brought by the
next attempt at the task. See docs/adr/0025.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from orchestrator.core.words import AttemptKind
from orchestrator.errors import DatabaseUnavailable, EnvironmentFault
from orchestrator.ports import Assignment, Launcher, Owner, Repository, Transcript, Workspace
from orchestrator.repository_ports import CommitBook, EarlierWork
from orchestrator.workspace.git import git, own_place, run
from orchestrator.workspace.places import About, Place, left_place, new_place, places
from orchestrator.workspace.repositories import Repositories, name_of
from orchestrator.workspace.rescue import bring, left_workspace
from orchestrator.workspace.shared import SharedWorkspaces

log = structlog.get_logger(__name__)

_RETRY_S = 0.5

_MAKE = """
mirror=$1 work=$2 branch=$3 tip=$4 name=$5
git init --quiet --template= --initial-branch="$branch" "$work"
cd "$work"
echo "$mirror/objects" > .git/objects/info/alternates
git config user.name "$name"
git config user.email "$name@localhost"
git update-ref refs/remotes/origin/HEAD "$tip"
git reset --quiet --hard "$tip"
"""

#: Groups of three: token, commit, and whether the clone can do without. Tells first what it came to, then the
#: tokens that did not fit.
_MERGE = """
left_out=
while test $# -gt 0; do
  if ! git merge --quiet --no-edit -m "Begin with the work of attempt $1" "$2" >&2; then
    git diff --name-only --diff-filter=U >&2
    test "$3" = optional
    git reset --quiet --hard
    left_out="$left_out $1"
  fi
  shift 3
done
git rev-parse HEAD
echo "$left_out"
"""

_IGNORED = """
cd "$1"; shift
git ls-files -z --others --ignored --exclude-standard -- "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneWorkspaces:
    """Implements `ports.WorkspaceProvider`: clones for plans with a repository, else the shared workdir.

    Args:
        root: private folder of this machine for clones; made when missing.
        shared: gives attempts in clones their HOME, TMPDIR and environment too.
        own: starts our own programs, with no sandbox around them.
        launcher: starts those of sessions.
        book: keeps which commits are whose.
        free_mb_min: below so much room on the disk no clone is made.
    """

    root: Path
    shared: SharedWorkspaces
    repositories: Repositories
    own: Launcher
    launcher: Launcher
    book: CommitBook
    free_mb_min: int = 0

    @asynccontextmanager
    async def open(self, assignment: Assignment, transcript: Transcript) -> AsyncIterator[Workspace]:
        """Prepare the workspace of an attempt; when the context is left, its commits are kept.

        Raises:
            EnvironmentFault: it cannot be prepared, or its commits cannot be kept; then the clone stays.
        """
        if assignment.repository is None:
            async with self.shared.open(assignment, transcript) as workspace:
                yield workspace
            return
        await asyncio.to_thread(self._require_room)
        await self._bring_what_is_left(assignment, transcript)
        with new_place(self.root) as place:
            try:
                about = await self._make(place, assignment, assignment.repository, transcript)
                in_clone = replace(assignment, workdir=about.workdir)
                async with self.shared.open(in_clone, transcript) as shared:
                    workspace = _workspace(shared, place, about)
                    await self._set_up(assignment, assignment.repository, workspace, transcript)
                    if assignment.kind is AttemptKind.WORK:
                        place.fill(about)
                    async with self._kept(place, workspace):
                        yield workspace
            finally:
                if place.about is None:
                    await asyncio.shield(asyncio.to_thread(place.clear))

    def _require_room(self) -> None:
        """Refuse a clone where it would fill the disk, on which the database lies too."""
        self.root.mkdir(parents=True, exist_ok=True)
        free_mb = shutil.disk_usage(self.root).free // 2**20
        if free_mb < self.free_mb_min:
            raise EnvironmentFault(
                f"The disk of {self.root} has {free_mb:,} MB left, and a clone is made only above"
                f" {self.free_mb_min:,} MB.",
                remedy="Free some room: `orchestrator workspace list` shows clones, `gc` deletes those left.",
            )

    async def _bring_what_is_left(self, assignment: Assignment, transcript: Transcript) -> None:
        """Bring the work of earlier attempts at this task whose executors died on this machine."""
        for folder in places(self.root):
            with left_place(folder) as place:
                if place is None:
                    continue
                if (about := place.about) and about.task_id != assignment.task_id:
                    continue
                if about and about.has_clone:
                    await self._keep(place, about, left_workspace(about))
                    transcript.write("note", f"What attempt {about.number} left was brought to safety.\n")
                await asyncio.to_thread(place.clear)

    async def _make(
        self, place: Place, assignment: Assignment, repository: Repository, transcript: Transcript
    ) -> About:
        """Make the clone of an attempt, with what it begins with checked out."""
        earlier = await self.book.earlier(assignment.token)
        tip = await self.repositories.tip(repository, token=assignment.token, earlier=earlier)
        workdir = place.folder / name_of(repository.url)
        branch = branch_of(assignment)
        values = (str(tip.mirror), str(workdir), branch, tip.sha, assignment.agent_type)
        await git(self.own, _MAKE, *values, workspace=own_place(place.folder), token=assignment.token)
        base = await self._begin_with(assignment, earlier, workdir, transcript) if earlier else tip.sha
        if repository.include:
            await self._include(repository, workdir, token=assignment.token)
        if owner := self.shared.owner(replace(assignment, workdir="")):
            await asyncio.to_thread(_give, workdir, owner)
        return About(
            token=assignment.token,
            task_id=assignment.task_id,
            plan=assignment.plan_name,
            key=assignment.key,
            number=assignment.number,
            url=repository.url,
            workdir=str(workdir),
            mirror=str(tip.mirror),
            branch=branch,
            base_sha=base,
            known=(tip.sha, *(work.head_sha for work in earlier)),
        )

    async def _begin_with(
        self, assignment: Assignment, earlier: Sequence[EarlierWork], workdir: Path, transcript: Transcript
    ) -> str:
        """Merge what an attempt begins with, and return the commit that this makes."""
        values = []
        for work in earlier:
            is_optional = work.is_own and assignment.kind is AttemptKind.WORK
            values += [str(work.token), work.head_sha, "optional" if is_optional else "needed"]
        place = own_place(workdir)
        try:
            said = await git(self.own, _MERGE, *values, workspace=place, token=assignment.token)
        except EnvironmentFault as fault:
            tasks = ", ".join(dict.fromkeys(work.key for work in earlier))
            raise EnvironmentFault(
                f"What {assignment.key} begins with does not fit together ({tasks}): {fault.message}",
                remedy="Merge their branches into the branch of the plan by hand, and retry the task.",
            ) from fault
        base, *left_out = said.split()
        if left_out:
            transcript.write("note", "What the attempt before left no longer fits; this one begins anew.\n")
        return base

    async def _include(self, repository: Repository, workdir: Path, *, token: int) -> None:
        """Copy the ignored files that the plan names; only files of the folder, never through links."""
        values = (repository.url, *repository.include)
        listed = await git(self.own, _IGNORED, *values, workspace=own_place(workdir), token=token)
        names = [name for name in listed.split("\0") if name]
        await asyncio.to_thread(_copy, names, Path(repository.url), workdir)

    async def _set_up(
        self, assignment: Assignment, repository: Repository, workspace: Workspace, transcript: Transcript
    ) -> None:
        """Run the setup lines of the plan as the session would.

        Raises:
            EnvironmentFault: one failed, or took longer than a session may.
        """
        for line in repository.setup:
            transcript.write("note", f"setup $ {line}\n")
            code, _, _ = await run(
                self.launcher,
                ["/bin/sh", "-c", line],
                workspace=workspace,
                token=assignment.token,
                timeout_s=assignment.limits.total_timeout_s,
                tell=transcript.write,
            )
            if code:
                raise EnvironmentFault(
                    f"The setup line `{line}` ended with exit code {code}.",
                    remedy="Its output is in the transcript; mend `setup:` in the head of the plan.",
                )

    @asynccontextmanager
    async def _kept(self, place: Place, workspace: Workspace) -> AsyncIterator[None]:
        """Keep the work in a place however its session ends; then the clone goes."""
        if (about := place.about) is None:  # gates and reviews leave a verdict and no work
            yield
            return
        try:
            yield
        except BaseException:
            try:
                await self._keep(place, about, workspace)
            except EnvironmentFault as fault:
                log.warning("work stays in its clone", folder=str(place.folder), reason=str(fault))
            raise
        await self._keep(place, about, workspace)

    async def _keep(self, place: Place, about: About, workspace: Workspace) -> None:
        """Bring the work in a place to the mirror, the repository and the book; it holds none then."""
        commits = await bring(about, workspace, repositories=self.repositories, launcher=self.launcher)
        while True:
            try:
                await self.book.save(commits)
                break
            except DatabaseUnavailable:  # the result of the attempt will wait for it too
                await asyncio.sleep(_RETRY_S)
        place.about = None


def branch_of(assignment: Assignment) -> str:
    """Return the name of an attempt's branch, of words that a ref may consist of."""
    return "/".join(
        ["orchestrator", _ref_word(assignment.plan_name), _ref_word(assignment.key), str(assignment.number)]
    )


def _ref_word(text: str) -> str:
    """Return a text without what a part of a ref must not hold, git-check-ref-format(1)."""
    word = re.sub(r"\.{2,}|[^\w.-]+", "-", text).strip(".-").removesuffix(".lock")
    return word[:60].rstrip(".") or "unnamed"


def _workspace(shared: Workspace, place: Place, about: About) -> Workspace:
    env = {
        **shared.env,
        "ORCHESTRATOR_PORT_BASE": str(place.first_port),
        "COMPOSE_PROJECT_NAME": f"orchestrator-{about.token}",
    }
    return replace(shared, env=env, readable=(*shared.readable, about.borrowed))


def _give(folder: Path, owner: Owner) -> None:
    """Make a user the owner of everything in a folder that no session has seen yet."""
    os.chown(folder, owner.uid, owner.gid)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(parent, name), owner.uid, owner.gid, follow_symlinks=False)


def _copy(names: Sequence[str], source: Path, target: Path) -> None:
    """Copy files; one that is a link, or lies behind one, is left out, and so is what git brought."""
    root, inside = source.resolve(), target.resolve()
    for name in names:
        file, copy = source / name, target / name
        if file.is_symlink() or not file.is_file() or not file.resolve().is_relative_to(root):
            continue
        if copy.exists() or not copy.parent.resolve().is_relative_to(inside):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # of the moment, such as a socket or a lock
            shutil.copy2(file, copy)
