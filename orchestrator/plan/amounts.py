"""Amounts as authors write them: durations, priorities. A day is 8 hours, a week 5 days, a point one hour."""

from __future__ import annotations

import re

from orchestrator.money import MICROS

SECOND_MS = 1_000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 8 * HOUR_MS
WEEK_MS = 5 * DAY_MS
POINT_MS = HOUR_MS
DURATION_MS_MAX = 1000 * WEEK_MS

#: The units in which a time is written, the largest first.
UNITS = (("w", WEEK_MS), ("d", DAY_MS), ("h", HOUR_MS), ("min", MINUTE_MS), ("s", SECOND_MS), ("ms", 1))

_UNITS_MS = {
    "ms": 1,
    "s": SECOND_MS, "sec": SECOND_MS, "second": SECOND_MS,
    "m": MINUTE_MS, "min": MINUTE_MS, "minute": MINUTE_MS,
    "h": HOUR_MS, "hr": HOUR_MS, "hour": HOUR_MS,
    "d": DAY_MS, "day": DAY_MS,
    "w": WEEK_MS, "wk": WEEK_MS, "week": WEEK_MS,
    "pt": POINT_MS, "point": POINT_MS,
}  # fmt: skip
_NUMBER = r"\d{1,7}(?:[.,]\d{1,3})?"
_UNIT = r"ms|sec(?:ond)?s?|min(?:ute)?s?|hrs?|hours?|days?|weeks?|wks?|pts?|(?:story )?points?|[smhdw]"
#: Units that are not taken for anything else when they stand in brackets.
_LONG_UNIT = r"(?:h|hrs?|hours?|min(?:ute)?s?|d|days?|weeks?|(?:story )?points?|pts?)"
_AMOUNT = re.compile(rf"(?:({_NUMBER})\s*[-–]\s*)?({_NUMBER})\s*({_UNIT})(?![A-Za-z])", re.IGNORECASE)
#: Between two amounts: nothing or "and" adds them up; anything else says the same amount again.
_SUM = re.compile(r"\s*(?:and|\+|&)?\s*", re.IGNORECASE)
_BRACKET = re.compile(
    rf"[~≈]?\s*(?:{_NUMBER}\s*[-–]\s*)?{_NUMBER}\s*{_LONG_UNIT}(?:\s*[,/=+ ]\s*{_NUMBER}\s*{_LONG_UNIT})*",
    re.IGNORECASE,
)
_MONEY = re.compile(
    r"(?:US)?\$?\s*(\d{1,3}(?:,\d{3})+(?:\.\d{1,6})?|\d{1,7}(?:\.\d{1,6})?)\s*(?:USD|US\$|\$|dollars?)?",
    re.IGNORECASE,
)
_PRIORITY = re.compile(r"(?<![\w])[Pp]([0-4])(?!\w)")
_PRIORITY_WORDS = {
    "critical": 0, "urgent": 0, "highest": 0, "blocker": 0,
    "high": 1, "🔴": 1,
    "medium": 2, "normal": 2, "moderate": 2, "🟡": 2,
    "low": 3, "minor": 3, "🟢": 3,
    "lowest": 4, "trivial": 4, "backlog": 4, "optional": 4,
}  # fmt: skip
_PRIORITY_WORD = re.compile("|".join(sorted(_PRIORITY_WORDS, key=len, reverse=True)), re.IGNORECASE)


def duration_ms(text: str, *, default_unit: str = "") -> int | None:
    """Read a duration such as `4h`, `1h 30min`, `2 days, 16 hours` (one amount said twice), `5-7 days`.

    Args:
        text: the author's words; of a range the upper end holds.
        default_unit: unit of a bare number; without it a bare number is no duration.

    Returns:
        Milliseconds, or None if the text names no duration.
    """
    text = text[:200]
    total_ms, end = None, 0
    for match in _AMOUNT.finditer(text):
        if total_ms is not None and not _SUM.fullmatch(text, end, match.start()):
            break
        unit = match[3].lower().removeprefix("story ")
        unit_ms = _UNITS_MS[unit] if unit in _UNITS_MS else _UNITS_MS[unit.rstrip("s")]
        total_ms = (total_ms or 0) + round(float(match[2].replace(",", ".")) * unit_ms)
        end = match.end()
    bare = re.match(rf"\s*[~≈]?\s*({_NUMBER})\s*(?:\(|$)", text)
    if total_ms is None and bare and default_unit:
        total_ms = round(float(bare[1].replace(",", ".")) * _UNITS_MS[default_unit])
    return None if total_ms is None else min(total_ms, DURATION_MS_MAX)


def is_duration(text: str) -> bool:
    """Whether the text, as found in brackets, is a duration and nothing else."""
    return len(text) <= 60 and _BRACKET.fullmatch(text.strip()) is not None


def money_micros(text: str) -> int | None:
    """Read a sum of US dollars such as `$2.50`, `3 USD` or `0.75`; None if the text is none.

    Returns:
        Millionths of a dollar.
    """
    match = _MONEY.fullmatch(text.strip())
    return None if match is None else round(float(match[1].replace(",", "")) * MICROS)


def priority_of(text: str) -> int | None:
    """Read a priority, 0 (most urgent) to 4: `P0`, `P1 - High`, `critical`; of several the most urgent."""
    if levels := _PRIORITY.findall(text[:200]):
        return min(map(int, levels))
    words = _PRIORITY_WORD.findall(text[:200])
    return min((_PRIORITY_WORDS[word.lower()] for word in words), default=None)
