"""Places of clones on this machine: numbered folders, each with a word on whose clone is in it.

A number is free for whoever makes its folder, and gives him a block of ports. He holds the lock on
`about.json`; a place whose lock is free was left by a process that died, or is kept for its work.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

#: Ports of a place: below those that the system gives out by itself, and above Ray's.
PORT_FIRST = 20_000
PORTS_EACH = 20
_BLOCKS = 600

_ABOUT = "about.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Whose work is in a clone, and what is needed to bring it to its repository.

    Attributes:
        workdir: folder of the clone; `mirror` is what it borrows from.
        branch: of the attempt.
        base_sha: what it began with.
        known: commits that the mirror has, so that they need not be brought.
    """

    token: int
    task_id: int
    plan: str
    key: str
    number: int
    url: str
    workdir: str
    mirror: str
    branch: str
    base_sha: str
    known: tuple[str, ...]

    @property
    def borrowed(self) -> Path:
        """The objects that the clone needs besides its own."""
        return Path(self.mirror) / "objects"

    @property
    def has_clone(self) -> bool:
        """Whether there is still a clone; a session may have deleted it."""
        return Path(self.workdir, ".git").is_dir()


class Place:
    """A place that is ours until its file is closed.

    Attributes:
        folder: everything of it.
        about: whose work is in it; None as long as there can be none.
    """

    def __init__(self, folder: Path, file: IO[str], about: About | None = None) -> None:
        self.folder = folder
        self.about = about
        self._file = file

    @property
    def first_port(self) -> int:
        """The first of its `PORTS_EACH` ports."""
        return PORT_FIRST + PORTS_EACH * (int(self.folder.name) % _BLOCKS)

    def fill(self, about: About) -> None:
        """Say whose work is in it from now on."""
        self._file.truncate(0)
        json.dump(asdict(about), self._file)
        self._file.flush()
        self.about = about

    def clear(self) -> None:
        """Delete everything of it; a file that cannot be deleted keeps the number taken. Blocks."""
        self._file.truncate(0)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.exists():  # a session may have taken away the right to delete in its folders
            for parent, folders, _ in os.walk(self.folder):
                for inner in (Path(parent, name) for name in folders):
                    if not inner.is_symlink():
                        inner.chmod(0o700)
            shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def new_place(root: Path) -> Iterator[Place]:
    """Take the first number that is free among all processes of this machine."""
    number = next(number for number in itertools.count() if _is_made(root / str(number)))
    folder = root / str(number)
    unseen = root / f".{number}.json"  # it is locked before anybody can find it
    with unseen.open("w", encoding="utf-8") as file:
        try_lock(file.fileno())
        unseen.rename(folder / _ABOUT)
        yield Place(folder, file)


@contextmanager
def left_place(folder: Path) -> Iterator[Place | None]:
    """Take a place that nobody holds; None: somebody does, or it is gone."""
    try:
        file = (folder / _ABOUT).open("r+", encoding="utf-8")
    except OSError:
        yield None
        return
    with file:
        if not try_lock(file.fileno()) or not _is_there(file, folder):
            yield None
            return
        yield Place(folder, file, read_about(folder))


def read_about(folder: Path) -> About | None:
    """Return whose work is in a place; None if there can be none."""
    try:
        fields = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # gone, empty, or being written: no session has begun
        return None
    return About(**{**fields, "known": tuple(fields["known"])})


def places(root: Path) -> list[Path]:
    """Return the folders of all places, by number."""
    return sorted((path for path in root.glob("[0-9]*") if path.is_dir()), key=lambda path: int(path.name))


def try_lock(fd: int) -> bool:
    """Take the lock of an open file if nobody holds it; closing the file gives it back."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_made(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def _is_there(file: IO[str], folder: Path) -> bool:
    """Tell whether an open file is still the one of its place, which may have got another owner."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), (folder / _ABOUT).stat())
    except FileNotFoundError:
        return False
