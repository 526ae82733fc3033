"""Write states back into the text of a plan: exactly the spans of marks, and nothing else.

Rule: a text is never made anew. Every character outside the spans stays as its author wrote it, so line ends,
padding, key order and remarks survive whatever is written.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.errors import InvariantViolation
from orchestrator.plan.encoding import with_strays, without_loss
from orchestrator.plan.model import Mark, MarkSpan, Notation

_BOX = {
    Mark.OPEN: " ",
    Mark.DONE: "x",
    Mark.IN_PROGRESS: "~",
    Mark.BLOCKED: "!",
    Mark.DEFERRED: ">",
    Mark.CANCELLED: "-",
    Mark.SKIPPED: "-",
}
_WORD = {
    Mark.OPEN: "Open",
    Mark.DONE: "Done",
    Mark.IN_PROGRESS: "In Progress",
    Mark.BLOCKED: "Blocked",
    Mark.DEFERRED: "Deferred",
    Mark.CANCELLED: "Cancelled",
    Mark.SKIPPED: "Cancelled",
}
_EMOJI = {
    Mark.OPEN: "⏳",
    Mark.DONE: "✅",
    Mark.IN_PROGRESS: "🔄",
    Mark.BLOCKED: "🚫",
    Mark.DEFERRED: "⏭️",
    Mark.CANCELLED: "🗑️",
    Mark.SKIPPED: "🗑️",
}

#: What is written for a mark, in each notation. Reading it gives the same mark again; where a notation knows
#: fewer states, the nearest one is written.
WRITTEN: Mapping[Notation, Mapping[Mark, str]] = {
    Notation.BOX: _BOX,
    Notation.NEW_BOX: {mark: f"[{sign}] " for mark, sign in _BOX.items()},
    Notation.WORD: _WORD,
    Notation.EMOJI: _EMOJI,
    Notation.EMOJI_WORD: {mark: f"{_EMOJI[mark]} {_WORD[mark]}" for mark in Mark},
    Notation.TASKMASTER: {
        Mark.OPEN: "pending",
        Mark.DONE: "done",
        Mark.IN_PROGRESS: "in-progress",
        Mark.BLOCKED: "blocked",
        Mark.DEFERRED: "deferred",
        Mark.CANCELLED: "cancelled",
        Mark.SKIPPED: "cancelled",
    },
    Notation.BEADS: {
        Mark.OPEN: "open",
        Mark.DONE: "closed",
        Mark.IN_PROGRESS: "in_progress",
        Mark.BLOCKED: "blocked",
        Mark.DEFERRED: "deferred",
        Mark.CANCELLED: "closed",
        Mark.SKIPPED: "closed",
    },
    Notation.BACKLOG: {
        Mark.OPEN: "To Do",
        Mark.DONE: "Done",
        Mark.IN_PROGRESS: "In Progress",
        Mark.BLOCKED: "To Do",
        Mark.DEFERRED: "To Do",
        Mark.CANCELLED: "Done",
        Mark.SKIPPED: "Done",
    },
}


def write_marks(text: str, changes: Mapping[MarkSpan, Mark]) -> str:
    """Replace the marks at these spans.

    Args:
        text: one file of a plan, the very text whose reading gave the spans.
        changes: spans that do not overlap, and what each is to say. Leave out those that say so already: an
            `X` would become an `x`.

    Returns:
        The text with exactly these spans replaced.

    Raises:
        InvariantViolation: spans overlap or lie outside the text.
    """
    parts, at = [], 0
    for span in sorted(changes):
        if not at <= span.start <= span.end <= len(text):
            raise InvariantViolation(f"The span {span} overlaps another or lies outside the text.")
        parts += [text[at : span.start], WRITTEN[span.notation][changes[span]]]
        at = span.end
    return "".join([*parts, text[at:]])


def write_marks_into(content: bytes, changes: Mapping[MarkSpan, Mark]) -> bytes:
    """Replace the marks of a file that is not UTF-16; every byte outside the spans stays as it is.

    Args:
        changes: spans in its text as `decode` reads it; see `write_marks`.
    """
    return without_loss(write_marks(with_strays(content), changes))
