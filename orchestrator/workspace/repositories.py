"""Mirrors: what this machine has of each repository, from which clones borrow, and the way back.

One folder for each repository, bare, in which objects are only ever added: nothing prunes or collects, so a
clone that borrows from it never lacks one. Whoever writes to a mirror holds the lock on its file; the kernel
takes it back from a process that dies. See docs/adr/0025.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import EnvironmentFault
from orchestrator.ports import Launcher, Repository
from orchestrator.repository_ports import AttemptCommits, EarlierWork
from orchestrator.workspace.git import git, own_place
from orchestrator.workspace.launcher_main import boot_id
from orchestrator.workspace.places import About, try_lock

_LOCK_POLL_S = 0.02

_FETCH = """
mirror=$1 url=$2 upload=$3; shift 3
test -d "$mirror/objects" || git init --quiet --bare --template= "$mirror"
git -C "$mirror" fetch --quiet --no-tags --no-write-fetch-head ${upload:+"--upload-pack=$upload"} "$url" "$@"
git -C "$mirror" rev-parse "$(printf %s "$1" | sed 's/.*://')"
"""

#: A bundle is data: it was made by the session's user, and nothing in it is carried out.
_KEEP = """
ref=$1 url=$2 receive=$3 branch=$4 head=$5 base=$6 tip=$7 bundle=$8
if test -n "$bundle"; then
  git fetch --quiet --no-tags --no-write-fetch-head "$bundle" "HEAD:$ref"
else
  git update-ref "$ref" "$head"
fi
test "$(git rev-parse "$ref")" = "$head"
git push --quiet ${receive:+"--receive-pack=$receive"} "$url" "$ref:$ref" "+$ref:refs/heads/$branch"
git cat-file -e "$base" 2>/dev/null || base=$tip  # the session has rewritten what it began with
git rev-parse "$base"
git diff --no-ext-diff --no-textconv --no-renames --numstat -z "$base" "$ref"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tip:
    """The commit that attempts begin with, and the mirror that holds it."""

    mirror: Path
    sha: str


