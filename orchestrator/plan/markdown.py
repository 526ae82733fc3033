"""Markdown as the importers see it: one flat stream of headings, list items, fences, tables and text lines.

Rule: one pass over the lines, linear in time, with the source line of every block and the exact offset of
every state character, so that write-back can replace that one character. A box is what the eye sees: a list
mark, a blank, `[`, at most one character, `]`, then a blank or the end of the line; wherever it is indented.
A CommonMark tree drops boxes that are indented "wrongly" and limits the nesting, so none is built; over the
corpus both count the same. Nothing inside a code fence or an HTML comment is a block.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.errors import Finding
from orchestrator.plan.findings import Code
from orchestrator.plan.front_matter import read_front_matter
from orchestrator.plan.model import Checkboxes
from orchestrator.plan.tables import Cell, Row, is_delimiter, split_cells

_LINE = re.compile(r"([^\r\n]*)(\r\n?|\n|\Z)")
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]|$)")
_BOX = re.compile(r"\[([^\]]?)\](?=\s|$)")
_ITEM = re.compile(r"([ \t>]*)(?:[-*+]|\d{1,9}[.)])(?:[ \t\u00a0]+|$)")
_FENCE = re.compile(r"([ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?)(`{3,}|~{3,})(.*)")
_RULE = re.compile(r" {0,3}(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-{3,})[ \t]*$")
_LEAD = re.compile(r"[ \t>]*")
_DONE = frozenset("xX")
_OPEN = frozenset({"", " ", "\t", "\u00a0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading. `state` is the character of a box at its start, None without one; `start` is the offset of
    what follows the marks of the heading, the box included, and `text_start` that of the text."""

    line: int
    level: int
    text: str
    raw: str
    start: int
    text_start: int
    state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A list item. `text` comes after the list mark and the box; `indent` is in columns; `state` and the
    offsets as those of a heading."""

    line: int
    indent: int
    text: str
    raw: str
    start: int
    text_start: int
    state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """A code fence with its content, dedented."""

    line: int
    indent: int
    info: str
    lines: tuple[str, ...]
    is_closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Any other line that is not blank; `text_start` is the offset of its text."""

    line: int
    indent: int
    text: str
    text_start: int
    after_blank: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A thematic break."""

    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table: the cells of its header, and its rows."""

    line: int
    indent: int
    header: tuple[Cell, ...]
    rows: tuple[Row, ...]
    raw: str


Block = Heading | Item | Fence | Text | Rule | Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A Markdown text, scanned. `meta` is the front matter, every scalar as written."""

    blocks: tuple[Block, ...]
    checkboxes: Checkboxes
    findings: tuple[Finding, ...] = ()
    meta: Mapping[str, object] = field(default_factory=dict)


def scan(text: str) -> Document:
    """Split a Markdown text into blocks. Never raises, whatever the text.

    Args:
        text: the whole source; any line ends, a byte-order mark allowed. Offsets count its characters.
    """
    lines = [(match[1], match.start(), number) for number, match in enumerate(_LINE.finditer(text), 1)]
    if lines and lines[0][0].startswith("\ufeff"):
        lines[0] = (lines[0][0][1:], lines[0][1] + 1, 1)
    meta, body_start, findings = read_front_matter(line for line, _, _ in lines)
    scanner = _Scanner()
    for line, offset, number in lines[body_start:]:
        scanner.feed(line, offset=offset, number=number)
    scanner.close()
    return Document(
        blocks=tuple(scanner.blocks),
        checkboxes=_count(scanner.blocks),
        findings=(*findings, *scanner.findings),
        meta=meta,
    )


def columns(lead: str) -> int:
    """Width of the blanks, tabs and quote marks before a line's text; tabs stop at every fourth column."""
    return len(lead.expandtabs(4))


def _count(blocks: list[Block]) -> Checkboxes:
    states = Counter(block.state for block in blocks if isinstance(block, Item) and block.state is not None)
    return Checkboxes(
        open=sum(states.pop(state, 0) for state in _OPEN),
        done=sum(states.pop(state, 0) for state in _DONE),
        other=dict(states),
    )


