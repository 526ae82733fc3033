"""The grammar of task ids, and the keys of tasks that have none.

Track `A.9.1.3` (one or two letters), work item `T001.010`, pair `E001-T001` or `P1-T03`, prefixed
`TASK-SHOP-1007`, number `3.7`; each may end in a letter (`T001.010.a`). The words Task, Sub-task and Track
before an id are no part of it: `Task 0.1` and `0.1` are one task. A hidden id, `<!-- id: build-it -->` at the
end of a line, is the key of a task that shows none.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from urllib.parse import quote, unquote

KEY = (
    r"(?:"
    r"(?:SP|[PEFS])\d+-T\d+"
    r"|[A-Z]{1,10}(?:-[A-Z]{1,10})*-\d+(?:\.\d+)*"
    r"|[A-Z]{1,2}(?:\.\d+){1,4}"
    r"|(?:SP|ST|[A-Z])\d+(?:\.\d+)+"
    r"|(?:SP|[PEF])\d{3,}|S?T\d{3,}|S\d{2,3}"
    r"|\d+(?:\.\d+){1,3}"
    r")(?:\.[a-z](?![\w]))?"
)

#: Names of standards that have the form of an id. They count as ids by form, and are nobody's key.
_STANDARDS = frozenset(
    {"SHA", "UTF", "AES", "RSA", "ISO", "RFC", "MD", "ES", "RS", "HS", "IEEE", "CVE", "SOC"}
)

_END = r"(?=$|[\s:)\]*_~`,;—–：（]|\.(?:\s|$))"
_START = re.compile(
    r"[\s*_`~\[(✅✔🔄⏸️⏳🔨🚧📋🟡❌🚫⛔⏭🗑]*"
    r"(?P<word>(?i:task|sub-?task|track)\s+)?[*_`~\[(#]*"
    rf"(?P<key>{KEY}|(?P<first>{KEY})[-–—](?P<last>{KEY})|(?<=\s)\d+(?=\s*[:.)—–]))" + _END
)
_AFTER = re.compile(r"[:.)\]*_~`：]*\s*(?:[-–—]\s+)?")
_ALIAS = re.compile(
    r"(?P<unit>phase|week|sprint|track|part|section|stage|milestone|epic|step|wave)s?\s+"
    r"(?P<name>[A-Z]{1,2}(?![A-Za-z])|\d+(?:\.\d+)*(?![\d-]))",
    re.IGNORECASE,
)
_HIDDEN = re.compile(r"<!-- id: (?P<key>\S{1,600}) -->$")
_HIDDEN_CHARS_MAX = 620
_NOT_HIDEABLE = re.compile(r"[\s%<>]")
_NUMBERED = re.compile(r"~\d+$")
_NOT_WORD = re.compile(r"[^\w]+")
_SLUG_CHARS_MAX = 48
_KEY_REACH_CHARS = 200
_RANGE_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundKey:
    """An id at the start of a text.

    Attributes:
        rest: what follows it and its terminator.
        others: the ids of a range that shares one box, `T071-T074`, which is then the key.
        has_word: the word Task stood before it.
        is_standard: it has the form of an id and names a standard, such as SHA-256.
    """

    key: str
    rest: str
    others: tuple[str, ...] = ()
    has_word: bool = False
    is_standard: bool = False


def find_key(text: str) -> FoundKey | None:
    """Read the id at the start of a box's or heading's text, past marks of bold, code and strike."""
    match = _START.match(text[:_KEY_REACH_CHARS])
    if match is None:
        return None
    key = match["key"]
    if key.isdigit() and not match["word"]:
        return None
    others = _between(match["first"], match["last"]) if match["first"] else ()
    if match["first"] and not others:
        return None
    after = _AFTER.match(text[: 2 * _KEY_REACH_CHARS], match.end())
    return FoundKey(
        key=key,
        rest=text[after.end() if after else match.end() :],
        others=others,
        has_word=bool(match["word"]) and not (match["word"] or "").lower().startswith("track"),
        is_standard=key.partition("-")[0] in _STANDARDS,
    )


def split_hidden_key(text: str) -> tuple[str, str]:
    """Cut `<!-- id: KEY -->` from the end of a text. Returns the text without it, and the key or nothing."""
    found = _HIDDEN.search(text[-_HIDDEN_CHARS_MAX:]) if text.endswith(" -->") else None
    return (text[: -len(found[0])].rstrip(), unquote(found["key"])) if found else (text, "")


def hidden(key: str) -> str:
    """A key as it is hidden at the end of a line; signs that would end the comment are written `%3E`."""
    return f"<!-- id: {_NOT_HIDEABLE.sub(lambda sign: quote(sign[0], safe=''), key)} -->"


def free_key(key: str, used: Container[str], counts: dict[str, int]) -> str:
    """A key as it is, or made unique: `A.1~2` is the second task with the id `A.1`.

    Args:
        used: the keys that others have.
        counts: the last number behind each id; raised here, so that many of one id take linear time.
    """
    free, id_ = key, id_of(key)
    while free in used:
        counts[id_] = counts.get(id_, 1) + 1
        free = f"{id_}~{counts[id_]}"
    return free


def id_of(key: str) -> str:
    """The id of which a key was made: `A.1` for `A.1~2`."""
    return _NUMBERED.sub("", key)


def is_section_key(key: str) -> bool:
    """Whether the key is a section of a track, such as `A.9`: a parent by the track standard, no task."""
    track, _, section = key.partition(".")
    return track.isalpha() and section.isdigit()


def alias_of(title: str) -> str:
    """The name by which dependencies call a section: `phase 0` for "Phase 0: Foundation"; else empty."""
    match = _ALIAS.match(title)
    return f"{match['unit'].lower()} {match['name'].lower()}" if match else ""


def split_number(key: str) -> tuple[str, int] | None:
    """A key as its stem and last number, for ranges: `T001.010` is (`T001.`, 10). None without a number."""
    digits = len(key) - len(key.rstrip("0123456789"))
    return (key[:-digits], int(key[-digits:])) if 0 < digits < 19 else None


def _between(first: str, last: str) -> tuple[str, ...]:
    """The ids from one to another that differs in its last number only; empty if they are not so."""
    start, end = split_number(first), split_number(last)
    if not (start and end and start[0] == end[0] and 0 <= end[1] - start[1] < _RANGE_MAX):
        return ()
    width = len(first) - len(start[0])
    return tuple(f"{start[0]}{number:0{width}}" for number in range(start[1], end[1] + 1))


def slug(text: str) -> str:
    """A key made of a title: lower case, words joined by hyphens, at most 48 characters; empty if no word."""
    words = _NOT_WORD.sub("-", text[:200].casefold().replace("_", "-")).strip("-")
    if len(words) <= _SLUG_CHARS_MAX:
        return words
    return words[:_SLUG_CHARS_MAX].rpartition("-")[0] or words[:_SLUG_CHARS_MAX]
