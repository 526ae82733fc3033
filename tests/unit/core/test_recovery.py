"""What the core makes of rows that an earlier scheduler left."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.core import events as e
from orchestrator.core.commands import (
    EndAttempt,
    StartAttempt,
)
from orchestrator.core.words import AttemptKind, AttemptState, HoldReason, PlanState, TaskState
from tests.support.core import PLAN, World, saves, spec


def test_recovery_adopts_what_runs_and_sends_leases_again():
    world = World()
    live = [
        e.LiveAttempt(
            token=token,
            task_id=token,
            kind=AttemptKind.WORK,
            number=1,
            agent_type="coder",
            backend="command",
            executor="a",
            state=state,
            cancel_reason="",
        )
        for token, state in ((1, AttemptState.STARTED), (2, AttemptState.LEASED))
    ]
    running = [spec(i, state=TaskState.RUNNING, work_number=1, version=4) for i in (1, 2)]
    plan = replace(PLAN, state=PlanState.ACTIVE)
    world.load([*running, spec(3)], [(3, 1), (3, 2)], plan=plan, attempts=tuple(live))
    assert [c.token for c in world.commands if isinstance(c, StartAttempt)] == [2]
    world.join("a")
    world.end(1)
    assert saves(world.commands)[1].version == 5
    world.end(2)
    assert world.running() == [3]


def fenced(task_id: int, *, cancel_reason: str = "") -> e.LiveAttempt:
    """An attempt that was fenced just before the scheduler died."""
    return e.LiveAttempt(
        token=7,
        task_id=task_id,
        kind=AttemptKind.WORK,
        number=1,
        agent_type="coder",
        backend="command",
        executor="gone",
        state=AttemptState.LOST,
        cancel_reason=cancel_reason,
        end_reason="executor lost",
    )


def test_recovery_ends_what_was_fenced_and_retries_its_task():
    world = World()
    world.join("a")
    running = spec(1, state=TaskState.RUNNING, work_number=1)
    world.load([running], plan=replace(PLAN, state=PlanState.ACTIVE), attempts=(fenced(1),))
    ends = [c for c in world.commands if isinstance(c, EndAttempt)]
    assert [(c.token, c.state, c.end_reason) for c in ends] == [(7, AttemptState.LOST, "executor lost")]
    assert world.task(1).losses == 1
    world.wait(60_000)
    assert world.state.attempts[world.task(1).token].number == 2


def test_recovery_does_not_forget_a_cancel_of_what_was_fenced():
    world = World()
    world.join("a")
    running = spec(1, state=TaskState.RUNNING, work_number=1)
    live = (fenced(1, cancel_reason="by request"),)
    world.load([running], plan=replace(PLAN, state=PlanState.ACTIVE), attempts=live)
    assert world.states() == {1: "cancelled"}


def test_what_a_person_let_through_is_not_held_again_after_recovery():
    world = World()
    world.join("a")
    ready = spec(1, state=TaskState.READY, hold_when_ready=HoldReason.APPROVAL, is_released=True)
    world.load([ready], plan=replace(PLAN, state=PlanState.ACTIVE))
    assert world.running() == [1]


def test_a_hold_survives_a_cancel_and_a_retry_of_its_reloaded_plan():
    """A plan that is over leaves memory; what nobody approved is not approved by loading it again."""
    world = World()
    world.join("a")
    cancelled = spec(1, state=TaskState.CANCELLED, hold_when_ready=HoldReason.APPROVAL)
    world.load([cancelled], plan=replace(PLAN, state=PlanState.DONE))
    world.request("retry_task", task_id=1)
    assert world.task(1).state is TaskState.HELD
    assert world.task(1).reason == HoldReason.APPROVAL
