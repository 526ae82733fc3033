"""The files of a plan on disk: which they are, what is in them, how much is taken, what lies beside them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import BinaryIO

from orchestrator.errors import PlanError
from orchestrator.plan.encoding import decode
from orchestrator.plan.formats import FOLDER_FORMATS
from orchestrator.text import storable

PLAN_BYTES_MAX = 64 * 1024 * 1024
FILES_MAX = 1000

#: The folder of agent type files, beside a plan and in ORCHESTRATOR_HOME.
AGENTS_FOLDER = "agents"

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


def agents_folder(plan: Path) -> Path:
    """Return where the agent type files lie that a plan brings along: in its folder, or beside its file."""
    return (plan if plan.is_dir() else plan.absolute().parent) / AGENTS_FOLDER


def agents_beside(plan: Path) -> dict[str, str]:
    """Return the agent type files that a plan brings along, by their paths.

    Beside a plan may lie what is none: a file that cannot be read or has no front matter is left out, as if
    it were not there. Bytes that are no UTF-8 are marked, which is told when the file is read.
    """
    folder = agents_folder(plan)
    texts = {}
    for file in agent_type_files(folder):
        with contextlib.suppress(OSError):
            text = file.read_bytes().decode("utf-8", errors="replace")
            if text.removeprefix("\ufeff").startswith("---"):
                texts[str(folder.absolute() / file.name)] = text
    return texts


def agent_type_files(folder: Traversable) -> list[Traversable]:
    """Return the files of a folder that define agent types; a README is for people."""
    if not folder.is_dir():
        return []
    found = [
        file
        for file in folder.iterdir()
        if file.name.endswith(".md") and file.name.lower() != "readme.md" and file.is_file()
    ]
    return sorted(found, key=lambda file: file.name)


def _names(folder: Path, *, format_name: str) -> Sequence[str]:
    """The files of a plan in a folder and below it, in the order of their names.

    Hidden ones are none of it, nor those that define agent types.
    """
    found = [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if path.suffix in _SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.relative_to(folder).parts[0] != AGENTS_FOLDER
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
