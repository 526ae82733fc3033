"""What follows a failed attempt: a table by failure class, and a back-off whose jitter is a hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass


class BreakerEffect(StrEnum):
    """What an outcome tells the circuit breaker of the agent type."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"  #: nothing about the agent type; a probe that ends so frees its place


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassPolicy:
    """How one failure class is treated.

    Attributes:
        is_retryable: another attempt may succeed; after `budget` when there is money again.
        is_charged: the attempt counts against the task's attempts.
        counts_as_loss: it counts in the row of losses after which the task is held.
        breaker: its effect on the circuit breaker of the agent type.
        teaches: it says something about how well the agent type does such tasks.
    """

    is_retryable: bool
    is_charged: bool
    counts_as_loss: bool = False
    breaker: BreakerEffect = BreakerEffect.NEUTRAL
    teaches: bool = False


_FAILURE = BreakerEffect.FAILURE

POLICIES: dict[FailureClass, ClassPolicy] = {
    FailureClass.INFRASTRUCTURE: ClassPolicy(is_retryable=True, is_charged=False, counts_as_loss=True),
    FailureClass.RATE_LIMITED: ClassPolicy(is_retryable=True, is_charged=False),
    FailureClass.BUDGET: ClassPolicy(is_retryable=True, is_charged=False),
    FailureClass.WORKSPACE: ClassPolicy(is_retryable=True, is_charged=False, counts_as_loss=True),
    FailureClass.AGENT: ClassPolicy(is_retryable=True, is_charged=True, breaker=_FAILURE, teaches=True),
    FailureClass.GATE: ClassPolicy(is_retryable=True, is_charged=True, teaches=True),
    FailureClass.CONFLICT: ClassPolicy(is_retryable=True, is_charged=True, teaches=True),
    FailureClass.PLAN_DEFECT: ClassPolicy(is_retryable=False, is_charged=True),
    FailureClass.TIMEOUT: ClassPolicy(is_retryable=True, is_charged=True, breaker=_FAILURE, teaches=True),
}

#: Of a review that gave no verdict: the work is not to blame, the reviewer is.
_NO_VERDICT = ClassPolicy(is_retryable=True, is_charged=False, counts_as_loss=True, breaker=_FAILURE)


def failure_of(state: AttemptState, said: FailureClass | None) -> FailureClass | None:
    """Return the class of an attempt that ended so; one that says nothing of it gets what is likeliest."""
    if state is AttemptState.TIMED_OUT:
        return said or FailureClass.TIMEOUT
    if state is AttemptState.FAILED:
        return said or FailureClass.AGENT
    return None


def policy_of(failure: FailureClass, kind: AttemptKind) -> ClassPolicy:
    """Return how a failure of an attempt of the kind is treated. A review blames the work as `gate` only."""
    policy = POLICIES[failure]
    is_verdict = kind is not AttemptKind.REVIEW or failure is FailureClass.GATE
    return policy if is_verdict or not (policy.is_charged and policy.is_retryable) else _NO_VERDICT


def backoff_ms(*, delays_ms: tuple[int, ...], jitter: float, seed: int, task_id: int, number: int) -> int:
    """Return the delay before the attempt after attempt `number`.

    The delay is `delays_ms[number - 1]` (the last one repeats), times 1 + jitter·u with u in [-1, 1) hashed
    from (seed, task, number): repeatable, yet tasks that failed together do not return together.
    """
    base = delays_ms[min(number, len(delays_ms)) - 1] if delays_ms else 0
    digest = hashlib.blake2b(f"{seed}:{task_id}:{number}".encode(), digest_size=8).digest()
    unit = int.from_bytes(digest, "big") / 2**63 - 1.0
    return max(0, round(base * (1.0 + jitter * unit)))
