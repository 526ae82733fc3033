"""Attempts that do not report: what is looked into, how often, and what is decided without a proof."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import EndAttempt, FenceAttempt, StartAttempt
from orchestrator.core.leases import EXECUTOR_LOST, LEASE_EXPIRED, START_TIMEOUT, TIMED_OUT
from orchestrator.core.state import Policy
from orchestrator.core.task import TaskRules
from orchestrator.core.words import AttemptState, FailureClass, PlanState, RetryLost, TaskState
from tests.support.core import World, proofs, spec

POLICY = Policy(
    lease_ms=1_000,
    lease_grace_ms=100,
    prove_retry_ms=50,
    prove_patience_ms=500,
    timeout_ms=10_000,
    grace_ms=1_000,
    timeout_margin_ms=1_000,
    backoff_ms=(10_000,),
    jitter=0.0,
)


def running(**changes: object) -> tuple[World, int]:
    """Return a world with one started attempt, and its token."""
    world = World(policy=POLICY)
    world.join("a")
    world.load([spec(1, **changes)])
    token = world.task(1).token
    world.handle(e.AttemptStarted(token=token))
    return world, token


def lose(world: World) -> None:
    world.handle(e.ExecutorLost(executor="a"))


def unproven(world: World, token: int, *, is_node_dead: bool = False) -> list[FenceAttempt]:
    """Answer that nothing could be proven; return the orders to fence."""
    commands = world.handle(e.AttemptUnproven(token=token, is_node_dead=is_node_dead))
    return [command for command in commands if isinstance(command, FenceAttempt)]


def test_an_unproven_end_is_looked_into_again_after_a_pause():
    world, token = running()
    lose(world)
    assert unproven(world, token) == []
    assert proofs(world.wait(49)) == []
    assert [proof.tokens for proof in proofs(world.wait(1))] == [(token,)]
    assert proofs(world.wait(1_000)) == []  # an answer is awaited


def test_a_start_that_is_told_late_does_not_stop_the_search_for_a_lost_end():
    world = World(policy=POLICY)
    world.join("a")
    world.load([spec(1)])
    token = world.task(1).token
    lose(world)
    world.handle(e.AttemptStarted(token=token))
    assert unproven(world, token) == []
    assert [proof.tokens for proof in proofs(world.wait(50))] == [(token,)]


def test_a_dead_node_is_believed_once_the_lease_is_over():
    world, token = running()
    lose(world)
    world.now_ms += 1_099
    assert unproven(world, token, is_node_dead=True) == []
    world.now_ms += 1
    assert unproven(world, token, is_node_dead=True) == [FenceAttempt(token=token, reason=EXECUTOR_LOST)]
    world.handle(e.AttemptLost(token=token, reason=EXECUTOR_LOST))
    assert (world.task(1).state, world.task(1).losses) == (TaskState.READY, 1)


def test_a_node_that_does_not_answer_is_waited_for_and_then_a_person_decides():
    world, token = running()
    lose(world)
    world.now_ms += 1_599
    assert unproven(world, token) == []
    world.now_ms += 1
    (fence,) = unproven(world, token)
    assert fence == FenceAttempt(token=token, reason="executor lost, unproven")
    world.handle(e.AttemptLost(token=token, reason=fence.reason))
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, "cannot-prove-dead")
    assert world.state.plans[1].state is PlanState.STALLED
    world.join("b")
    world.request("release_task", task_id=1)
    assert world.state.attempts[world.task(1).token].number == 2


def test_the_patience_begins_when_a_later_look_does():
    world, token = running()
    world.now_ms += 5_000
    world.handle(e.BeatsRead(beats={token: 0}))
    assert [proof.reason for proof in proofs(world.commands)] == [LEASE_EXPIRED]
    world.now_ms += 499
    assert unproven(world, token) == []
    world.now_ms += 1
    assert len(unproven(world, token)) == 1


@pytest.mark.parametrize(
    ("retry_lost", "reason", "state", "why"),
    [
        (RetryLost.PROVEN, "executor lost", "ready", ""),
        (RetryLost.PROVEN, "executor lost, unproven", "held", "cannot-prove-dead"),
        (RetryLost.ALWAYS, "executor lost, unproven", "ready", ""),
        (RetryLost.NEVER, "executor lost", "held", "lost while it ran"),
        (RetryLost.NEVER, "executor lost, unproven", "held", "cannot-prove-dead"),
    ],
)
def test_the_plan_says_when_a_loss_may_be_tried_again(retry_lost, reason, state, why):
    world, token = running(rules=TaskRules(retry_lost=retry_lost))
    lose(world)
    world.handle(e.AttemptLost(token=token, reason=reason))
    assert (world.task(1).state, world.task(1).reason) == (state, why)


def test_what_never_started_may_be_tried_again_whatever_the_plan_says():
    world = World(policy=POLICY)
    world.join("a")
    world.load([spec(1, rules=TaskRules(retry_lost=RetryLost.NEVER))])
    world.handle(e.AttemptLost(token=world.task(1).token, reason="start timeout"))
    assert world.task(1).state is TaskState.READY


@pytest.mark.parametrize(("backend", "waits_ms"), [("command", 0), ("anthropic", 900_000)])
def test_the_wait_for_a_model_counts_against_no_timeout(backend: str, waits_ms: int) -> None:
    world = World(policy=replace(POLICY, wait_max_ms=900_000))
    world.join("a")
    world.load([spec(1, backend=backend)])
    world.handle(e.AttemptStarted(token=world.task(1).token))
    assert proofs(world.wait(waits_ms + 11_999)) == []
    assert [proof.reason for proof in proofs(world.wait(1))] == [TIMED_OUT]


def test_an_attempt_that_its_executor_does_not_end_in_time_is_ended_by_its_node_and_charged():
    world, token = running()
    assert proofs(world.wait(11_999)) == []
    assert [proof.reason for proof in proofs(world.wait(1))] == [TIMED_OUT]
    commands = world.handle(e.AttemptLost(token=token, reason=TIMED_OUT))
    (end,) = [command for command in commands if isinstance(command, EndAttempt)]
    assert (end.state, end.failure_class) == (AttemptState.TIMED_OUT, FailureClass.TIMEOUT)
    assert (world.task(1).attempts_used, world.task(1).losses) == (1, 0)


def test_a_task_has_timeouts_of_its_own():
    world, _ = running(rules=TaskRules(timeout_ms=20_000))
    assert proofs(world.wait(21_999)) == []
    assert len(proofs(world.wait(1))) == 1
    slow = World()
    slow.join("a")
    slow.load([spec(1, rules=TaskRules(start_timeout_ms=90_000))])
    assert proofs(slow.wait(89_999)) == []
    assert len(proofs(slow.wait(1))) == 1


def test_the_time_of_a_recovered_attempt_is_counted_afresh():
    world = World(policy=POLICY)
    live = e.LiveAttempt(
        token=5,
        task_id=1,
        kind=spec(1).wants,
        number=1,
        agent_type="coder",
        backend="command",
        executor="a",
        state=AttemptState.STARTED,
        cancel_reason="",
        started_at_ms=world.now_ms - 11_000,
    )
    plan = e.PlanSpec(
        plan_id=1, tenant_id="local", state=PlanState.ACTIVE, budget_micros=0, spent_micros=0, until_task=0
    )
    world.load([spec(1, state=TaskState.RUNNING, work_number=1)], plan=plan, attempts=(live,))
    assert proofs(world.wait(11_999)) == []
    assert len(proofs(world.wait(1))) == 1


def test_time_in_which_the_database_hung_does_not_count_for_a_start():
    world = World()
    world.join("a")
    world.load([spec(1)])
    world.wait(5_000)
    world.now_ms += 60_000
    world.handle(e.DatabaseHung(for_ms=60_000))
    assert world.wait(2_999) == []
    assert [type(command) for command in world.wait(1)] == [StartAttempt]
    assert world.wait(11_999) == []
    assert [proof.reason for proof in proofs(world.wait(1))] == [START_TIMEOUT]


def test_time_in_which_the_database_hung_does_not_count_for_a_lease():
    world, token = running()
    world.now_ms += 6_000
    world.handle(e.DatabaseHung(for_ms=5_000))
    world.now_ms += 99
    assert proofs(world.handle(e.BeatsRead(beats={token: 0}))) == []
    world.now_ms += 1
    assert len(proofs(world.handle(e.BeatsRead(beats={token: 0})))) == 1


def test_time_in_which_the_database_hung_does_not_count_for_a_session():
    world, _ = running()
    world.now_ms += 60_000
    world.handle(e.DatabaseHung(for_ms=60_000))
    assert proofs(world.wait(11_999)) == []
    assert len(proofs(world.wait(1))) == 1


def test_a_database_that_is_always_slow_holds_up_no_timeout_for_ever():
    """Of each second half was too slow; the other half counts."""
    world = World()
    world.join("a")
    world.load([spec(1)])
    for second in range(1, 41):
        world.now_ms += 1_000
        world.handle(e.DatabaseHung(for_ms=500))
        reasons = [proof.reason for proof in proofs(world.wait(0))]
        assert reasons == ([START_TIMEOUT] if second == 40 else [])


def test_a_result_that_could_not_be_stored_while_the_database_was_away_is_waited_for():
    world, _ = running()
    world.now_ms += 60_000
    world.handle(e.DatabaseReturned())
    assert proofs(world.wait(999)) == []
    assert [proof.reason for proof in proofs(world.wait(1))] == [TIMED_OUT]


def test_a_cancel_is_not_undone_by_a_loss():
    world, token = running()
    world.request("cancel_task", task_id=1)
    lose(world)
    world.handle(e.AttemptLost(token=token, reason="executor lost, unproven"))
    assert world.task(1).state is TaskState.CANCELLED


def test_an_answer_that_comes_after_the_end_is_traffic():
    world, token = running()
    world.end(1)
    assert unproven(world, token) == []
    assert replace(world.task(1)).state is TaskState.DONE


def test_losses_of_the_work_do_not_count_for_its_gate():
    world, _ = running(has_gate=True)
    world.join("g", "gate")
    for loss in range(2):
        lose(world)
        world.handle(e.AttemptLost(token=world.task(1).token, reason=EXECUTOR_LOST))
        assert world.task(1).losses == loss + 1
        world.join("a")
        world.wait(10_000)
    world.end(1)
    world.handle(e.AttemptLost(token=world.task(1).token, reason=EXECUTOR_LOST))
    assert (world.task(1).state, world.task(1).losses) == (TaskState.VERIFYING, 1)
