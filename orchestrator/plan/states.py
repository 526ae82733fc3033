"""The author's notation of a task's state: box characters, status words, emoji.

Rule of precedence: the box beats the words, the words beat the emoji of a heading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.plan.model import Mark, Notation

#: The characters between the brackets of a box that are states; any other, such as `[P]`, is no task.
BOX_MARKS = {
    "": Mark.OPEN,
    " ": Mark.OPEN,
    "\t": Mark.OPEN,
    "\u00a0": Mark.OPEN,
    "x": Mark.DONE,
    "X": Mark.DONE,
    "~": Mark.IN_PROGRESS,
    "!": Mark.BLOCKED,
    "⊘": Mark.BLOCKED,
    ">": Mark.DEFERRED,
    "—": Mark.DEFERRED,
    "-": Mark.CANCELLED,
}

#: Signs in brackets that legends explain, such as spec-kit's `[P]` for "parallel".
LEGEND_MARKS = frozenset("P")

_WORD_MARKS = {
    "done": Mark.DONE,
    "complete": Mark.DONE,
    "completed": Mark.DONE,
    "finished": Mark.DONE,
    "closed": Mark.DONE,
    "in progress": Mark.IN_PROGRESS,
    "in_progress": Mark.IN_PROGRESS,
    "in-progress": Mark.IN_PROGRESS,
    "started": Mark.IN_PROGRESS,
    "blocked": Mark.BLOCKED,
    "deferred": Mark.DEFERRED,
    "postponed": Mark.DEFERRED,
    "cancelled": Mark.CANCELLED,
    "canceled": Mark.CANCELLED,
    "dropped": Mark.CANCELLED,
    "open": Mark.OPEN,
    "todo": Mark.OPEN,
    "to do": Mark.OPEN,
    "pending": Mark.OPEN,
    "ready": Mark.OPEN,
    "not started": Mark.OPEN,
}

_EMOJI_MARKS = {
    "✅": Mark.DONE,
    "✔": Mark.DONE,
    "🔄": Mark.IN_PROGRESS,
    "🔨": Mark.IN_PROGRESS,
    "🟡": Mark.IN_PROGRESS,
    "🚧": Mark.IN_PROGRESS,
    "🚫": Mark.BLOCKED,
    "⛔": Mark.BLOCKED,
    "⏭": Mark.DEFERRED,
    "🗑": Mark.CANCELLED,
    "⏸": Mark.OPEN,
    "⏳": Mark.OPEN,
    "📋": Mark.OPEN,
    "❌": Mark.OPEN,
}

_EMOJI = re.compile("|".join(_EMOJI_MARKS))
_WORD = re.compile(
    r"(?<!\w)(?:" + "|".join(sorted(map(re.escape, _WORD_MARKS), key=len, reverse=True)) + r")(?!\w)",
    re.IGNORECASE,
)
#: A verdict glued to the end of a title: an emoji, then perhaps words in bold and a date.
_TAIL = re.compile(
    r"\s*(?:[-–—]\s*)?(?P<said>(?P<emoji>" + "|".join(_EMOJI_MARKS) + r")\ufe0f?\s*"
    r"(?:\*\*)?(?P<words>[A-Za-z ]{0,20})(?:\*\*)?)(?:\s*[-–—]?\s*\d{4}-\d\d-\d\d)?\s*$"
)
_TAIL_CHARS = 80
_HEAD = re.compile(r"(?P<emoji>" + "|".join(_EMOJI_MARKS) + r")\ufe0f?(?=\s)")
#: What may stand between an emoji and its word, and behind them.
_BETWEEN = re.compile(r"\ufe0f?[\s*_]*")
_BEHIND = re.compile(r"[*_]*")


@dataclass(frozen=True, slots=True)
class Status:
    """A state that a text names, and which characters of the text do so."""

    mark: Mark
    start: int
    end: int
    notation: Notation


def read_status(text: str) -> Status | None:
    """The state that a status field or table cell names: its words if they name one, else its emoji."""
    emoji, word = _EMOJI.search(text), _WORD.search(text)
    if word:
        mark = _WORD_MARKS[word[0].lower()]
        if emoji and _BETWEEN.fullmatch(text, emoji.end(), word.start()):
            behind = _BEHIND.match(text, word.end())
            return Status(mark, emoji.start(), behind.end() if behind else word.end(), Notation.EMOJI_WORD)
        return Status(mark, word.start(), word.end(), Notation.WORD)
    if emoji:
        end = emoji.end() + text.startswith("\ufe0f", emoji.end())
        return Status(_EMOJI_MARKS[emoji[0]], emoji.start(), end, Notation.EMOJI)
    return None


def split_verdict(title: str) -> tuple[str, Status | None]:
    """Cut a verdict such as `✅ **COMPLETED**` from the end of a title.

    Returns:
        The title without it, and the state it names: its words if they name one, else its emoji.
    """
    if title.isascii():  # most are, and then there is no emoji to look for
        return title, None
    cut = max(0, len(title) - _TAIL_CHARS)
    tail = _TAIL.search(title[cut:])
    if tail is None:
        return title, None
    words = tail["words"].strip()
    named = _WORD_MARKS.get(words.lower())
    if words and named is None:
        return title, None
    start, end = cut + tail.start("said"), cut + tail.end("said")
    end -= len(title[start:end]) - len(title[start:end].rstrip())
    notation = Notation.EMOJI_WORD if words else Notation.EMOJI
    verdict = Status(named or _EMOJI_MARKS[tail["emoji"]], start, end, notation)
    kept = title[: cut + tail.start()].rstrip()
    return (kept or title), verdict


def leading_verdict(text: str) -> Status | None:
    """The state that an emoji before an id names: `✅ A.1.2 Build it`."""
    head = _HEAD.match(text)
    return Status(_EMOJI_MARKS[head["emoji"]], 0, head.end(), Notation.EMOJI) if head else None
