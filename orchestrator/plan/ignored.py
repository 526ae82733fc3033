"""Boxes and lines that look like tasks and are none: counted while a plan is read, told at its end."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.errors import Finding
from orchestrator.plan.findings import Code, are


class Ignored:
    """What was passed over, by its lines.

    Attributes:
        numbered: numbered lines in bold, which are the tasks of a plan that has no other.
        almost_boxes: boxes without a blank behind them.
    """

    def __init__(self) -> None:
        self.numbered: list[int] = []
        self.almost_boxes: list[int] = []
        self._unknown_marks: dict[str, list[int]] = {}
        self._criteria: dict[str, list[int]] = {}

    def unknown_mark(self, mark: str, line: int) -> None:
        """Note a box whose sign is no state."""
        self._unknown_marks.setdefault(mark, []).append(line)

    def criterion(self, heading: str, line: int) -> None:
        """Note a box below a heading of criteria that belong to no task."""
        self._criteria.setdefault(heading, []).append(line)

    def findings(self, *, takes_numbered: bool) -> Iterator[Finding]:
        """Yield one finding for each sort; `takes_numbered`: the numbered lines were taken as tasks."""
        if takes_numbered:
            message = f"There is no box, so {are(len(self.numbered), 'numbered bold line')} taken for tasks."
            yield Code.NUMBERED_TASKS.at(self.numbered[0], message, remedy="Give them boxes: 1. [ ].")
        for mark, lines in self._unknown_marks.items():
            message = f"[{mark}] is no state, so {are(len(lines), 'such box')} no task."
            yield Code.UNKNOWN_MARK.at(lines[0], message, remedy="Use [ ], [x], [~], [!], [>] or [-].")
        if lines := self.almost_boxes:
            message = f"{are(len(lines), 'box')} without a blank behind, and no task."
            yield Code.ALMOST_BOX.at(lines[0], message, remedy="Write `- [ ] Title`.")
        for title, lines in self._criteria.items():
            message = f"{are(len(lines), 'box')} below “{title}”: criteria, no tasks."
            yield Code.CRITERIA_BOXES.at(lines[0], message, remedy="Rename the heading if they are work.")
