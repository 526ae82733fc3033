"""The plan formats that can be read, one module each.

A new format is one module with a class that satisfies `Format`, and one entry in `FORMATS`.
"""

from __future__ import annotations

from orchestrator.errors import PlanError
from orchestrator.plan.formats.backlog import Backlog
from orchestrator.plan.formats.base import FolderFormat, Format, PlanFile
from orchestrator.plan.formats.beads import Beads
from orchestrator.plan.formats.beads_batch import BeadsBatch
from orchestrator.plan.formats.checklist import Checklist
from orchestrator.plan.formats.coditect import Coditect
from orchestrator.plan.formats.github import GitHub
from orchestrator.plan.formats.native import Native
from orchestrator.plan.formats.speckit import SpecKit
from orchestrator.plan.formats.taskmaster import TaskMaster

#: All formats; of two that are equally sure of a file the first has it.
FORMATS: tuple[Format, ...] = (
    Native(),
    TaskMaster(),
    Beads(),
    Backlog(),
    BeadsBatch(),
    SpecKit(),
    Coditect(),
    GitHub(),
    Checklist(),
)

#: Those that read a folder as a whole; what none of them finds in it is read file by file.
FOLDER_FORMATS: tuple[FolderFormat, ...] = (Backlog(), Beads(), TaskMaster())


def choose_format(file: PlanFile, name: str = "auto") -> tuple[Format, str]:
    """The format of that name, or that the front matter names, or that fits a file best; and the reason.

    Raises:
        PlanError: no format has that name.
    """
    known = {each.name: each for each in FORMATS}
    if name in known:
        return known[name], "named by the caller"
    wanted = "" if file.is_json else str(file.document.meta.get("format", ""))
    if name == "auto" and wanted in known:
        return known[wanted], "named in the front matter"
    if name != "auto":
        message = f"The plan format {name!r} is unknown."
        raise PlanError(message, remedy=f"Use auto, {', '.join(sorted(known))}.")
    found = [(each.detect(file), each) for each in known.values()]
    best, chosen = max(found, key=lambda pair: pair[0].confidence)
    return chosen, best.reason
