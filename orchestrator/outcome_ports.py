"""What learning from outcomes and the tables know of each other; see ports.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass


@dataclass(frozen=True, slots=True, kw_only=True)
class AffinityKey:
    """What outcomes are aggregated by: the key of `agent_task_affinity`."""

    tenant_id: str
    agent_type: str
    task_type: str
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Affinity:
    """The history of one key. `success` (0 to 1) and what follows it are moving averages per outcome."""

    attempts: int = 0
    successes: int = 0
    success: float = 0.0
    duration_ms: float = 0.0
    tokens: float = 0.0
    cost_micros: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedAttempt:
    """An attempt that ended, with what the work it speaks about consumed.

    Attributes:
        kind: of the attempt that ended; a gate speaks about the work attempt before it.
        has_gate: the task has a gate, so that its work alone proves nothing.
        key: agent type of the work; task type and domain of the task.
        duration_ms: from the start of the work to its end.
        tokens: input and output tokens of the work.
    """

    kind: AttemptKind
    state: AttemptState
    failure_class: FailureClass | None
    has_gate: bool
    key: AffinityKey
    duration_ms: int
    tokens: int
    cost_micros: int


#: From the stored history and newly ended attempts to the history that changed.
FoldOutcomes: TypeAlias = Callable[
    [Mapping[AffinityKey, Affinity], Sequence[EndedAttempt]], Mapping[AffinityKey, Affinity]
]


class OutcomeStore(Protocol):
    """Where outcomes are read from and aggregated to."""

    async def take(self, fold: FoldOutcomes, *, events_max: int) -> int:
        """Fold the next events into the history, in one transaction with the seq they end at.

        Returns:
            The number of events taken; 0 when there is none left.

        Raises:
            DatabaseUnavailable: nothing was taken, or it is unknown; calling again is right in both cases.
        """
