"""CODITECT plans: tracks (`A.9.1.3`), work items (`T001.010`), headings (`#### Task 1.9: ...`) and tables.

All generations are one grammar of ids over one outline, so they may be mixed in one file; the prefixed ids
of other trackers (`SHOP-12`) are read by it too. A file of one track may name it in its front matter alone:
`track: B`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from orchestrator.errors import Finding
from orchestrator.plan.draft import Draft, Node
from orchestrator.plan.findings import Code, are
from orchestrator.plan.formats.base import Detection, PlanFile
from orchestrator.plan.keys import find_key
from orchestrator.plan.markdown import Heading, Item, Table
from orchestrator.plan.outline import read_outline
from orchestrator.plan.tables import row_key, task_columns

_SURE_KEYS = 3
_TRACK = re.compile(r"[A-Z]{1,2}")
_TRACK_KEY = re.compile(r"[A-Z]{1,2}(?:\.\d+)+")
_TRACK_DEPTH_MAX = 3
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
            elif isinstance(block, Table) and (columns := task_columns(block.header)):
                keys += sum(row_key(row, columns) is not None for row in block.rows)
        if not keys and len(_META & file.document.meta.keys()) > 1:
            return Detection(confidence=0.6, reason="the front matter is that of a CODITECT plan")
        confidence = 0.6 + 0.1 * min(keys, _SURE_KEYS) if keys else 0.0
        return Detection(confidence=confidence, reason=f"{are(keys, 'id')} on boxes, headings or rows")

    def read(self, file: PlanFile, *, h1_is_title: bool = True) -> Draft:
        """Read the file as an outline whose ids are keys."""
        draft = read_outline(file.document, source=file.name, reads_keys=True, h1_is_title=h1_is_title)
        if not h1_is_title:
            _put_in_track(draft)
        return replace(draft, findings=(*draft.findings, *_odd_ids(draft.root)))


def _put_in_track(draft: Draft) -> None:
    """Make the track that the front matter of a track file names the container of its tasks, if no heading
    does."""
    track = str(draft.meta.get("track", ""))
    root = draft.root
    if not _TRACK.fullmatch(track) or any(node.alias.startswith("track ") for node in root.descendants()):
        return
    title = str(draft.meta.get("title", "") or f"Track {track}")
    node = Node(title=title, line=1, place="line 1", source=root.source, is_heading=True, parent=root)
    node.alias, node.children, root.children = f"track {track.lower()}", root.children, [node]
    for child in node.children:
        child.parent = node


def _odd_ids(root: Node) -> Iterator[Finding]:
    """Ids of tracks that the standard does not have: too deep, or not counted from 1."""
    for node in root.descendants():
        if not _TRACK_KEY.fullmatch(node.own_key):
            continue
        numbers = [int(part) for part in node.own_key.split(".")[1:]]
        if len(numbers) > _TRACK_DEPTH_MAX or 0 in numbers:
            why = "counts from 0" if 0 in numbers else f"is deeper than {_TRACK_DEPTH_MAX} levels"
            message = f"The id {node.own_key} {why}, which the standard of tracks does not have."
            yield Code.ODD_ID.at(node.line, message, remedy="Keep it, or number the task anew.")
