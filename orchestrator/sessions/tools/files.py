"""The files of a workspace, as the tools of a model see them: text, by line, none outside of the folder.

Rule: symbolic links are resolved before anything is looked at or written, so that none leads out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from orchestrator.sessions.output import Excerpt

_FILE_BYTES_MAX = 1_000_000
_READ_CHARS = 30_000
_ENTRIES_MAX = 1_000
_LOOKED_AT_MAX = 200_000

#: Folders that are never searched.
UNSEARCHED = (".git",)


class ToolRefused(Exception):
    """Raised when a tool cannot do what it was asked; the message is for the model."""


class Files:
    """The files below one folder. Every path is relative to it; all methods raise ToolRefused and OSError.

    Args:
        root: folder of the workspace.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def view(self, name: str, *, first_line: int, lines_max: int) -> str:
        """Return lines of a text file, each with its number, or the names in a folder."""
        path = self.inside(name)
        if path.is_dir():
            return self._listing(path)
        lines = self._text_of(path, name).splitlines()
        wanted = lines[first_line - 1 : first_line - 1 + lines_max]
        if not wanted:
            return f"{name} has {len(lines)} lines."
        excerpt = Excerpt(head_max=_READ_CHARS, tail_max=0)
        excerpt.add("\n".join(f"{number}\t{line}" for number, line in enumerate(wanted, start=first_line)))
        return excerpt.text

    def write(self, name: str, content: str) -> str:
        """Write a whole file; missing folders are made."""
        path = self._file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return f"Wrote {len(content)} characters to {name}."

    def replace(self, name: str, *, old: str, new: str) -> str:
        """Replace the only occurrence of a text."""
        path = self._file(name)
        text = self._text_of(path, name)
        count = text.count(old)
        if count != 1:
            raise ToolRefused(f"`old` occurs {count} times in {name}; it must occur exactly once.")
        path.write_text(text.replace(old, new), encoding="utf-8")
        return f"Edited {name}."

    def insert(self, name: str, *, after_line: int, text: str) -> str:
        """Insert whole lines after a line; 0 is the beginning of the file."""
        path = self._file(name)
        lines = self._text_of(path, name).splitlines(keepends=True)
        if after_line > len(lines):
            raise ToolRefused(f"{name} has {len(lines)} lines, so nothing can come after line {after_line}.")
        if after_line and not lines[after_line - 1].endswith(("\n", "\r")):
            lines[after_line - 1] += "\n"
        lines.insert(after_line, text if text.endswith("\n") else f"{text}\n")
        path.write_text("".join(lines), encoding="utf-8")
        return f"Inserted after line {after_line} of {name}."

    def find(self, pattern: str) -> str:
        """Return the files whose path matches a pattern with `*`, `?` and `**`, sorted, a line each."""
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise ToolRefused(f"{pattern} is outside of the workspace; give a pattern inside of it.")
        try:
            found = islice(self._root.glob(pattern), _LOOKED_AT_MAX)
            names = sorted(name for path in found if (name := self._found(path)))
        except (ValueError, NotImplementedError) as error:
            raise ToolRefused(f"{pattern!r} is no pattern of paths: {error}.") from error
        left_out = len(names) - _ENTRIES_MAX
        more = [f"[... {left_out:,} more; use a narrower pattern ...]"] if left_out > 0 else []
        return "\n".join(names[:_ENTRIES_MAX] + more) or "No file matches."

    def inside(self, name: str) -> Path:
        """Return the real path of a name. Raises ToolRefused: it leads out of the workspace."""
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root):
            raise ToolRefused(f"{name} is outside of the workspace; give a path inside of it.")
        return path

    def _file(self, name: str) -> Path:
        path = self.inside(name)
        if path.exists() and not path.is_file():
            raise ToolRefused(f"{name} is not a regular file.")
        return path

    def _found(self, path: Path) -> str:
        """Return the name of a file that may be shown, else nothing."""
        inner = path.relative_to(self._root)
        is_shown = not set(UNSEARCHED) & set(inner.parts) and path.is_file()
        return str(inner) if is_shown and path.resolve().is_relative_to(self._root) else ""

    def _listing(self, folder: Path) -> str:
        names = sorted(_names_in(folder))
        left_out = len(names) - _ENTRIES_MAX
        more = [f"[... {left_out:,} more ...]"] if left_out > 0 else []
        return "\n".join(names[:_ENTRIES_MAX] + more) or "The folder is empty."

    def _text_of(self, path: Path, name: str) -> str:
        if not path.exists():
            raise ToolRefused(f"{name} does not exist.")
        if not path.is_file():
            raise ToolRefused(f"{name} is not a regular file.")
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise ToolRefused(
                f"{name} is larger than {_FILE_BYTES_MAX:,} bytes; use bash to look at parts of it."
            )
        return path.read_bytes().decode()  # keeps line ends as they are


def _names_in(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield f"{entry.name}/" if entry.is_dir() else entry.name
