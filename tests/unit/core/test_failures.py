"""What follows each end of an attempt: each failure class has consequences of its own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import EndAttempt, RecordEvent, TakeResult
from orchestrator.core.leases import EXECUTOR_LOST, TIMED_OUT
from orchestrator.core.state import Policy
from orchestrator.core.words import AttemptKind, AttemptState, BreakerState, FailureClass
from orchestrator.outcome_ports import AffinityKey, EndedAttempt
from orchestrator.runtime.outcomes import verdict
from tests.support.core import World, spec


@dataclass(frozen=True, kw_only=True)
class Consequence:
    """What a task that failed once is then, and who else learns of it."""

    state: str
    is_charged: bool = False
    is_loss: bool = False
    opens_breaker: bool = False
    teaches: bool = False


CONSEQUENCES = {
    FailureClass.INFRASTRUCTURE: Consequence(state="ready", is_loss=True),
    FailureClass.RATE_LIMITED: Consequence(state="ready"),
    FailureClass.BUDGET: Consequence(state="held"),
    FailureClass.WORKSPACE: Consequence(state="ready", is_loss=True),
    FailureClass.AGENT: Consequence(state="ready", is_charged=True, opens_breaker=True, teaches=True),
    FailureClass.GATE: Consequence(state="ready", is_charged=True, teaches=True),
    FailureClass.CONFLICT: Consequence(state="ready", is_charged=True, teaches=True),
    FailureClass.PLAN_DEFECT: Consequence(state="failed", is_charged=True),
    FailureClass.TIMEOUT: Consequence(state="ready", is_charged=True, opens_breaker=True, teaches=True),
}


@pytest.mark.parametrize("failure", list(FailureClass))
def test_each_failure_class_has_its_own_consequence(failure: FailureClass) -> None:
    world = World(policy=Policy(breaker_failures=1))
    world.join("a")
    world.load([spec(1, attempts_max=2), spec(2)])
    world.fail(1, failure)
    task, breaker = world.task(1), world.state.breakers.get("coder")
    assert CONSEQUENCES[failure] == Consequence(
        state=task.state.value,
        is_charged=task.attempts_used == 1,
        is_loss=task.losses == 1,
        opens_breaker=breaker is not None and breaker.state is BreakerState.OPEN,
        teaches=_teaches(failure),
    )


def _teaches(failure: FailureClass) -> bool:
    """Tell whether the failure counts in the history of its agent type."""
    key = AffinityKey(tenant_id="local", agent_type="coder", task_type="test", domain="backend")
    attempt = EndedAttempt(
        kind=AttemptKind.WORK,
        state=AttemptState.FAILED,
        failure_class=failure,
        has_gate=False,
        key=key,
        duration_ms=1,
        tokens=1,
        cost_micros=1,
    )
    return verdict(attempt) is False


def test_the_back_off_doubles_up_to_sixteen_seconds() -> None:
    world = World(policy=Policy(jitter=0.0))
    world.join("a")
    world.load([spec(1, attempts_max=7)])
    for delay_ms in (1000, 2000, 4000, 8000, 16000, 16000):
        world.fail(1)
        world.wait(delay_ms - 1)
        assert world.running() == []
        world.wait(1)
        assert world.running() == [1]
    world.fail(1)
    assert world.states() == {1: "failed"}


ENDS = {
    AttemptState.SUCCEEDED: "done",
    AttemptState.FAILED: "ready",
    AttemptState.TIMED_OUT: "ready",
    AttemptState.INTERRUPTED: "running",  # it starts again at once
    AttemptState.CANCELLED: "running",  # nobody had asked for it
}


@pytest.mark.parametrize("state", list(ENDS))
def test_of_each_end_that_an_executor_reports_the_result_is_taken(state: AttemptState) -> None:
    world = World()
    world.join("a")
    world.load([spec(1)])
    token = world.task(1).token
    commands = world.end(1, state)
    assert [c.token for c in commands if isinstance(c, TakeResult)] == [token]
    assert not any(isinstance(c, EndAttempt) for c in commands)
    (told,) = [c for c in commands if isinstance(c, RecordEvent) and c.type == "attempt.ended"]
    assert told.payload["state"] == state
    assert world.states() == {1: ENDS[state]}


@pytest.mark.parametrize(
    ("reason", "state", "failure"),
    [
        (EXECUTOR_LOST, AttemptState.LOST, FailureClass.INFRASTRUCTURE),
        (TIMED_OUT, AttemptState.TIMED_OUT, FailureClass.TIMEOUT),
    ],
)
def test_an_end_that_nobody_reports_is_written_with_its_reason(
    reason: str, state: AttemptState, failure: FailureClass
) -> None:
    world = World()
    world.join("a")
    world.load([spec(1)])
    commands = world.handle(e.AttemptLost(token=world.task(1).token, reason=reason))
    (end,) = [command for command in commands if isinstance(command, EndAttempt)]
    assert (end.state, end.end_reason, end.failure_class) == (state, reason, failure)
    assert not any(isinstance(c, TakeResult) for c in commands)
    assert world.states() == {1: "ready"}