class Repositories:
    """The repositories of plans, as this machine knows them.

    Args:
        root: folder of this machine for mirrors; made when missing.
        launcher: of our own programs, with no sandbox around them.
    """

    def __init__(self, *, root: Path, launcher: Launcher) -> None:
        self._root = root
        self._launcher = launcher
        self._turns: dict[Path, asyncio.Lock] = {}

    async def tip(self, repository: Repository, *, token: int, earlier: Sequence[EarlierWork] = ()) -> Tip:
        """Return the tip as it is now, once the mirror holds it and the commits of earlier attempts.

        Whoever asked before a fetch began takes what it brought, so that many at once ask the repository
        once.

        Raises:
            EnvironmentFault: the repository does not answer, or has no such branch or commits.
        """
        asked_ns = time.monotonic_ns()
        mirror = self._mirror(repository.url)
        source = f"refs/heads/{repository.branch}" if repository.branch else "HEAD"
        known = mirror / f"tip-{_digest(source)}"
        async with self._locked(mirror):
            missing = [ref for ref in map(_ref_of, earlier) if not (mirror / ref).exists()]
            if not missing and (sha := _read_since(known, asked_ns)):
                return Tip(mirror=mirror, sha=sha)
            fetched_ns = time.monotonic_ns()
            refs = [f"+{source}:refs/orchestrator/{known.name}", *(f"{ref}:{ref}" for ref in missing)]
            sha = (await self._fetch(mirror, repository, refs, token=token)).strip()
            known.write_text(f"{boot_id()} {fetched_ns} {sha}")
        return Tip(mirror=mirror, sha=sha)

    async def _fetch(self, mirror: Path, repository: Repository, refs: list[str], *, token: int) -> str:
        place = own_place(self._root, is_remote=not is_folder(repository.url))
        try:
            values = (str(mirror), repository.url, _other_side(repository.url, "upload-pack"), *refs)
            return await git(self._launcher, _FETCH, *values, workspace=place, token=token)
        except EnvironmentFault as fault:
            what = f"the branch {repository.branch}" if repository.branch else "the HEAD"
            raise EnvironmentFault(
                f"Cannot read {what} of the repository {repository.url}: {fault.message}",
                remedy="Check that it is there, has a commit and lets this user read it without a question.",
            ) from fault

    async def keep(self, about: About, *, head: str, bundle: Path | None) -> AttemptCommits:
        """Take what an attempt left into its mirror and to its repository, under names that stay.

        Args:
            head: the commit that it left.
            bundle: the commits up to `head` that the mirror may lack; None if it has them all.

        Raises:
            EnvironmentFault: they are not what they are said to be, or the repository does not take them.
        """
        mirror = Path(about.mirror)
        ref = _ref(about.token, head)
        place = own_place(mirror, is_remote=not is_folder(about.url))
        receive = _other_side(about.url, "receive-pack")
        values = (
            ref,
            about.url,
            receive,
            about.branch,
            head,
            about.base_sha,
            about.known[0],
            str(bundle or ""),
        )
        async with self._locked(mirror):
            try:
                said = await git(self._launcher, _KEEP, *values, workspace=place, token=about.token)
            except EnvironmentFault as fault:
                raise EnvironmentFault(
                    f"The work of this attempt cannot be brought to {about.url}: {fault.message}",
                    remedy="Let this user write there; the next attempt, or `orchestrator workspace gc`,"
                    " brings what is left.",
                ) from fault
        base, _, entries = said.partition("\n")
        files = tuple(_numbers(entry) for entry in entries.split("\0") if entry)
        return AttemptCommits(
            token=about.token, base_sha=base, head_sha=head, branch=about.branch, files=files
        )

    def _mirror(self, url: str) -> Path:
        return self._root / f"{_digest(url)}-{name_of(url)}"

    @asynccontextmanager
    async def _locked(self, mirror: Path) -> AsyncIterator[None]:
        """Hold the only right to write to a mirror, among all processes of this machine."""
        async with self._turns.setdefault(mirror, asyncio.Lock()):
            self._root.mkdir(parents=True, exist_ok=True)
            lock = os.open(f"{mirror}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                while not try_lock(lock):  # noqa: ASYNC110 - nobody tells when another process lets go
                    await asyncio.sleep(_LOCK_POLL_S)
                yield
            finally:
                os.close(lock)


def is_folder(url: str) -> bool:
    """Tell whether a repository is a folder of this machine."""
    return url.startswith("/")


def name_of(url: str) -> str:
    """Return what a clone of a repository is called."""
    last = url.rstrip("/").removesuffix(".git").rstrip("/").replace(":", "/").rpartition("/")[2]
    return re.sub(r"[^\w.-]", "-", last).strip(".-") or "repository"


def _ref_of(work: EarlierWork) -> str:
    return _ref(work.token, work.head_sha)


def _ref(token: int, sha: str) -> str:
    """Return the name under which commits stay: tokens of another database are never in its way."""
    return f"refs/orchestrator/attempts/{token}-{sha[:12]}"


def _read_since(known: Path, asked_ns: int) -> str:
    """Return the tip if another process of this machine read it after we asked; else nothing."""
    try:
        boot, fetched_ns, sha = known.read_text().split()
    except (FileNotFoundError, ValueError):  # a process that died while it wrote
        return ""
    return sha if boot == boot_id() and int(fetched_ns) >= asked_ns else ""


def _other_side(url: str, program: str) -> str:
    """Say how git's program on the repository's side is run; empty where it is not our machine.

    In a folder none of its hooks run, and as root we leave no files of ours among those of its owner.
    """
    if not is_folder(url):
        return ""
    command = f"git -c core.hooksPath=/dev/null -c safe.directory='*' {program}"
    with contextlib.suppress(OSError):
        status = Path(url).stat()
        if os.geteuid() == 0 and status.st_uid and program == "receive-pack":
            user = f"--reuid={status.st_uid} --regid={status.st_gid} --clear-groups"
            return f"setpriv {user} {command}"
    return command


def _numbers(entry: str) -> tuple[str, int | None, int | None]:
    added, removed, path = entry.split("\t", 2)
    return path, *(None if count == "-" else int(count) for count in (added, removed))  # type: ignore[return-value]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
