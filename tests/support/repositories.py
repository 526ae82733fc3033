"""Repositories of git for tests, and a book of commits in memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from orchestrator.repository_ports import AttemptCommits, EarlierWork
from orchestrator.workspace.git import settled


def git(folder: Path, *words: str) -> str:
    """Run git in a folder and return what it says."""
    env = {**settled({"PATH": os.environ["PATH"], "HOME": str(folder)}), "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", *words], cwd=folder, env=env, check=True, capture_output=True, text=True
    ).stdout.strip()


def new_repository(folder: Path, **files: str) -> Path:
    """Make a repository whose branch `main` has one commit with these files and a `.gitignore`."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, **{".gitignore": "*.secret\n", "readme": "one\n", **files})
    return folder


def commit(folder: Path, **files: str) -> str:
    """Commit files in a checkout and return the commit."""
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "More")
    return git(folder, "rev-parse", "HEAD")


class MemoryBook:
    """Implements repository_ports.CommitBook; `begins_with` says what each attempt begins with."""

    def __init__(self) -> None:
        self.saved: dict[int, AttemptCommits] = {}
        self.begins_with: dict[int, Sequence[EarlierWork]] = {}

    async def earlier(self, token: int) -> Sequence[EarlierWork]:
        """Return what the test has said."""
        return self.begins_with.get(token, ())

    async def save(self, commits: AttemptCommits) -> None:
        """Keep them; the first word counts."""
        self.saved.setdefault(commits.token, commits)

    def work(self, token: int, *, key: str = "A.1", is_own: bool = False) -> EarlierWork:
        """Return what an attempt left, for another one to begin with."""
        return EarlierWork(token=token, key=key, head_sha=self.saved[token].head_sha, is_own=is_own)
