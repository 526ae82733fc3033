"""The plan formats that can be read, one module each.

A new format is one module with a class that satisfies `Format`, and one entry in `formats()`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from orchestrator.errors import PlanError
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


def formats() -> tuple[Format, ...]:
    """All formats, the more particular first."""
    from orchestrator.plan.formats.checklist import Checklist
    from orchestrator.plan.formats.coditect import Coditect
    from orchestrator.plan.formats.native import Native

    return (Native(), Coditect(), Checklist())


def choose_format(text: str, name: str = "auto") -> tuple[Format, str]:
    """The format of that name, or the one that fits a text best, and the reason.

    Raises:
        PlanError: no format has that name.
    """
    known = {each.name: each for each in formats()}
    if name in known:
        return known[name], "named by the caller"
    if name != "auto":
        message = f"The plan format {name!r} is unknown."
        raise PlanError(message, remedy=f"Use auto, {', '.join(sorted(known))}.")
    found = [(each.detect(text), each) for each in known.values()]
    best, chosen = max(found, key=lambda pair: pair[0].confidence)
    return chosen, best.reason
