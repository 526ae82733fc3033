"""Every reason to hold a task: how a task comes to be held for it, and what lets it go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from orchestrator.core import events as e
from orchestrator.core.leases import EXECUTOR_LOST, UNPROVEN
from orchestrator.core.moving import is_held_for
from orchestrator.core.state import Policy
from orchestrator.core.task import TaskRules
from orchestrator.core.words import AttemptState, FailureClass, HoldReason, PlanState, RetryLost, TaskState
from tests.support.core import PLAN, World, spec


def world_of(*, has_credentials: bool = True, **changes: Any) -> World:
    """Return a world with one task."""
    world = World(policy=Policy(backoff_ms=(0,)), has_credentials=has_credentials)
    world.join("a")
    world.load([spec(1, **changes)])
    return world


def lost(reason: str, retry_lost: RetryLost = RetryLost.PROVEN) -> World:
    world = world_of(rules=TaskRules(retry_lost=retry_lost))
    token = world.task(1).token
    world.handle(e.AttemptStarted(token=token))
    world.handle(e.AttemptLost(token=token, reason=reason))
    return world


def lost_three_times() -> World:
    world = world_of()
    for _ in range(3):
        world.handle(e.AttemptLost(token=world.task(1).token, reason=EXECUTOR_LOST))
        world.wait(1)
    return world


def beyond_its_cap() -> World:
    world = world_of()
    world.fail(1, FailureClass.BUDGET)
    return world


def beyond_the_budget(of: str) -> World:
    world = World(policy=Policy(backoff_ms=(0,)))
    world.join("a")
    rules = TaskRules(budget_micros=9 if of == "task" else 0)
    plan = replace(PLAN, budget_micros=9 if of == "plan" else 0)
    world.load([spec(1, backend="anthropic", rules=rules)], plan=plan)
    return world


def without_progress() -> World:
    world = World(policy=Policy(backoff_ms=(0,), fuse_micros=10))
    world.join("a")
    world.load([spec(1, backend="anthropic")])
    world.end(1, AttemptState.FAILED, FailureClass.AGENT, cost_micros=10)
    world.wait(1)
    return world


def without_its_program() -> World:
    world = World()
    world.handle(replace(world.limits, not_installed=frozenset({"claude-code"})))
    world.join("a")
    world.load([spec(1, rules=TaskRules(review_agent="reviewer", review_backend="claude-code"))])
    assert "not installed" in world.request("release_task", task_id=1).error
    return world


def asked(reason: str = "") -> World:
    world = world_of()
    world.request("pause_plan")
    world.fail(1, FailureClass.RATE_LIMITED)
    world.request("hold_task", task_id=1, reason=reason)
    world.request("resume_plan")
    return world


def ask(kind: str) -> Callable[[World], object]:
    return lambda world: world.request(kind, task_id=1)


release = ask("release_task")


@dataclass(frozen=True, kw_only=True)
class Hold:
    """How a task is held, what lets it go on, and to where."""

    begin: Callable[[], World]
    end: Callable[[World], object] = release
    then: TaskState = TaskState.RUNNING


HOLDS = {
    HoldReason.BUDGET: Hold(
        begin=lambda: beyond_the_budget("plan"),
        end=lambda world: world.request("set_budget", budget_micros=10**9),
    ),
    HoldReason.TASK_BUDGET: Hold(
        begin=lambda: beyond_the_budget("task"),
        end=lambda world: world.request("set_task_budget", task_id=1, budget_micros=10**9),
    ),
    HoldReason.ATTEMPT_BUDGET: Hold(begin=beyond_its_cap),
    HoldReason.NO_PROGRESS: Hold(begin=without_progress),
    HoldReason.APPROVAL: Hold(
        begin=lambda: world_of(hold_when_ready=HoldReason.APPROVAL), end=ask("approve_task")
    ),
    HoldReason.MANUAL: Hold(
        begin=lambda: world_of(hold_when_ready=HoldReason.MANUAL),
        end=ask("finish_task"),
        then=TaskState.DONE,
    ),
    HoldReason.BY_REQUEST: Hold(begin=asked),
    HoldReason.NO_CREDENTIALS: Hold(
        begin=lambda: world_of(has_credentials=False, backend="anthropic"),
        end=lambda world: world.handle(replace(world.limits, keyless=frozenset())),
    ),
    HoldReason.NOT_INSTALLED: Hold(begin=without_its_program, end=lambda world: world.handle(world.limits)),
    HoldReason.CANNOT_PROVE_DEAD: Hold(begin=lambda: lost(EXECUTOR_LOST + UNPROVEN)),
    HoldReason.LOST: Hold(begin=lambda: lost(EXECUTOR_LOST, RetryLost.NEVER)),
    HoldReason.POISON: Hold(begin=lost_three_times),
    HoldReason.ELSEWHERE: Hold(begin=lambda: asked(HoldReason.ELSEWHERE.value)),
    HoldReason.BLOCKED_IN_PLAN: Hold(begin=lambda: asked(HoldReason.BLOCKED_IN_PLAN.value)),
}


@pytest.mark.parametrize("reason", list(HoldReason))
def test_each_reason_holds_its_task_until_what_it_waits_for_comes(reason: HoldReason) -> None:
    hold = HOLDS[reason]
    world = hold.begin()
    assert is_held_for(world.task(1), reason)
    assert world.state.plans[1].state is PlanState.STALLED
    world.wait(10**9)
    assert world.states() == {1: "held"}
    hold.end(world)
    assert world.task(1).state is hold.then
