"""CODITECT plans: tracks (`A.9.1.3`), work items (`T001.010`) and headings (`#### Task 1.9: ...`).

All generations are one grammar of ids over one outline, so they may be mixed in one file; the prefixed ids
of other trackers (`SHOP-12`) and the ids of spec-kit (`T014`) are read by it too.
"""

from __future__ import annotations

from orchestrator.plan.draft import Draft
from orchestrator.plan.formats.base import Detection, PlanFile
from orchestrator.plan.keys import find_key
from orchestrator.plan.markdown import Heading, Item
from orchestrator.plan.outline import read_outline

_SURE_KEYS = 3
_META = frozenset(
    {"project", "last_updated", "total_tasks", "completed_tasks", "in_progress_tasks", "blocked_tasks"}
)


class Coditect:
    """Markdown whose boxes or headings carry ids."""

    name = "coditect"

    def detect(self, file: PlanFile) -> Detection:
        """Sure from three ids on boxes or headings; a file without any is none of these plans."""
        if file.is_json:
            return Detection(confidence=0.0, reason="it is JSON")
        keys = 0
        for block in file.document.blocks:
            if isinstance(block, Heading) or (isinstance(block, Item) and block.state is not None):
                found = find_key(block.text)
                keys += found is not None and not found.is_standard
        if not keys and len(_META & file.document.meta.keys()) > 1:
            return Detection(confidence=0.6, reason="the front matter is that of a CODITECT plan")
        confidence = 0.6 + 0.1 * min(keys, _SURE_KEYS) if keys else 0.0
        return Detection(confidence=confidence, reason=f"{keys} boxes and headings carry ids")

    def read(self, file: PlanFile, *, h1_is_title: bool = True) -> Draft:
        """Read the file as an outline whose ids are keys."""
        return read_outline(file.document, source=file.name, reads_keys=True, h1_is_title=h1_is_title)
