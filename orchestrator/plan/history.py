"""What past attempts say about those to come, and how much they are believed.

An author's estimate is right up to a factor: the factor of an attempt is its duration over the estimate of
its task. Factors are lognormal (Little, "Schedule estimation and uncertainty surrounding the cone of
uncertainty", IEEE Software 23(3), 2006), so they are averaged as logarithms. Few attempts are believed
little: an average of n is weighed n / (n + K) against what holds more widely, the credibility of Bühlmann
("Experience rating and credibility", ASTIN Bulletin 4, 1967). What holds more widely is all sessions, or all
commands, and before any attempt the estimate itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log
from typing import NamedTuple

#: So many attempts weigh as much as what was believed before them.
CREDIBILITY_K = 5.0

#: Before any attempt: one in ten takes twice the estimate or more, and as many half of it or less.
SIGMA_FIRST = log(2) / 1.2816
SUCCESS_FIRST = 0.9


class Kind(NamedTuple):
    """What attempts are told apart by. Commands of a plan are not compared with sessions of a model."""

    agent_type: str
    task_type: str
    is_command: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PastAttempts:
    """The ended work attempts of one kind. Losses and rate limits are nobody's fault and not counted.

    Attributes:
        attempts, successes: how many there were, and how many of them succeeded.
        log_factor, log_factor_variance: mean and variance of ln(duration / estimate) of those that succeeded.
        cost_micros: mean cost of one attempt.
    """

    kind: Kind
    attempts: int
    successes: int
    log_factor: float
    log_factor_variance: float
    cost_micros: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """What the next attempt of a kind is expected to be like.

    Attributes:
        mu, sigma: of ln(duration / estimate), which is taken to be normal.
        success: probability that an attempt succeeds.
        cost_micros: expected cost of an attempt; None where no attempt has told.
    """

    mu: float = 0.0
    sigma: float = SIGMA_FIRST
    success: float = SUCCESS_FIRST
    cost_micros: float | None = None


class History:
    """Beliefs by kind.

    Args:
        past: at most one entry of each kind.
    """

    def __init__(self, past: Iterable[PastAttempts] = ()) -> None:
        self._past = {each.kind: each for each in past}
        sessions = [each for each in self._past.values() if not each.kind.is_command]
        commands = [each for each in self._past.values() if each.kind.is_command]
        free = Belief(cost_micros=0.0)
        self._of_all = {False: _learn(Belief(), sessions), True: _learn(free, commands)}

    @property
    def attempts(self) -> int:
        """How many attempts it rests on."""
        return sum(each.attempts for each in self._past.values())

    def belief(self, kind: Kind) -> Belief:
        """Return what to expect of an attempt of this kind; commands cost nothing."""
        known = self._past.get(kind)
        return _learn(self._of_all[kind.is_command], [known] if known else [])


def _learn(before: Belief, past: list[PastAttempts]) -> Belief:
    """What was believed before, moved by what was seen.

    The variance is the one within what was seen, pooled with the one that was believed:
    (Σ(n - 1)s² + Kσ²) / (Σ(n - 1) + K).
    """
    attempts = sum(each.attempts for each in past)
    successes = sum(each.successes for each in past)
    if not attempts:
        return before
    trust = successes / (successes + CREDIBILITY_K)
    seen = sum(each.successes * each.log_factor for each in past) / max(successes, 1)
    spread = sum((each.successes - 1) * each.log_factor_variance for each in past if each.successes > 1)
    degrees = sum(each.successes - 1 for each in past if each.successes > 1)
    cost = sum(each.attempts * each.cost_micros for each in past) / attempts
    if before.cost_micros is not None:
        cost = (attempts * cost + CREDIBILITY_K * before.cost_micros) / (attempts + CREDIBILITY_K)
    return Belief(
        mu=trust * seen + (1 - trust) * before.mu,
        sigma=((spread + CREDIBILITY_K * before.sigma**2) / (degrees + CREDIBILITY_K)) ** 0.5,
        success=(successes + CREDIBILITY_K * before.success) / (attempts + CREDIBILITY_K),
        cost_micros=cost,
    )
