"""Numbers as people read them: durations, money, counts, and the end of a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.money import MICROS

if TYPE_CHECKING:
    from orchestrator.views import PlanView


def duration(seconds: float) -> str:
    """Return such as `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def money(micros: int) -> str:
    """Return millionths of a US dollar as dollars, with cents and no finer unless that hides all of it."""
    return f"${micros / MICROS:.2f}" if micros >= 10_000 or not micros else f"${micros / MICROS:.4f}"


def spending(*, spent_micros: int, reserved_micros: int, budget_micros: int, sessions: int = 0) -> str:
    """Return such as `$0.40 of $20.00 spent, $5.00 set aside for 1 session`."""
    most = f" of {money(budget_micros)}" if budget_micros else ""
    whom = count(sessions, "session") if sessions else "sessions"
    aside = f", {money(reserved_micros)} set aside for {whom}" if reserved_micros else ""
    return f"{money(spent_micros)}{most} spent{aside}"


def plan_spending(plan: PlanView) -> str:
    """Return how the money of a plan stands, as `spending`."""
    return spending(
        spent_micros=plan.cost_micros,
        reserved_micros=plan.reserved_micros,
        budget_micros=plan.budget_micros,
        sessions=plan.sessions,
    )


def micros(usd: float) -> int:
    """Return dollars as millionths, rounded up: a budget too small to count is not "no limit"."""
    return math.ceil(usd * MICROS)


def count(number: int, noun: str) -> str:
    """Return such as `1 task`, `2 tasks`, `no tasks`."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def answer_text(answer: Mapping[str, object]) -> str:
    """Return the answer to a request such as `paused, 2 live`."""
    return ", ".join(
        filter(None, (_words(name.removeprefix("is_"), value) for name, value in answer.items()))
    )


def _words(name: str, value: object) -> str:
    match value:
        case bool():
            return name if value else f"not {name}"
        case int():
            return f"{value} {name}"
        case [*parts]:
            return f"{name} {', '.join(map(str, parts))}" if parts else ""
        case _:
            return str(value) if name == "state" else f"{name} {value}"


def one_line(text: str, *, width: int = 200) -> str:
    """Return the text on one line, cut to `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def tail(path: Path, *, lines: int = 15) -> str:
    """Return the last lines of a file; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 65_536, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
