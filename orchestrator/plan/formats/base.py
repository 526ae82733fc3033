"""What every plan format is: a name, a detection, a reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from orchestrator.plan.draft import Draft
from orchestrator.plan.json_text import read_json
from orchestrator.plan.markdown import Document, scan


class PlanFile:
    """One file of a plan, as read: what formats are detected in and drafts are made of.

    Attributes:
        text: the whole of it, its byte-order mark included.
        name: what messages call it; empty for the only file there is.
    """

    def __init__(self, text: str, *, name: str = "") -> None:
        self.text = text
        self.name = name

    @property
    def is_json(self) -> bool:
        """Whether it begins as a JSON object; then it is no Markdown."""
        return self.text.lstrip("\ufeff \t\r\n").startswith("{")

    @cached_property
    def json(self) -> object:
        """Its JSON value, read once for all formats that look at it; see `read_json`.

        Raises:
            json.JSONDecodeError: it is no JSON.
        """
        return read_json(self.text)

    @cached_property
    def document(self) -> Document:
        """Its Markdown, scanned once for all formats that look at it."""
        return scan(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """How sure a format is that a file is its own, 0 (not) to 1, and why."""

    confidence: float
    reason: str


class Format(Protocol):
    """One way to write a plan."""

    @property
    def name(self) -> str:
        """What `--format` and the import report call it."""

    def detect(self, file: PlanFile) -> Detection:
        """Say whether the file is of this format. Never raises."""

    def read(self, file: PlanFile, *, h1_is_title: bool = True) -> Draft:
        """Read a file of this format; faults of the plan are findings.

        Args:
            h1_is_title: see `read_outline`; formats without headings ignore it.

        Raises:
            PlanError: the plan is larger than the importer takes.
        """


class FolderFormat(Format, Protocol):
    """A format whose files speak of each other, so that a folder of them is read as a whole."""

    def files(self, names: Sequence[str]) -> list[str]:
        """Of the files of a folder those of the plan, in order; none if the folder is not of this format.

        Args:
            names: paths below the folder, with slashes.
        """

    def read_folder(self, files: Sequence[PlanFile]) -> Draft:
        """Read these files, one or more, as one plan; faults of the plan are findings that name their file.

        Raises:
            PlanError: the plan is larger than the importer takes.
        """
