"""The circuit breaker of an agent type: what opens it, its one probe, and what a probe shows."""

from __future__ import annotations

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import SaveBreaker
from orchestrator.core.limits import Overrides
from orchestrator.core.state import Policy
from orchestrator.core.words import AttemptState, BreakerState, FailureClass
from tests.support.core import World, spec

POLICY = Policy(breaker_failures=3, breaker_open_ms=10_000, backoff_ms=(100_000,), jitter=0.0)


def world_of(tasks: int, *, slots: int = 1) -> World:
    world = World(policy=POLICY)
    world.join("a", slots=slots)
    world.load([spec(i) for i in range(1, tasks + 1)])
    return world


def breaker(world: World) -> BreakerState:
    return world.state.breakers["coder"].state


def opened(tasks: int = 9, *, slots: int = 1) -> World:
    """Return a world whose breaker three tasks have opened."""
    world = world_of(tasks, slots=slots)
    for _ in range(3):
        world.fail(world.running()[0])
    return world


def test_tasks_failing_in_a_row_open_it_and_nothing_starts():
    world = opened()
    assert breaker(world) is BreakerState.OPEN
    assert world.running() == []
    world.wait(9_999)
    assert world.running() == []


def test_other_agent_types_go_on():
    world = opened()
    world.join("t", "tester")
    world.load([spec(20, agent_type="tester")], plan=e.PlanSpec(
        plan_id=2, tenant_id="local", state=world.state.plans[1].state, budget_micros=0, spent_micros=0,
        until_task=0,
    ))  # fmt: skip
    assert world.running() == [20]


def test_a_success_between_starts_the_count_again():
    world = world_of(9)
    for _ in range(2):
        world.fail(world.running()[0])
    world.end(world.running()[0])
    for _ in range(2):
        world.fail(world.running()[0])
    assert breaker(world) is BreakerState.CLOSED


def test_one_task_that_fails_again_and_again_counts_once():
    world = World(policy=Policy(breaker_failures=2, backoff_ms=(0,)))
    world.join("a", slots=1)
    world.load([spec(1, attempts_max=9)])
    for _ in range(5):
        world.fail(1)
        world.wait(1)
    assert breaker(world) is BreakerState.CLOSED


@pytest.mark.parametrize(
    "failure",
    [
        FailureClass.INFRASTRUCTURE,
        FailureClass.RATE_LIMITED,
        FailureClass.BUDGET,
        FailureClass.WORKSPACE,
        FailureClass.GATE,
        FailureClass.CONFLICT,
        FailureClass.PLAN_DEFECT,
    ],
)
def test_what_is_not_the_fault_of_the_agent_type_opens_nothing(failure):
    world = world_of(9)
    for _ in range(6):
        world.fail(world.running()[0], failure)
    assert "coder" not in world.state.breakers


def test_exactly_one_probe_runs_when_its_time_is_over():
    world = opened(slots=4)
    for task_id in world.running():
        world.end(task_id, AttemptState.CANCELLED)
    world.wait(10_000)
    assert breaker(world) is BreakerState.HALF_OPEN
    assert len(world.running()) == 1
    world.wait(60_000)
    assert len(world.running()) == 1


def test_a_probe_that_succeeds_closes_it():
    world = opened()
    world.join("b", slots=3)
    world.wait(10_000)
    world.end(world.running()[0])
    assert breaker(world) is BreakerState.CLOSED
    assert len(world.running()) == 4


def test_a_probe_that_fails_opens_it_for_another_term():
    world = opened()
    world.wait(10_000)
    world.fail(world.running()[0])
    assert breaker(world) is BreakerState.OPEN
    world.wait(9_999)
    assert world.running() == []
    world.wait(1)
    assert len(world.running()) == 1


@pytest.mark.parametrize("neutral", ["infrastructure", "rate_limited", "cancelled", "lost"])
def test_a_probe_that_says_nothing_makes_room_for_another(neutral):
    world = opened()
    world.wait(10_000)
    first = world.running()[0]
    if neutral == "lost":
        world.handle(e.AttemptLost(token=world.task(first).token, reason="start timeout"))
    elif neutral == "cancelled":
        world.end(first, AttemptState.CANCELLED)
    else:
        world.fail(first, FailureClass(neutral))
    assert breaker(world) is BreakerState.HALF_OPEN
    assert len(world.running()) == 1


def test_what_ran_before_it_opened_tells_nothing_about_the_probe():
    world = opened(slots=2)
    straggler = world.running()[0]
    world.wait(10_000)
    probe = next(task_id for task_id in world.running() if task_id != straggler)
    world.end(straggler)
    assert breaker(world) is BreakerState.HALF_OPEN
    assert world.running() == [probe]


def test_its_moves_are_written_and_restored():
    world = opened()
    saved = [command for command in world.commands if isinstance(command, SaveBreaker)]
    assert [(row.agent_type, row.state, row.failures) for row in saved] == [("coder", BreakerState.OPEN, 3)]
    after = World(policy=POLICY)
    after.now_ms = world.now_ms
    row = e.BreakerRow(
        agent_type="coder", state=saved[0].state, failures=3, opened_at_ms=saved[0].opened_at_ms
    )
    after.handle(e.ControlsRead(is_paused=False, overrides=Overrides(), breakers=(row,)))
    after.join("a")
    after.load([spec(1), spec(2)])
    assert after.running() == []
    after.wait(10_000)
    assert len(after.running()) == 1


def test_zero_failures_means_never():
    world = World(policy=Policy(breaker_failures=0, backoff_ms=(100_000,)))
    world.join("a", slots=1)
    world.load([spec(i) for i in range(1, 9)])
    for _ in range(8):
        world.fail(world.running()[0])
    assert world.state.breakers == {}
