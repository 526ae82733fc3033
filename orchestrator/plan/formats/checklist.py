"""Plain Markdown checklists: boxes are tasks, boxes with boxes below them and headings are containers."""

from __future__ import annotations

from orchestrator.plan.draft import Draft
from orchestrator.plan.formats.base import Detection, PlanFile
from orchestrator.plan.outline import read_outline


class Checklist:
    """Markdown whose tasks have no ids; keys are made of their titles."""

    name = "checklist"

    def detect(self, file: PlanFile) -> Detection:
        """Possible for every text that is no JSON: what has no boxes is a checklist without tasks."""
        if file.is_json:
            return Detection(confidence=0.0, reason="it is JSON")
        return Detection(confidence=0.5, reason="Markdown whose boxes and headings carry no ids")

    def read(self, file: PlanFile, *, h1_is_title: bool = True) -> Draft:
        """Read the file as an outline without ids."""
        return read_outline(file.document, source=file.name, reads_keys=False, h1_is_title=h1_is_title)
