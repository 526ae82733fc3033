"""The files of a plan as sync reads and writes them: whole, in one step, and only if nobody else has."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from pathlib import Path

from orchestrator.errors import PlanError
from orchestrator.plan.model import Plan
from orchestrator.plan.read import read_files, read_plan, texts_of
from orchestrator.text import storable

_HERE = -100  # AT_FDCWD, linux/fcntl.h
_RENAME_EXCHANGE = 2  # linux/fs.h


class PlanFiles:
    """The file, or the folder of files, of one plan."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, str]:
        """Return the texts by their paths below the folder; the only one by an empty path.

        Raises:
            PlanError: there is none, it cannot be read, or it could not be written back as it is.
        """
        texts = texts_of(self.path)
        for name, text in texts.items():
            if storable(text).encode() != self._place(name).read_bytes():
                raise PlanError(
                    f"{self._place(name)} cannot be written back as it is.",
                    remedy="Save it as UTF-8 without NUL characters.",
                )
        return texts

    def parsed(self, texts: dict[str, str], *, format: str) -> Plan:  # noqa: A002  the word of the CLI
        """Return the plan that the texts are."""
        return (
            read_plan(texts[""], format=format) if list(texts) == [""] else read_files(texts, format=format)
        )

    def write(self, name: str, text: str, *, seen: str) -> bool:
        """Replace a file in one step; False, and nothing is written, if it is no longer as it was seen."""
        place = self._place(name).resolve()
        temporary = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            shutil.copymode(place, temporary)
            return replace_if(place, temporary, seen=seen.encode())
        finally:
            temporary.unlink(missing_ok=True)

    def _place(self, name: str) -> Path:
        if name:
            return self.path / name
        if not self.path.is_dir():
            return self.path
        (only,) = (path for path in sorted(self.path.rglob("*.md")) if not path.name.startswith("."))
        return only


def replace_if(place: Path, new: Path, *, seen: bytes) -> bool:
    """Put the file `new` in this place if that holds what was seen; tell whether it did.

    The two change places and what came out is looked at then: between a look and a step somebody might save.
    """
    try:
        _exchange(place, new)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOSYS}:  # not on this file system, such as NFS
            raise
        if place.read_bytes() != seen:
            return False
        new.replace(place)
        return True
    if new.read_bytes() == seen:
        return True
    _exchange(place, new)
    return False


def _exchange(one: Path, other: Path) -> None:
    """Have two files change places in one step: renameat2(2), which Python does not offer."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))
