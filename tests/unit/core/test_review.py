"""Reviews: another agent type judges the work after its gate, and only what it accepts is done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core import events as e
from orchestrator.core.state import Policy
from orchestrator.core.task import TaskRules
from orchestrator.core.words import AttemptKind, AttemptState, FailureClass, PlanState, TaskState
from tests.support.core import PLAN, World, spec

RULES = TaskRules(review_agent="reviewer", review_backend="simulated")


def world_of(*, has_gate: bool = False) -> World:
    world = World(policy=Policy(backoff_ms=(0,)))
    for name, pool in (("a", "coder"), ("r", "reviewer"), ("g", "gate")):
        world.join(name, pool)
    world.load([spec(1, rules=RULES, has_gate=has_gate), spec(2)], [(2, 1)])
    return world


def live(world: World) -> tuple[AttemptKind, str, str]:
    attempt = world.state.attempts[world.task(1).token]
    return attempt.kind, attempt.agent_type, attempt.backend


def test_work_then_gate_then_review_then_done():
    world = world_of(has_gate=True)
    world.end(1)
    assert live(world) == (AttemptKind.GATE, "gate", "command")
    world.end(1)
    assert live(world) == (AttemptKind.REVIEW, "reviewer", "simulated")
    assert (world.task(1).state, world.task(2).state) == (TaskState.VERIFYING, TaskState.WAITING)
    world.end(1)
    assert (world.task(1).state, world.task(2).state) == (TaskState.DONE, TaskState.RUNNING)


def test_what_a_review_refuses_is_worked_on_again_and_reviewed_again():
    world = world_of()
    world.end(1)
    world.fail(1, FailureClass.GATE)
    assert world.task(1).attempts_used == 1
    world.wait(1)
    assert live(world)[0] is AttemptKind.WORK
    world.end(1)
    assert live(world)[0] is AttemptKind.REVIEW
    assert world.state.attempts[world.task(1).token].number == 2


def test_a_lost_review_is_reviewed_again_and_the_work_is_not_repeated():
    world = world_of(has_gate=True)
    world.end(1)
    world.end(1)
    world.handle(e.AttemptLost(token=world.task(1).token, reason="executor lost"))
    assert (world.task(1).state, world.task(1).losses) == (TaskState.VERIFYING, 1)
    world.wait(1)
    assert live(world)[0] is AttemptKind.REVIEW


def test_a_rate_limited_review_is_repeated_and_not_the_work():
    world = world_of()
    world.end(1)
    world.fail(1, FailureClass.RATE_LIMITED)
    world.wait(1_100)
    assert live(world)[0] is AttemptKind.REVIEW


@pytest.mark.parametrize("failure", [FailureClass.AGENT, FailureClass.TIMEOUT])
def test_a_reviewer_without_a_verdict_reviews_again_and_the_work_is_not_charged(failure: FailureClass):
    world = world_of()
    world.end(1)
    for _ in range(2):
        world.fail(1, failure)
        world.wait(1)
        assert live(world)[:2] == (AttemptKind.REVIEW, "reviewer")
    assert (world.task(1).attempts_used, world.task(1).work_number) == (0, 1)
    assert world.state.breakers["reviewer"].failed == {1}
    world.fail(1, failure)
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, "poison")
    world.request("release_task", task_id=1)
    assert live(world)[0] is AttemptKind.REVIEW


def test_a_cancel_wins_over_work_that_nobody_has_reviewed():
    world = world_of()
    world.request("cancel_task", task_id=1)
    world.end(1)
    assert world.task(1).state is TaskState.CANCELLED


def test_recovery_goes_on_with_the_review():
    world = World()
    world.join("r", "reviewer")
    task = spec(1, rules=RULES, has_gate=True, state=TaskState.VERIFYING, work_number=1)
    task.wants = AttemptKind.REVIEW
    plan = e.PlanSpec(
        plan_id=1,
        tenant_id=PLAN.tenant_id,
        state=PlanState.ACTIVE,
        budget_micros=0,
        spent_micros=0,
        until_task=0,
    )
    world.load([task], plan=plan)
    assert live(world)[0] is AttemptKind.REVIEW


def test_a_task_whose_review_needs_a_model_is_held_before_its_work():
    world = World(has_credentials=False)
    world.join("a")
    world.load([spec(1, rules=TaskRules(review_agent="reviewer", review_backend="openai"))])
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, "no credentials: openai")


def test_a_review_that_a_budget_held_goes_on_as_a_review_and_the_work_is_not_paid_twice():
    world = World()
    for name, pool in (("a", "coder"), ("r", "reviewer")):
        world.join(name, pool)
    rules = TaskRules(review_agent="reviewer", review_backend="anthropic")
    plan = replace(PLAN, budget_micros=6_000_000)
    world.load([spec(1, backend="anthropic", rules=rules)], plan=plan)
    world.end(1, cost_micros=5_960_000)
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, "budget")
    world.request("set_budget", budget_micros=20_000_000)
    assert live(world)[0] is AttemptKind.REVIEW


def test_a_gate_that_was_lost_too_often_goes_on_as_a_gate_when_it_is_released():
    world = World(policy=Policy(backoff_ms=(0,)))
    world.join("a")
    world.join("g", "gate")
    world.load([spec(1, has_gate=True)])
    world.end(1)
    for _ in range(3):
        world.handle(e.AttemptLost(token=world.task(1).token, reason="executor lost"))
        world.wait(1)
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, "poison")
    world.request("release_task", task_id=1)
    assert live(world)[0] is AttemptKind.GATE


def test_an_interrupted_review_starts_again_uncharged():
    world = world_of()
    world.end(1)
    world.end(1, AttemptState.INTERRUPTED)
    assert live(world)[0] is AttemptKind.REVIEW
    assert world.task(1).attempts_used == 0
