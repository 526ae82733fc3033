"""Cancelling all of a container, or a plan: what waits ends at once, what runs once it has ended."""

from __future__ import annotations

import pytest

from orchestrator.core.commands import AskCancel, CancelAttempt
from orchestrator.core.words import BUDGET_LOWERED, BY_FILE, AttemptState, HoldReason, PlanState
from tests.support.core import World, spec


def family() -> World:
    """Return a container with tasks in many states, and two tasks beside it."""
    world = World()
    world.join("a", slots=3)
    inside = [
        spec(2, parent_id=1),
        spec(3, parent_id=1),
        spec(4, parent_id=1),
        spec(5, parent_id=1, hold_when_ready=HoldReason.MANUAL),
        spec(6, parent_id=1, attempts_max=1),
        spec(7, parent_id=1),
    ]
    beside = [spec(8), spec(9, agent_type="tester")]
    world.load([spec(1, is_container=True, backend=""), *inside, *beside], [(4, 3), (9, 1)])
    world.end(2)
    world.fail(6)
    return world


def test_a_container_is_cancelled_with_all_that_is_open_in_it_and_nothing_else() -> None:
    world = family()
    before = world.states()
    states = ["waiting", "done", "running", "waiting", "held", "failed", "running", "running", "waiting"]
    assert before == dict(enumerate(states, start=1))
    assert world.request("cancel_task", task_id=1).result == {"cancelled": 3, "cancelling": 2}
    asked = [c.token for c in world.commands if isinstance(c, AskCancel)]
    assert asked == [world.task(3).token, world.task(7).token]
    assert [c.token for c in world.commands if isinstance(c, CancelAttempt)] == asked
    gone = dict.fromkeys((4, 5, 6), "cancelled")
    assert world.states() == {**before, **gone}
    world.end(3, AttemptState.CANCELLED)
    world.end(7, AttemptState.FAILED)
    assert world.states() == {**before, **gone, 3: "cancelled", 7: "cancelled", 1: "done", 9: "ready"}


def test_a_plan_is_cancelled_with_all_that_is_open_in_it() -> None:
    world = family()
    assert world.request("cancel_plan").result == {"state": "cancelled", "cancelling": 3}
    for task_id in (3, 7, 8):
        world.end(task_id, AttemptState.CANCELLED)
    assert world.states() == {**dict.fromkeys(range(1, 10), "cancelled"), 1: "done", 2: "done"}
    assert world.state.plans[1].state is PlanState.CANCELLED
    assert world.request("cancel_plan").result == {"state": "cancelled", "cancelling": 0}


@pytest.mark.parametrize("kind", ["pause_plan", "pause_all"])
def test_what_is_paused_can_be_cancelled(kind: str) -> None:
    world = family()
    world.request(kind)
    assert world.request("cancel_task", task_id=1).result == {"cancelled": 3, "cancelling": 2}


def test_a_cancelled_container_is_tried_again_with_what_was_cancelled_in_it() -> None:
    world = family()
    world.request("cancel_task", task_id=1)
    for task_id in (3, 7, 8):
        world.end(task_id, AttemptState.CANCELLED if task_id != 8 else AttemptState.SUCCEEDED)
    assert world.request("retry_task", task_id=1).result == {"retried": 5}
    assert [world.states()[n] for n in range(1, 8)] == [
        *("waiting", "done", "running", "waiting", "held", "running", "running")
    ]


@pytest.mark.parametrize("reason", [BY_FILE, BUDGET_LOWERED])
@pytest.mark.parametrize("state", [AttemptState.CANCELLED, AttemptState.INTERRUPTED])
def test_whatever_a_person_says_of_it_what_is_cancelled_is_cancelled(
    reason: str, state: AttemptState
) -> None:
    world = World()
    world.join("a")
    world.load([spec(1), spec(2)])
    world.request("cancel_task", task_id=1, reason=reason)
    world.end(1, state)
    assert (world.states()[1], world.task(1).reason) == ("cancelled", f"by request: {reason}")
