"""What every plan format is: a name, a detection, a reading."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from orchestrator.plan.draft import Draft


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """How sure a format is that a text is its own, 0 (not) to 1, and why."""

    confidence: float
    reason: str


class Format(Protocol):
    """One way to write a plan."""

    @property
    def name(self) -> str:
        """What `--format` and the import report call it."""

    def detect(self, text: str) -> Detection:
        """Say whether the text is of this format. Never raises."""

    def read(self, text: str, *, source: str = "", h1_is_title: bool = True) -> Draft:
        """Read a text of this format; faults of the plan are findings.

        Args:
            source: name of the file, when it is one of several.
            h1_is_title: see `read_outline`; formats without headings ignore it.

        Raises:
            PlanError: the plan is larger than the importer takes.
        """
