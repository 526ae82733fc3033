"""How the ends of attempts travel between actors: as tuples of plain values.

To pickle an event with its enumerations costs twenty times as much (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core.events import AttemptEnded
from orchestrator.core.words import AttemptState, FailureClass

#: token, state, failure class, summary, cost in millionths of a US dollar
Ended = tuple[int, str, str | None, str, int]


def pack(ended: Iterable[AttemptEnded]) -> list[Ended]:
    """Make events ready to travel."""
    return [
        (e.token, e.state.value, e.failure_class.value if e.failure_class else None, e.summary, e.cost_micros)
        for e in ended
    ]


def unpack(ended: Iterable[Ended]) -> list[AttemptEnded]:
    """Turn what has travelled into events again."""
    return [
        AttemptEnded(
            token=token,
            state=AttemptState(state),
            failure_class=FailureClass(failure) if failure else None,
            summary=summary,
            cost_micros=cost_micros,
        )
        for token, state, failure, summary, cost_micros in ended
    ]
