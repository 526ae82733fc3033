"""The circuit breaker of an agent type: closed → open → half-open, with exactly one probe.

Tasks that fail one after the other, without a success between, open it; then nothing of the agent type starts
until its time is over and one probe may run. What the probe shows closes it or opens it again; a probe that
ends without saying anything about the agent type frees its place for another. A task that fails three times
counts once: it may be the task.
"""

from __future__ import annotations

from orchestrator.core.commands import SaveBreaker
from orchestrator.core.events import BreakerRow
from orchestrator.core.retry import BreakerEffect
from orchestrator.core.state import Attempt, Breaker, State
from orchestrator.core.task import GATE_POOL
from orchestrator.core.words import BreakerState


def is_shut(s: State, pool: str) -> bool:
    """Tell whether nothing of the pool may start."""
    breaker = s.breakers.get(pool)
    if breaker is None or breaker.state is BreakerState.CLOSED:
        return False
    return breaker.state is BreakerState.OPEN or breaker.probe != 0


def note_start(s: State, attempt: Attempt) -> None:
    """The first start of a half-open breaker is its probe."""
    breaker = s.breakers.get(attempt.agent_type)
    if breaker is not None and breaker.state is BreakerState.HALF_OPEN:
        breaker.probe = attempt.token


def note_outcome(s: State, attempt: Attempt, effect: BreakerEffect, *, at_ms: int) -> None:
    """Take what the end of an attempt says about its agent type. Gates say nothing."""
    if attempt.agent_type == GATE_POOL:
        return
    breaker = s.breakers.get(attempt.agent_type)
    is_probe = breaker is not None and breaker.probe == attempt.token
    if breaker is not None and is_probe:
        breaker.probe = 0
    if effect is BreakerEffect.SUCCESS and breaker is not None:
        breaker.failed.clear()
        if is_probe:
            _move(s, attempt.agent_type, breaker, BreakerState.CLOSED)
    elif effect is BreakerEffect.FAILURE and s.policy.breaker_failures:
        if breaker is None:
            breaker = s.breakers[attempt.agent_type] = Breaker()
        breaker.failed.add(attempt.task_id)
        is_tripped = breaker.state is BreakerState.CLOSED and len(breaker.failed) >= s.policy.breaker_failures
        if is_probe or is_tripped:
            breaker.opened_at_ms = at_ms
            _move(s, attempt.agent_type, breaker, BreakerState.OPEN)


def let_probes_through(s: State, *, at_ms: int) -> None:
    """Open breakers whose time is over become half-open."""
    for agent_type, breaker in s.breakers.items():
        is_over = at_ms - breaker.opened_at_ms >= s.policy.breaker_open_ms
        if breaker.state is BreakerState.OPEN and is_over:
            _move(s, agent_type, breaker, BreakerState.HALF_OPEN)


def restore(s: State, row: BreakerRow) -> None:
    """Take a breaker as an earlier scheduler left it. What its probe showed was lost with that scheduler."""
    is_shut = row.state is not BreakerState.CLOSED and s.policy.breaker_failures > 0
    s.breakers[row.agent_type] = Breaker(
        state=BreakerState.OPEN if is_shut else BreakerState.CLOSED, opened_at_ms=row.opened_at_ms
    )


def _move(s: State, agent_type: str, breaker: Breaker, new: BreakerState) -> None:
    breaker.state = new
    failures = len(breaker.failed)
    s.out.append(
        SaveBreaker(agent_type=agent_type, state=new, failures=failures, opened_at_ms=breaker.opened_at_ms)
    )
    s.record_globally(f"breaker.{new.value}", {"agent_type": agent_type, "failures": failures})
