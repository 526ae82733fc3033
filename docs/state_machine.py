"""Write docs/state-machine.md from the tables of orchestrator.core: `make docs`.

What the states mean is taken from the comments behind them in core/words.py, so that it stands once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from orchestrator.cli.summary import remedy_of
from orchestrator.core.retry import POLICIES
from orchestrator.core.state import Policy
from orchestrator.core.transitions import ATTEMPT_MOVES, PLAN_MOVES, TASK_MOVES
from orchestrator.core.words import (
    AttemptState,
    BreakerState,
    FailureClass,
    HoldReason,
    PlanState,
    RetryLost,
    TaskState,
)

S = TypeVar("S", bound=StrEnum)

PAGE = Path(__file__).with_name("state-machine.md")

_INTRODUCTION = """\
# State machine

Generated from `orchestrator/core` by `make docs`; a test compares it with the code. A move that is not listed
here raises and changes nothing. Words are those of the [glossary](glossary.md).
"""


def page() -> str:
    """Return the whole page."""
    policy = Policy()
    delays, waits = map(_seconds, (policy.backoff_ms, policy.rate_limited_backoff_ms))
    sections = (
        _INTRODUCTION,
        _machine("Plan", PlanState, PLAN_MOVES),
        _machine("Task", TaskState, TASK_MOVES),
        _machine("Attempt", AttemptState, ATTEMPT_MOVES),
        "## Failure classes\n\n"
        "Each decides what follows a failed or lost attempt. *Charged* counts against the task's attempts,\n"
        f"and {policy.losses_max} *losses* in a row hold it. Between tries it waits {delays} s (settable),\n"
        "with a jitter that is hashed from task and try; after rate limits in a row, "
        f"{waits} s.\n"
        "A review without a verdict is the failure of its reviewer: a loss, and the work is not charged.\n",
        _table(
            ("class", "what happened", "tried again", "charged", "loss", "breaker", "teaches affinity"),
            _failure_rows(),
        ),
        "## Reasons to hold a task\n\nA held task starts only when its reason goes away.\n",
        _table(("reason", "meaning", "who lets it go on, and how"), _hold_rows()),
        "## After a lost session\n\nWhat `retry lost:` of a task says.\n",
        _table(("word", "may the task start again?"), _meanings(RetryLost)),
        "## Breaker of an agent type\n\n"
        f"{policy.breaker_failures} tasks that fail one after the other open it (settable). After "
        f"{policy.breaker_open_ms // 1000} s one probe decides.\n",
        _table(("state", "meaning"), _meanings(BreakerState)),
    )
    return "\n".join(sections)


def _seconds(delays_ms: Iterable[int]) -> str:
    return ", ".join(f"{ms / 1000:g}" for ms in delays_ms)


def _machine(name: str, states: type[S], moves: Mapping[S, frozenset[S]]) -> str:
    """Return the section of one machine: its diagram, and its states with where they go."""
    said = dict(_meanings(states))
    rows = [
        (f"`{state.value}`", said[f"`{state.value}`"], _listed(states, moves[state]) or "ends here")
        for state in states
    ]
    lines = [f"    {old.value} --> {new.value}" for old in states for new in states if new in moves[old]]
    diagram = "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])
    return f"## {name}\n\n{diagram}\n\n{_table(('state', 'meaning', 'may become'), rows)}"


def _listed(states: type[S], some: Iterable[S]) -> str:
    chosen = set(some)
    return ", ".join(state.value for state in states if state in chosen)


def _meanings(words: type[StrEnum]) -> list[tuple[str, str]]:
    """Return each word with the comment behind it in the source; empty where it says all by itself."""
    source = inspect.getsource(words)
    comments = dict(re.findall(r'^    \w+ = "([^"]+)"(?:  #: (.*))?$', source, re.MULTILINE))
    return [(f"`{word.value}`", comments[word.value]) for word in words]


def _failure_rows() -> Iterator[tuple[str, ...]]:
    for (word, meaning), failure in zip(_meanings(FailureClass), FailureClass, strict=True):
        policy = POLICIES[failure]
        flags = (policy.is_retryable, policy.is_charged, policy.counts_as_loss)
        yield (word, meaning, *map(_yes, flags), policy.breaker.value, _yes(policy.teaches))


def _hold_rows() -> Iterator[tuple[str, ...]]:
    by_itself = {
        HoldReason.BUDGET: "a budget that is set for the plan",
        HoldReason.TASK_BUDGET: "a budget that is set for the task",
        HoldReason.NO_PROGRESS: "a budget that is set for the plan",
        HoldReason.NO_CREDENTIALS: "a start of the stack with a key",
        HoldReason.NOT_INSTALLED: "a start of the stack with the program",
    }
    for (word, meaning), reason in zip(_meanings(HoldReason), HoldReason, strict=True):
        whose = ": provider" if reason is HoldReason.NO_CREDENTIALS else ""
        person = remedy_of(f"{reason}{whose}", key="KEY", plan="PLAN")
        yield (word, meaning, f"{by_itself.get(reason, 'a person')}: {person}")


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
