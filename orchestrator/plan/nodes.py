"""From one block of Markdown to one node: its id, title and mark, and where the mark stands."""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.errors import Finding
from orchestrator.plan.draft import Node, Said
from orchestrator.plan.fields import FIELD_NAMES, apply_field, apply_status, take_notes
from orchestrator.plan.findings import Code
from orchestrator.plan.keys import FoundKey, split_hidden_key
from orchestrator.plan.markdown import Heading, Item
from orchestrator.plan.model import Mark, MarkSpan, Notation
from orchestrator.plan.states import BOX_MARKS, Status, leading_verdict, split_verdict
from orchestrator.plan.tables import Cell, Columns, Row, plain

TITLE_CHARS_MAX = 300

_BOLD_TITLE = re.compile(r"\*\*([^*]{6,118}[^*:\s])\*\*(?=\s)")
_NOTHING = frozenset({"", "none", "n/a"})
_STRUCK = re.compile(r"~~[^~]+~~$")


def node_of(block: Heading | Item, found: FoundKey | None, parent: Node) -> tuple[Node, list[Finding]]:
    """Make the node of a box or heading, and tell what is wrong with it.

    Args:
        found: the id at its start, if that is its key.
    """
    words, hidden_key = split_hidden_key(found.rest if found else block.text)
    title, verdict = split_verdict(words)
    # what an id leaves of a text is its end, so that both verdicts have their places in the source
    title_start = block.text_start + len(block.text) - len(found.rest if found else block.text)
    if verdict is None and found and (verdict := leading_verdict(block.text)):
        title_start = block.text_start
    node = Node(
        title=title,
        line=block.line,
        place=f"line {block.line}",
        source=parent.source,
        raw=block.raw,
        own_key=found.key if found else "",
        hidden_key=hidden_key,
        other_keys=found.others if found else (),
        parent=parent,
        mark=BOX_MARKS.get(block.state, Mark.OPEN) if block.state is not None else Mark.OPEN,
        has_mark=block.state is not None,
        span=_span(block),
        verdict=_said(verdict, title_start) if verdict else None,
    )
    findings = []
    if node.other_keys:
        message = f"{node.own_key} share one box, so they are one task."
        findings.append(Code.SHARED_BOX.at(block.line, message, remedy="Give each a line of its own."))
    _clean_title(node)
    if node.mark is Mark.OPEN and _STRUCK.match(title.strip(" *")):
        node.mark = Mark.CANCELLED
        message = "The title is struck out, so the task is taken as cancelled."
        findings.append(Code.STRUCK_TITLE.at(block.line, message, remedy="Mark it [-]."))
    return node, findings


def node_of_row(row: Row, found: FoundKey, columns: Columns, parent: Node) -> tuple[Node, list[Finding]]:
    """Make the node of a row of a table of tasks, and tell what is wrong with its cells."""
    title = row.cells[columns.title].text if len(row.cells) > columns.title else ""
    node = Node(
        title=found.rest if columns.title == columns.key else plain(title),
        line=row.line,
        place=f"line {row.line}",
        source=parent.source,
        raw=row.raw,
        own_key=found.key,
        parent=parent,
        is_row=True,
    )
    _clean_title(node)
    return node, list(_take_cells(node, row, columns))


def _take_cells(node: Node, row: Row, columns: Columns) -> Iterator[Finding]:
    cells = dict(zip(columns.fields, row.cells, strict=False))
    for number, (name, cell) in enumerate(cells.items()):
        is_empty = cell.text.strip(" -–—").lower() in _NOTHING
        finding = None
        if number == columns.status:
            finding = _take_status(node, cell)
        elif number not in (columns.key, columns.title) and name in FIELD_NAMES and not is_empty:
            finding = apply_field(node, FIELD_NAMES[name], plain(cell.text), line=row.line)
        if finding:
            yield finding


def _take_status(node: Node, cell: Cell) -> Finding | None:
    """Take the state of a row; an empty cell, or one that says none, is where it would be."""
    finding = apply_status(node, cell.text, line=node.line, start=cell.start) if cell.text else None
    if finding or not cell.text:
        node.span = MarkSpan(cell.start, cell.start + len(cell.text), Notation.WORD)
    return finding


def _span(block: Heading | Item) -> MarkSpan:
    """Where the box of a task is, or would be."""
    if block.state is None:
        return MarkSpan(block.start, block.start, Notation.NEW_BOX)
    return MarkSpan(block.start + 1, block.start + 1 + len(block.state), Notation.BOX)


def _said(status: Status, start: int) -> Said:
    """A status, whose text begins at this offset of the source."""
    return Said(status.mark, MarkSpan(start + status.start, start + status.end, status.notation))


def _clean_title(node: Node) -> None:
    """Leave the words that say what to do: notes go to fields, the rest of a long text to the body."""
    if not node.own_key and (bold := _BOLD_TITLE.match(node.title)) and " " in bold[1]:
        node.body.append((node.line, node.title))
        take_notes(node)
        node.title = bold[1]
    else:
        take_notes(node)
    title = node.title.replace("**", "").replace("~~", "").strip()
    if len(title) > TITLE_CHARS_MAX:
        node.body.append((node.line, title))
        title = title[: TITLE_CHARS_MAX - 1].rstrip() + "…"
    node.title = title or node.own_key or node.raw.strip()[:TITLE_CHARS_MAX]
