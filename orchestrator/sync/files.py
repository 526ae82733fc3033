"""The files of a plan as sync reads and writes them: whole, in one step, and only if nobody else has."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from orchestrator.errors import PlanError
from orchestrator.plan.model import Plan
from orchestrator.plan.read import read_files, read_plan, texts_of
from orchestrator.text import storable


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
            if place.read_bytes() != seen.encode():
                return False
            temporary.replace(place)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        return True

    def _place(self, name: str) -> Path:
        if name:
            return self.path / name
        if not self.path.is_dir():
            return self.path
        (only,) = (path for path in sorted(self.path.rglob("*.md")) if not path.name.startswith("."))
        return only
