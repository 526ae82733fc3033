"""The author's notation of a task's state: box characters, status words, emoji.

Rule of precedence: the box beats the words, the words beat the emoji of a heading.
"""

from __future__ import annotations

import re

from orchestrator.plan.model import Mark

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
    r"\s*(?:[-–—]\s*)?(?P<emoji>" + "|".join(_EMOJI_MARKS) + r")\ufe0f?\s*"
    r"(?:\*\*)?(?P<words>[A-Za-z ]{0,20})(?:\*\*)?(?:\s*[-–—]?\s*\d{4}-\d\d-\d\d)?\s*$"
)


def mark_of_status(value: str) -> Mark | None:
    """The state that a status field names; None if it names none."""
    if word := _WORD.search(value):
        return _WORD_MARKS[word[0].lower()]
    emoji = _EMOJI.search(value)
    return _EMOJI_MARKS[emoji[0]] if emoji else None


def split_verdict(title: str) -> tuple[str, Mark | None]:
    """Cut a verdict such as `✅ **COMPLETED**` from the end of a title.

    Returns:
        The title without it, and the state it names: its words if they name one, else its emoji.
    """
    tail = _TAIL.search(title[-80:])
    if tail is None:
        return title, None
    words = tail["words"].strip()
    named = _WORD_MARKS.get(words.lower())
    if words and named is None:
        return title, None
    kept = title[: max(0, len(title) - 80) + tail.start()].rstrip()
    return (kept or title), named or _EMOJI_MARKS[tail["emoji"]]
