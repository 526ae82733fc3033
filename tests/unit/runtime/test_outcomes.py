"""Learning from outcomes: which attempt tells something, and the moving averages."""

from __future__ import annotations

import pytest

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.outcome_ports import Affinity, AffinityKey, EndedAttempt
from orchestrator.runtime.outcomes import fold_outcomes, verdict

KEY = AffinityKey(tenant_id="local", agent_type="a", task_type="test", domain="backend")


def ended(
    state: AttemptState = AttemptState.SUCCEEDED,
    failure: FailureClass | None = None,
    *,
    kind: AttemptKind = AttemptKind.WORK,
    has_gate: bool = False,
    duration_ms: int = 100,
    key: AffinityKey = KEY,
) -> EndedAttempt:
    return EndedAttempt(
        kind=kind, state=state, failure_class=failure, has_gate=has_gate, key=key,
        duration_ms=duration_ms, tokens=10, cost_micros=7,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        (ended(), True),
        (ended(has_gate=True), None),
        (ended(kind=AttemptKind.GATE, has_gate=True), True),
        (ended(AttemptState.FAILED, FailureClass.GATE, kind=AttemptKind.GATE, has_gate=True), False),
        (ended(AttemptState.FAILED, FailureClass.INFRASTRUCTURE, kind=AttemptKind.GATE, has_gate=True), None),
        (ended(AttemptState.FAILED, FailureClass.AGENT, has_gate=True), False),
        (ended(AttemptState.FAILED), False),
        (ended(AttemptState.TIMED_OUT), False),
        (ended(AttemptState.FAILED, FailureClass.INFRASTRUCTURE), None),
        (ended(AttemptState.FAILED, FailureClass.RATE_LIMITED), None),
        (ended(AttemptState.FAILED, FailureClass.PLAN_DEFECT), None),
        (ended(AttemptState.CANCELLED), None),
        (ended(AttemptState.LOST, FailureClass.INFRASTRUCTURE), None),
        (ended(kind=AttemptKind.REVIEW), None),
    ],
)
def test_verdict(attempt: EndedAttempt, expected: bool | None) -> None:
    assert verdict(attempt) is expected


def test_first_outcome_is_taken_as_it_is() -> None:
    changed = fold_outcomes({}, [ended(duration_ms=400)], alpha=0.3)
    assert changed == {
        KEY: Affinity(attempts=1, successes=1, success=1.0, duration_ms=400, tokens=10, cost_micros=7)
    }


def test_later_outcomes_move_the_averages_by_alpha() -> None:
    before = Affinity(attempts=1, successes=1, success=1.0, duration_ms=400, tokens=10, cost_micros=7)
    failed = ended(AttemptState.FAILED, FailureClass.AGENT, duration_ms=100)
    after = fold_outcomes({KEY: before}, [failed, failed], alpha=0.3)[KEY]
    assert (after.attempts, after.successes) == (3, 1)
    assert after.success == pytest.approx(0.49)
    assert after.duration_ms == pytest.approx(400 * 0.49 + 100 * 0.51)
    assert after.tokens == pytest.approx(10)


def test_only_changed_keys_are_returned() -> None:
    other = AffinityKey(tenant_id="local", agent_type="b", task_type="", domain="")
    history = {KEY: Affinity(attempts=1), other: Affinity(attempts=1)}
    assert set(fold_outcomes(history, [ended(key=other)], alpha=0.3)) == {other}
    assert fold_outcomes(history, [ended(AttemptState.CANCELLED)], alpha=0.3) == {}
