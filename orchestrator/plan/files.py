"""The files of a plan on disk: which they are, what is in them, and how much is taken."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import PlanError
from orchestrator.plan.encoding import decode
from orchestrator.plan.formats import FOLDER_FORMATS
from orchestrator.text import storable

PLAN_BYTES_MAX = 64 * 1024 * 1024
FILES_MAX = 1000

_SUFFIXES = frozenset({".md", ".json", ".jsonl", ".yml"})


def files_of(path: Path, *, format: str = "auto") -> dict[str, Path]:  # noqa: A002  the word of the CLI
    """Return the file of a plan, or the files of its folder in order, by their paths below it.

    The only one has an empty path.

    Raises:
        PlanError: there is none, or they are too many.
    """
    try:
        if not path.is_dir():
            if path.exists() and not path.is_file():
                raise PlanError(f"{path} is no ordinary file.", remedy="Name a file or a folder.")
            return {"": path}
        names = _names(path, format_name=format)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return {"" if len(names) == 1 else name: path / name for name in names}


def contents_of(path: Path, *, format: str = "auto") -> dict[str, bytes]:  # noqa: A002  the word of the CLI
    """Return the bytes of a plan's files, by the paths of `files_of`; of `-` those of standard input.

    Raises:
        PlanError: as `files_of`; or one is missing, unreadable or too large.
    """
    if str(path) == "-":
        return {"": _read(sys.stdin.buffer, "standard input")}
    contents: dict[str, bytes] = {}
    size = 0
    for name, file in files_of(path, format=format).items():
        try:
            with file.open("rb") as stream:
                contents[name] = _read(stream, str(file))
        except (OSError, ValueError) as error:
            raise _unreadable(file, error) from error
        size += len(contents[name])
        if size > PLAN_BYTES_MAX:
            message = f"The files of {str(path)!r} are larger than 64 MiB together."
            raise PlanError(message, remedy="Split the plan.")
    return contents


def texts_of(path: Path, *, format: str = "auto") -> dict[str, str]:  # noqa: A002  the word of the CLI
    """Return the texts of a plan's files as they can be stored, by the paths of `files_of`.

    Raises:
        PlanError: as `contents_of`; or one is UTF-16 with a fault.
    """
    contents = contents_of(path, format=format)
    return {name: storable(decode(content, name or str(path))) for name, content in contents.items()}


def _names(folder: Path, *, format_name: str) -> Sequence[str]:
    """The files of a plan in a folder and below it, in the order of their names.

    Hidden ones are none of it, nor those in `agents/`, which define agent types.
    """
    found = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.suffix in _SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.relative_to(folder).parts[0] != "agents"
        and path.is_file()
    ]
    whole = (each.files(found) for each in FOLDER_FORMATS if format_name in ("auto", each.name))
    names = next(filter(None, whole), [name for name in found if name.endswith(".md")])
    if not names:
        message = f"The folder {str(folder)!r} has no Markdown file and no plan of a tracker."
        raise PlanError(message, remedy="Name a folder with Markdown files, or one file.")
    if len(names) > FILES_MAX:
        raise PlanError(f"The folder {str(folder)!r} has more than {FILES_MAX} files.", remedy="Name fewer.")
    return names


def _read(stream: BinaryIO, name: str) -> bytes:
    content = stream.read(PLAN_BYTES_MAX + 1)
    if len(content) > PLAN_BYTES_MAX:
        raise PlanError(f"The plan {name!r} is larger than 64 MiB.", remedy="Split it into several plans.")
    return content


def _unreadable(path: Path, error: OSError | ValueError) -> PlanError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    remedy = "Check the path and its permissions."
    return PlanError(f"The plan {str(path)!r} cannot be read: {reason}.", remedy=remedy)
