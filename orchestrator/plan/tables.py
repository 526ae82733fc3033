"""Markdown tables, and which of them list tasks: those with a column of ids and one of states."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from orchestrator.plan.keys import FoundKey, find_key

_PIPE = re.compile(r"(?<!\\)\|")
_DELIMITER = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?$")
_CELLS_MAX = 200
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()]*\)")
_ID_HEADERS = ("id", "task id", "key", "#", "no", "no.", "ref", "task", "item")
_TITLE_HEADERS = ("title", "task", "name", "summary", "description", "item", "what", "deliverable")
_STATUS_HEADERS = ("status", "state", "done")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its trimmed text, and the offset of that text in the source."""

    text: str
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table below its header."""

    line: int
    raw: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column of a table of tasks says what; `fields` are the names of all columns in lower case."""

    key: int
    title: int
    status: int
    fields: tuple[str, ...]


def split_cells(text: str, start: int) -> tuple[Cell, ...]:
    """The cells of a line that begins with `|`; of very many the first ones.

    Args:
        text: the line without the blanks around it.
        start: offset of the line's `|` in the source.
    """
    bounds = [match.start() for match in islice(_PIPE.finditer(text), _CELLS_MAX + 1)]
    if len(bounds) <= _CELLS_MAX and bounds[-1] != len(text) - 1:
        bounds.append(len(text))
    cells = []
    for left, right in pairwise(bounds):
        words = text[left + 1 : right]
        lead = len(words) - len(words.lstrip())
        cells.append(Cell(words.strip(), start + left + 1 + (lead if words.strip() else min(1, lead))))
    return tuple(cells)


def is_delimiter(text: str) -> bool:
    """Whether the line divides a header from its rows: `|---|:--:|`."""
    return _DELIMITER.match(text) is not None


def task_columns(header: Sequence[Cell]) -> Columns | None:
    """The columns of a table of tasks; None if it has no ids or no states."""
    names = tuple(cell.text.strip(" *_`").lower() for cell in header)
    status = _first(names, _STATUS_HEADERS)
    key = _first(names, _ID_HEADERS)
    if status is None or key is None:
        return None
    others = tuple("" if number == key else name for number, name in enumerate(names))
    title = _first(others, _TITLE_HEADERS)
    return Columns(key=key, title=key if title is None else title, status=status, fields=names)


def row_key(row: Row, columns: Columns) -> FoundKey | None:
    """The id of a row, which may be a link; None if the row is no task."""
    return find_key(plain(row.cells[columns.key].text)) if len(row.cells) > columns.key else None


def plain(text: str) -> str:
    """The words of a cell: links without their targets, escaped pipes as pipes."""
    return _LINK.sub(r"\1", text).replace("\\|", "|")


def _first(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)
