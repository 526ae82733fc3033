"""Learns from outcomes: moving averages per agent type, task type and domain.

The fold is pure; the store gives it the stored history and what ended since, and keeps its answer in one
transaction with the last event seq. So an outcome counts once, whoever dies when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from orchestrator.core.retry import POLICIES, failure_of
from orchestrator.core.words import AttemptKind, AttemptState
from orchestrator.outcome_ports import Affinity, AffinityKey, EndedAttempt, OutcomeStore

EVENTS_MAX = 1000

#: Failures that speak about the agent type.
LEARNED_FAILURES = frozenset(failure for failure, policy in POLICIES.items() if policy.teaches)


class Aggregator:
    """Takes outcomes until none is left.

    Args:
        ema_alpha: weight of the newest outcome, above 0 to 1.
    """

    def __init__(self, store: OutcomeStore, *, ema_alpha: float) -> None:
        self._store = store
        self._fold = partial(fold_outcomes, alpha=ema_alpha)

    async def catch_up(self) -> int:
        """Take every event there is, batch by batch; return their number. Raises DatabaseUnavailable."""
        total = 0
        while taken := await self._store.take(self._fold, events_max=EVENTS_MAX):
            total += taken
        return total


def fold_outcomes(
    history: Mapping[AffinityKey, Affinity], ended: Sequence[EndedAttempt], *, alpha: float
) -> dict[AffinityKey, Affinity]:
    """Return the history of every key that `ended` changes, the outcomes taken in their order."""
    changed: dict[AffinityKey, Affinity] = {}
    for attempt in ended:
        is_success = verdict(attempt)
        if is_success is None:
            continue
        before = changed.get(attempt.key) or history.get(attempt.key) or Affinity()
        changed[attempt.key] = _learn(before, attempt, is_success=is_success, alpha=alpha)
    return changed


def verdict(attempt: EndedAttempt) -> bool | None:
    """Return whether the work succeeded; None if this attempt does not tell.

    Where a task has a gate, the gate tells; else the work attempt itself. Cancelled and lost attempts, and
    failures that are nobody's or the plan's fault, tell nothing about the agent type.
    """
    if attempt.kind is AttemptKind.REVIEW:
        return None
    if attempt.state is AttemptState.SUCCEEDED:
        is_last_word = attempt.kind is AttemptKind.GATE or not attempt.has_gate
        return True if is_last_word else None
    if attempt.state in {AttemptState.FAILED, AttemptState.TIMED_OUT}:
        failure = failure_of(attempt.state, attempt.failure_class)
        return False if failure in LEARNED_FAILURES else None
    return None


def _learn(before: Affinity, attempt: EndedAttempt, *, is_success: bool, alpha: float) -> Affinity:
    """Return the history with one outcome more; the first one is taken as it is.

    Exponential moving average: new = alpha · outcome + (1 − alpha) · old.
    """
    weight = alpha if before.attempts else 1.0

    def average(old: float, new: float) -> float:
        return weight * new + (1.0 - weight) * old

    return Affinity(
        attempts=before.attempts + 1,
        successes=before.successes + is_success,
        success=average(before.success, float(is_success)),
        duration_ms=average(before.duration_ms, attempt.duration_ms),
        tokens=average(before.tokens, attempt.tokens),
        cost_micros=average(before.cost_micros, attempt.cost_micros),
    )