class _Scanner:
    """The state of the one pass: inside a fence, inside a comment, or between blocks."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.findings: list[Finding] = []
        self._after_blank = True
        self._comment_line = 0
        self._fence: _OpenFence | None = None
        self._table: _OpenTable | None = None

    def feed(self, line: str, *, offset: int, number: int) -> None:
        if self._fence is not None:
            if self._fence.takes(line):
                return
            self._end_fence(is_closed=True)
            return
        if self._table is not None:
            if self._table.takes(line, offset=offset, number=number):
                return
            self._end_table()
        if self._comment_line:
            if "-->" in line:
                self._comment_line = 0
        elif not line.strip(" \t>"):
            self._after_blank = True
        else:
            self._block(line, offset=offset, number=number)
            self._after_blank = False

    def close(self) -> None:
        self._end_table()
        if self._fence is not None:
            message = "The code fence is never closed, so nothing below it is read."
            self.findings.append(Code.UNCLOSED_FENCE.at(self._fence.line, message, remedy="Close it."))
            self._end_fence(is_closed=False)
        if self._comment_line:
            message = "The HTML comment is never closed, so nothing below it is read."
            found = Code.UNCLOSED_COMMENT.at(self._comment_line, message, remedy="Close it with -->.")
            self.findings.append(found)

    def _end_fence(self, *, is_closed: bool) -> None:
        if self._fence is not None:
            self.blocks.append(self._fence.block(is_closed=is_closed))
        self._fence = None

    def _end_table(self) -> None:
        if self._table is not None:
            self.blocks.append(self._table.block())
        self._table = None

    def _block(self, line: str, *, offset: int, number: int) -> None:
        if line.lstrip().startswith("<!--") and self._comment(line, number=number):
            return
        if (fence := _open_fence(line, number=number)) is not None:
            self._fence = fence
        elif heading := _HEADING.match(line):
            self._heading(line, heading, offset=offset, number=number)
        elif not self._after_blank and _UNDERLINE.match(line) and self._underline():
            pass
        elif _RULE.match(line):
            self.blocks.append(Rule(line=number))
        elif item := _ITEM.match(line):
            self._item(line, item, offset=offset, number=number)
        elif (header := self._header_above(line)) is not None:
            self.blocks.pop()
            self._table = _OpenTable(header, delimiter=line)
        else:
            self._text(line, offset=offset, number=number)

    def _comment(self, line: str, *, number: int) -> bool:
        """Whether the line is a comment and nothing else."""
        if "-->" not in line:
            self._comment_line = number
            return True
        return line.rstrip().endswith("-->")

    def _heading(self, line: str, match: re.Match[str], *, offset: int, number: int) -> None:
        text, start = _trimmed(line, match.end())
        closing = text.rstrip("#")
        if closing != text and (not closing or closing[-1] in " \t"):
            text = closing.rstrip()
        box, after = _box(text)
        self.blocks.append(
            Heading(
                line=number,
                level=len(match[1]),
                text=text[after:],
                raw=line,
                start=offset + start,
                text_start=offset + start + after,
                state=box[1] if box else None,
            )
        )

    def _item(self, line: str, match: re.Match[str], *, offset: int, number: int) -> None:
        text, start = _trimmed(line, match.end())
        box, after = _box(text)
        self.blocks.append(
            Item(
                line=number,
                indent=columns(match[1]),
                text=text[after:],
                raw=line,
                start=offset + start,
                text_start=offset + start + after,
                state=box[1] if box else None,
            )
        )

    def _text(self, line: str, *, offset: int, number: int) -> None:
        text = line.lstrip(" \t>")
        lead = line[: len(line) - len(text)]
        self.blocks.append(
            Text(
                line=number,
                indent=columns(lead),
                text=text.rstrip(),
                text_start=offset + len(lead),
                after_blank=self._after_blank,
            )
        )

    def _header_above(self, line: str) -> Text | None:
        """The line above, if this one is the row of dashes that makes it the header of a table."""
        above = self.blocks[-1] if self.blocks and not self._after_blank and "|" in line else None
        if isinstance(above, Text) and above.text.startswith("|") and is_delimiter(line.strip(" \t>")):
            return above
        return None

    def _underline(self) -> bool:
        """Make the one text line above a heading, if it is a paragraph of its own and no field line."""
        above = self.blocks[-1] if self.blocks else None
        if not isinstance(above, Text) or not above.after_blank or above.indent > 3 or ":" in above.text:
            return False
        level = 1 if len(self.blocks) == 1 else 2
        self.blocks[-1] = Heading(
            line=above.line,
            level=level,
            text=above.text,
            raw=above.text,
            start=above.text_start,
            text_start=above.text_start,
        )
        return True


def _trimmed(line: str, start: int) -> tuple[str, int]:
    """The text of a line from `start`, stripped, and where it begins."""
    rest = line[start:]
    return rest.strip(), start + len(rest) - len(rest.lstrip())


def _box(text: str) -> tuple[re.Match[str] | None, int]:
    """The box at the start of a text, and where the words after it begin."""
    box = _BOX.match(text)
    if box is None:
        return None, 0
    return box, len(text) - len(text[box.end() :].lstrip())


class _OpenFence:
    """A code fence that has begun: collects lines until the mark that closes it."""

    def __init__(self, *, line: int, indent: int, mark: str, info: str) -> None:
        self.line = line
        self._indent = indent
        self._mark = mark
        self._info = info
        self._lines: list[str] = []

    def takes(self, line: str) -> bool:
        """Keep the line and say True; False if it closes the fence."""
        mark = line.strip(" \t>")
        if len(mark) >= len(self._mark) and mark == self._mark[0] * len(mark):
            return False
        self._lines.append(line)
        return True

    def block(self, *, is_closed: bool) -> Fence:
        lines = tuple(_dedent(line, self._indent) for line in self._lines)
        return Fence(line=self.line, indent=self._indent, info=self._info, lines=lines, is_closed=is_closed)


class _OpenTable:
    """A table that has begun: collects rows until a line that is none."""

    def __init__(self, header: Text, *, delimiter: str) -> None:
        self._header = header
        self._rows: list[Row] = []
        self._lines = [header.text, delimiter.strip()]

    def takes(self, line: str, *, offset: int, number: int) -> bool:
        """Keep the line if it is a row."""
        text = line.lstrip(" \t>")
        if not text.startswith("|"):
            return False
        start = offset + len(line) - len(text)
        text = text.rstrip()
        self._lines.append(text)
        self._rows.append(Row(line=number, raw=text, cells=split_cells(text, start)))
        return True

    def block(self) -> Table:
        return Table(
            line=self._header.line,
            indent=self._header.indent,
            header=split_cells(self._header.text, self._header.text_start),
            rows=tuple(self._rows),
            raw="\n".join(self._lines),
        )


def _open_fence(line: str, *, number: int) -> _OpenFence | None:
    match = _FENCE.match(line)
    if match is None or (match[2][0] == "`" and "`" in match[3]):
        return None
    return _OpenFence(line=number, indent=columns(match[1]), mark=match[2], info=match[3].strip())


def _dedent(line: str, width: int) -> str:
    lead = _LEAD.match(line)
    blanks = len(lead[0]) if lead else 0
    return line[min(blanks, width) :]
