"""Clones of a repository with 50 MB of files: how long one takes, 50 at once, and what each weighs."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import Figure
from orchestrator.workspace.places import places
from tests.support.clones import Clones
from tests.support.repositories import git

FILES, FILE_BYTES = 1_000, 50_000
ALONE, AT_ONCE = 11, 50


def measure() -> Iterator[Figure]:
    """Yield times until a session could begin, and the size of a clone against its checkout."""
    with TemporaryDirectory() as folder:
        clones = Clones(Path(folder), root=Path(folder) / "root")
        _fill(clones.origin)
        yield from asyncio.run(_measured(clones))


async def _measured(clones: Clones) -> list[Figure]:
    async with clones.open(clones.task(1)) as workspace:  # fills the mirror
        ratio = _weight(workspace.path) / _weight(workspace.path, without_git=True)
    alone_ms = []
    for token in range(2, 2 + ALONE):
        started_s = time.perf_counter()
        async with clones.open(clones.task(token)):
            alone_ms.append((time.perf_counter() - started_s) * 1000)
    together_s = await _at_once(clones)
    assert not places(clones.folder), "a clone was left"
    return [
        Figure(name="a clone alone", values=tuple(alone_ms), unit="ms", at_most=300.0),
        Figure(name=f"{AT_ONCE} clones at once, the last one", values=(together_s,), unit="s", at_most=10.0),
        Figure(name="size of a clone against its checkout", values=(ratio,), unit="times", at_most=1.2),
    ]


async def _at_once(clones: Clones) -> float:
    """Return how long it takes until so many clones are there at once."""

    async def one(token: int) -> None:
        async with clones.open(clones.task(token, key=f"A.{token}", task_id=token)):
            made.append(time.perf_counter() - started_s)
            if len(made) == AT_ONCE:
                all_made.set()
            await all_made.wait()

    made: list[float] = []
    all_made = asyncio.Event()
    started_s = time.perf_counter()
    await asyncio.gather(*(one(100 + number) for number in range(AT_ONCE)))
    return max(made)


def _fill(origin: Path) -> None:
    """Commit files that do not compress, in folders of a hundred."""
    dice = random.Random(6)
    for number in range(FILES):
        path = origin / f"folder-{number // 100}" / f"file-{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(dice.randbytes(FILE_BYTES))
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message", "Fifty megabytes")


def _weight(folder: Path, *, without_git: bool = False) -> int:
    """Return the bytes that a folder takes on the disk."""
    weight = 0
    for parent, folders, files in os.walk(folder):
        if without_git and ".git" in folders:
            folders.remove(".git")
        weight += sum(Path(parent, name).lstat().st_blocks * 512 for name in files)
    return weight
