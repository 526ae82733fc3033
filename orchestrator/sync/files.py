"""The files of a plan as sync reads and writes them: whole, in one step, and only if nobody else has."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.errors import PlanError
from orchestrator.plan.encoding import decode, is_utf16
from orchestrator.plan.files import agents_beside, contents_of, files_of
from orchestrator.plan.model import Mark, MarkSpan, Plan
from orchestrator.plan.read import read_files
from orchestrator.plan.render import write_marks_into
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
            PlanError: there is none, it cannot be read, or no marks can be written into it.
        """
        contents = contents_of(self.path)
        for name, content in contents.items():
            if is_utf16(content):
                raise PlanError(
                    f"{self._place(name)} is UTF-16, and marks are written into UTF-8 only.",
                    remedy="Save it as UTF-8.",
                )
        return {name: _text(content, self._place(name)) for name, content in contents.items()}

    def agents(self) -> dict[str, str]:
        """Return the agent type files that the plan brings along, by their paths."""
        return agents_beside(self.path)

    def require_utf8(self) -> None:
        """Refuse files into which more than marks could not be written without a change elsewhere.

        Raises:
            PlanError: there is one with bytes that are no UTF-8, or with NUL characters.
        """
        for name, content in contents_of(self.path).items():
            if _text(content, self._place(name)).encode() != content:
                raise PlanError(
                    f"{self._place(name)} has bytes that are no UTF-8 text, so no lines can be added to it.",
                    remedy="Save it as UTF-8 without NUL characters.",
                )

    def parsed(self, texts: dict[str, str], *, format: str) -> Plan:  # noqa: A002  the word of the CLI
        """Return the plan that the texts are."""
        return read_files(texts, format=format)

    def mark(self, name: str, marks: Mapping[MarkSpan, Mark], *, seen: str) -> bool:
        """Write marks into a file in one step, and leave every other byte as it is.

        Returns:
            False, and nothing is written, if its text is no longer as it was seen.
        """
        return self._rewrite(name, lambda content: write_marks_into(content, marks), seen=seen)

    def write(self, name: str, text: str, *, seen: str) -> bool:
        """Replace a file in one step; False, and nothing is written, if it is no longer as it was seen."""
        return self._rewrite(name, lambda _: text.encode(), seen=seen)

    def _rewrite(self, name: str, new: Callable[[bytes], bytes], *, seen: str) -> bool:
        place = self._place(name).resolve()
        try:
            content = place.read_bytes()
        except FileNotFoundError:  # an editor is about to put another in its place
            return False
        if _text(content, place) != seen:
            return False
        temporary = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                file.write(new(content))
                file.flush()
                os.fsync(file.fileno())
            shutil.copymode(place, temporary)
            return replace_if(place, temporary, seen=content)
        finally:
            temporary.unlink(missing_ok=True)

    def _place(self, name: str) -> Path:
        return self.path / name if name else next(iter(files_of(self.path).values()))


def _text(content: bytes, place: Path) -> str:
    """The text of a file as the server stores it."""
    return storable(decode(content, str(place)))


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
