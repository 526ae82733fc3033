"""JSON whose objects remember where their values stand, so that one value can be replaced in the text.

Rule: whatever the text, reading ends: in time linear in its length, no deeper than `DEPTH_MAX`.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from decimal import Decimal

from orchestrator.text import storable

DEPTH_MAX = 100
_INT_DIGITS_MAX = 18

_BLANK = r"[ \t\r\n]*+"
_QUOTED = r'"[^"\\\x00-\x1f]*+(?:\\.[^"\\\x00-\x1f]*+)*+"'
_BLANKS = re.compile(_BLANK)
_STRING = re.compile(_QUOTED)
_NAME = re.compile(rf"({_QUOTED}){_BLANK}:{_BLANK}")
_NEXT = re.compile(rf"{_BLANK}([,}}\]]){_BLANK}")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][-+]?\d{1,9})?", re.ASCII)
_WORD = re.compile(r"true|false|null")
_WORDS = {"true": True, "false": False, "null": None}


class JsonObject(dict[str, object]):
    """An object of a JSON text.

    Attributes:
        start: offset of its opening brace.
        spans: start and end of each member's value, by name; of a string without its quotes.
    """

    __slots__ = ("spans", "start")

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start
        self.spans: dict[str, tuple[int, int]] = {}


def read_json(text: str) -> object:
    """Read a text that is one JSON value; a byte-order mark before it is allowed.

    Returns:
        Objects as `JsonObject`, arrays as lists, whole numbers as int, others as Decimal, which keeps them as
        written. Of equal names in one object the last one counts. What escapes stand for is made `storable`.

    Raises:
        json.JSONDecodeError: the text is no JSON, or nested too deeply; it tells line and column.
    """
    value, _, end = _value(text, _skip(text, 1 if text.startswith("\ufeff") else 0), 0)
    end = _skip(text, end)
    if end != len(text):
        raise json.JSONDecodeError("Something follows its end", text, end)
    return value


class LineNumbers:
    """Tells the line, counted from 1, that an offset of a text is in."""

    def __init__(self, text: str) -> None:
        self._ends = [match.start() for match in re.finditer(r"\n|\r(?!\n)", text)]

    def of(self, offset: int) -> int:
        return bisect_right(self._ends, offset - 1) + 1


def _skip(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at


def _value(text: str, at: int, depth: int) -> tuple[object, tuple[int, int], int]:
    """The value that begins at an offset, where it can be replaced, and where it ends."""
    if depth > DEPTH_MAX:
        raise json.JSONDecodeError(f"It is nested deeper than {DEPTH_MAX} levels", text, at)
    sign = text[at : at + 1]
    if sign == '"':
        string, end = _string(text, at)
        return string, (at + 1, end - 1), end
    if sign == "{":
        value, end = _object(text, at, depth)
        return value, (at, end), end
    if sign == "[":
        items, end = _array(text, at, depth)
        return items, (at, end), end
    if word := _WORD.match(text, at):
        return _WORDS[word[0]], word.span(), word.end()
    if number := _NUMBER.match(text, at):
        is_int = number[0].lstrip("-").isdigit() and len(number[0]) <= _INT_DIGITS_MAX
        return int(number[0]) if is_int else Decimal(number[0]), number.span(), number.end()
    raise json.JSONDecodeError("A value is missing", text, at)


def _string(text: str, at: int) -> tuple[str, int]:
    match = _STRING.match(text, at)
    if match is None:
        raise json.JSONDecodeError("A string is missing or does not end in its line", text, at)
    return _unescaped(match[0], text, at), match.end()


def _unescaped(quoted: str, text: str, at: int) -> str:
    if "\\" not in quoted:
        return quoted[1:-1]
    try:
        return storable(json.loads(quoted))
    except json.JSONDecodeError as error:
        raise json.JSONDecodeError(error.msg, text, at + error.pos) from error


def _object(text: str, at: int, depth: int) -> tuple[JsonObject, int]:
    found = JsonObject(at)
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        return found, at + 1
    while True:
        match = _NAME.match(text, at)
        if match is None:
            _, end = _string(text, at)
            raise json.JSONDecodeError("A colon is missing after a name", text, end)
        name = _unescaped(match[1], text, at)
        found[name], found.spans[name], at = _value(text, match.end(), depth + 1)
        at, is_end = _next(text, at, "}")
        if is_end:
            return found, at


def _array(text: str, at: int, depth: int) -> tuple[list[object], int]:
    items: list[object] = []
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        return items, at + 1
    while True:
        item, _, at = _value(text, at, depth + 1)
        items.append(item)
        at, is_end = _next(text, at, "]")
        if is_end:
            return items, at


def _next(text: str, at: int, closing: str) -> tuple[int, bool]:
    """Where the next member begins, or where the object or array ends, and whether it does."""
    match = _NEXT.match(text, at)
    if match is None or match[1] not in ("," + closing):
        raise json.JSONDecodeError(f"A comma or {closing} is missing", text, _skip(text, at))
    is_end = match[1] == closing
    return (match.end(1) if is_end else match.end()), is_end
