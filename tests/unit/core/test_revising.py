"""A new text of a plan replaces its tasks and edges; what has happened to them stays."""

from dataclasses import replace

import pytest

from orchestrator.core import events as e
from orchestrator.core.budget import of_task
from orchestrator.core.commands import AskCancel, CancelAttempt, EndRevision, SaveTaskBudget
from orchestrator.core.task import TaskRules
from orchestrator.core.words import (
    AttemptState,
    FailureClass,
    HoldReason,
    PlanState,
    TaskState,
)
from orchestrator.money import MICROS
from tests.support.core import World, spec


@pytest.fixture
def world():
    return World()


def revise(world, tasks, edges=()):
    """Hand in a revision; return its commands."""
    return world.handle(
        e.PlanRevised(request_id=99, revision_id=7, plan_id=1, tasks=tuple(tasks), edges=tuple(edges))
    )


def written(*task_ids, **changes):
    return [spec(task_id, **changes.get(f"t{task_id}", {})) for task_id in task_ids]


def test_it_is_answered_and_written(world):
    world.load(written(1, 2))
    commands = revise(world, written(1, 2, 3))
    assert EndRevision(revision_id=7) in commands
    assert world.answers[99].error == ""


def test_a_plan_that_is_not_in_memory_is_asked_for_again(world):
    commands = revise(world, written(1))
    assert world.answers[99].is_absent
    assert EndRevision(revision_id=7) not in commands


def test_what_runs_goes_on_and_what_is_new_starts(world):
    world.load(written(1, 2), [(2, 1)])
    world.join("x1", slots=2)
    token = world.task(1).token
    revise(world, written(1, 2, 3), [(2, 1)])
    assert world.task(1).token == token
    assert world.states() == {1: "running", 2: "waiting", 3: "running"}
    world.end(1)
    world.end(3)
    assert world.states() == {1: "done", 2: "running", 3: "done"}


def test_twice_is_once(world):
    world.load(written(1, 2), [(2, 1)])
    world.join("x1", slots=1)
    revise(world, written(1, 2, 3), [(2, 1), (3, 1)])
    before = world.states()
    revise(world, written(1, 2, 3), [(2, 1), (3, 1)])
    assert world.states() == before


def test_a_removed_task_is_cancelled_with_its_attempt(world):
    world.load(written(1, 2, 3))
    world.join("x1", slots=1)
    commands = revise(world, written(1, 2, 3, t1={"is_removed": True}, t2={"is_removed": True}))
    token = world.task(1).token
    assert AskCancel(token=token, reason="removed from plan") in commands
    assert CancelAttempt(token=token, executor="x1", reason="removed from plan") in commands
    assert (world.task(2).state, world.task(2).reason) == (TaskState.CANCELLED, "removed from plan")
    world.end(1, AttemptState.CANCELLED)
    assert world.states() == {1: "cancelled", 2: "cancelled", 3: "running"}
    assert world.request("retry_task", task_id=2).error


def test_a_plan_that_is_done_goes_on_when_tasks_are_added(world):
    world.load(written(1, 2))
    world.join("x1", slots=2)
    world.end(1)
    world.end(2)
    assert world.state.plans[1].state is PlanState.DONE
    revise(world, written(1, 2, 3))
    assert world.state.plans[1].state is PlanState.ACTIVE
    assert world.running() == [3]


def test_a_plan_that_is_done_stays_so_when_nothing_is_added(world):
    world.load(written(1))
    world.join("x1")
    world.end(1)
    revise(world, written(1, t1={"priority": 0}))
    assert world.state.plans[1].state is PlanState.DONE


def test_a_new_dependency_holds_back_what_has_not_started(world):
    world.load(written(1, 2))
    revise(world, written(1, 2), [(2, 1)])
    assert world.states() == {1: "ready", 2: "waiting"}
    revise(world, written(1, 2))
    assert world.states() == {1: "ready", 2: "ready"}


def test_what_is_at_work_when_a_dependency_is_added_goes_on_and_its_next_try_waits(world):
    world.load(written(1, 2))
    world.join("x1", slots=1)
    revise(world, written(1, 2), [(1, 2)])
    assert (world.states(), world.task(1).is_overtaken) == ({1: "running", 2: "ready"}, True)
    world.fail(1)
    assert world.task(1).state is TaskState.WAITING
    world.end(2)
    world.wait(20_000)
    assert world.running() == [1]


def test_a_task_that_was_approved_is_not_asked_for_again(world):
    world.load(written(1, t1={"hold_when_ready": HoldReason.APPROVAL}))
    world.request("approve_task", task_id=1)
    revise(world, written(1, t1={"hold_when_ready": HoldReason.APPROVAL, "priority": 0}))
    assert world.task(1).state is TaskState.READY


def test_a_hold_that_its_author_takes_back_ends(world):
    world.load(written(1, t1={"hold_when_ready": HoldReason.APPROVAL}))
    revise(world, written(1))
    assert world.task(1).state is TaskState.READY


def test_a_hold_that_its_author_adds_holds_what_waits(world):
    world.load(written(1, 2), [(2, 1)])
    world.join("x1")
    revise(world, written(1, 2, t2={"hold_when_ready": HoldReason.MANUAL}), [(2, 1)])
    world.end(1)
    assert (world.task(2).state, world.task(2).reason) == (TaskState.HELD, "manual")


def test_the_new_order_counts(world):
    world.load(written(1, 2, 3))
    revise(world, written(1, 2, 3, t3={"priority": 0}, t2={"priority": 1}))
    world.join("x1", slots=2)
    assert world.running() == [3, 2]


def test_a_container_that_was_done_opens_when_a_task_is_added_to_it(world):
    box = {"is_container": True, "agent_type": "", "backend": ""}
    world.load(written(1, 2, 3, t1=box, t2={"parent_id": 1}), [(3, 1)])
    world.join("x1", slots=1)
    world.end(2)
    assert world.states() == {1: "done", 2: "done", 3: "running"}
    world.end(3)
    revise(world, written(1, 2, 4, 3, t1=box, t2={"parent_id": 1}, t4={"parent_id": 1}), [(3, 1)])
    assert world.states() == {1: "waiting", 2: "done", 3: "done", 4: "running"}
    world.end(4)
    assert world.task(1).state is TaskState.DONE


def test_back_offs_and_counts_of_attempts_stay(world):
    world.load(written(1))
    world.join("x1")
    world.fail(1)
    before = replace(world.task(1))
    revise(world, written(1, 2))
    assert world.task(1).not_before_ms == before.not_before_ms
    assert world.task(1).attempts_used == 1
    assert world.running() == [2]
    world.wait(2_000)
    assert world.running() == [2, 1]


STEPS = {"has_gate": True, "rules": TaskRules(review_agent="reviewer", review_backend="simulated")}


@pytest.mark.parametrize("steps_done", [0, 1])
def test_a_step_that_its_author_takes_back_is_not_waited_for(world, steps_done):
    world.load(written(1, 2, t1=STEPS), [(2, 1)])
    world.join("x1")
    if steps_done:
        world.join("g", pool="gate")
    for _ in range(1 + steps_done):
        world.end(1)
    assert world.task(1).state is TaskState.VERIFYING
    assert not world.task(1).token
    revise(world, written(1, 2), [(2, 1)])
    assert world.states() == {1: "done", 2: "running"}


@pytest.mark.parametrize("state", [AttemptState.CANCELLED, AttemptState.FAILED])
def test_a_step_that_its_author_takes_back_while_it_runs_is_not_tried_again(world, state):
    world.join("r", pool="reviewer")
    world.load(written(1, t1={"rules": STEPS["rules"]}))
    world.join("x1")
    world.end(1)
    revise(world, written(1))
    world.end(1, state, None if state is AttemptState.CANCELLED else FailureClass.INFRASTRUCTURE)
    assert world.task(1).state is TaskState.DONE


def test_a_held_step_that_its_author_takes_back_is_not_waited_for_once_it_is_released(world):
    world.join("r", pool="reviewer")
    world.load(written(1, t1={"rules": STEPS["rules"]}))
    world.join("x1")
    world.end(1)
    world.fail(1, FailureClass.BUDGET)
    assert world.task(1).state is TaskState.HELD
    revise(world, written(1))
    world.request("release_task", task_id=1)
    assert world.task(1).state is TaskState.DONE


@pytest.mark.parametrize(("budget", "state"), [(1, "held"), (2, "held"), (3, "running"), (0, "running")])
def test_a_task_that_its_own_budget_held_goes_on_with_a_larger_one(world, budget, state):
    paid = {"backend": "anthropic"}
    world.load(written(1, t1={**paid, "rules": TaskRules(budget_micros=2 * MICROS)}))
    world.join("x1")
    world.end(1, AttemptState.FAILED, FailureClass.BUDGET, cost_micros=2 * MICROS)
    assert world.task(1).reason == HoldReason.TASK_BUDGET
    revise(world, written(1, t1={**paid, "rules": TaskRules(budget_micros=budget * MICROS)}))
    assert world.task(1).state.value == state
    assert world.state.plans[1].state.value == ("active" if state == "running" else "stalled")


def test_the_last_word_on_the_budget_of_a_task_holds_be_it_of_a_person_or_of_its_author(world):
    rules = {"rules": TaskRules(budget_micros=2 * MICROS)}
    world.load(written(1, t1=rules))
    world.request("set_task_budget", task_id=1, budget_micros=7 * MICROS)
    revise(world, written(1, 2, t1=rules))  # its author has said nothing new of it
    assert of_task(world.state, world.task(1)) == 7 * MICROS
    commands = revise(world, written(1, 2, t1={"rules": TaskRules(budget_micros=3 * MICROS)}))
    assert of_task(world.state, world.task(1)) == 3 * MICROS
    assert SaveTaskBudget(task_id=1, budget_micros=0) in commands


def test_nothing_of_a_plan_that_was_cancelled_meanwhile_becomes_ready(world):
    world.load(written(1))
    world.join("x1")
    world.request("cancel_plan")
    revise(world, written(1, 2))
    assert (world.task(2).state, world.task(2).reason) == (TaskState.CANCELLED, "plan cancelled")
    world.end(1, AttemptState.CANCELLED)
    assert world.states() == {1: "cancelled", 2: "cancelled"}


# --- ticks by hand


def test_a_tick_ends_what_works_on_the_task_and_makes_it_done(world):
    world.load(written(1, 2), [(2, 1)])
    world.join("x1")
    assert world.request("tick_task", task_id=1).result == {"finished": 0, "cancelling": 1}
    assert world.request("tick_task", task_id=1).result == {"finished": 0, "cancelling": 1}
    assert world.states() == {1: "running", 2: "waiting"}
    world.end(1, AttemptState.CANCELLED)
    assert world.states() == {1: "done", 2: "running"}
    assert world.task(1).reason == "by file"


@pytest.mark.parametrize("state", [AttemptState.SUCCEEDED, AttemptState.FAILED])
def test_a_tick_counts_however_the_attempt_ends(world, state):
    world.load(written(1, t1={"has_gate": True}))
    world.join("x1")
    world.request("tick_task", task_id=1)
    world.end(1, state)
    assert world.task(1).state is TaskState.DONE


def test_a_tick_of_what_is_lost_meanwhile_counts_too(world):
    world.load(written(1))
    world.join("x1")
    world.request("tick_task", task_id=1)
    world.handle(e.AttemptLost(token=world.task(1).token, reason="executor lost"))
    assert (world.task(1).state, world.task(1).reason) == (TaskState.DONE, "by file")


def test_a_tick_counts_more_than_an_earlier_cancel(world):
    world.load(written(1))
    world.join("x1")
    world.request("cancel_task", task_id=1)
    world.request("tick_task", task_id=1)
    world.end(1, AttemptState.CANCELLED)
    assert world.task(1).state is TaskState.DONE


def test_an_untick_opens_the_task_and_flags_what_relied_on_it(world):
    world.load(written(1, 2, 3, 4), [(2, 1), (3, 1), (4, 1)])
    world.join("x1", slots=2)
    world.end(1)
    world.end(2)
    assert world.states() == {1: "done", 2: "done", 3: "running", 4: "running"}
    world.end(4, AttemptState.FAILED)
    answer = world.request("untick_task", task_id=1)
    assert answer.result == {"reopened": 1, "flagged": [2, 3]}
    assert world.states() == {1: "running", 2: "done", 3: "running", 4: "waiting"}
    assert world.task(3).is_overtaken
    world.end(3)
    assert world.task(3).state is TaskState.DONE


def test_an_untick_of_what_is_open_is_refused(world):
    world.load(written(1))
    assert "nothing to do again" in world.request("untick_task", task_id=1).error


def test_a_tick_of_a_cancelled_task_says_that_somebody_has_done_it(world):
    world.load(written(1, 2), [(2, 1)])
    world.request("cancel_task", task_id=1)
    world.request("tick_task", task_id=1)
    assert world.states() == {1: "done", 2: "ready"}


@pytest.mark.parametrize("reason", [HoldReason.APPROVAL, HoldReason.MANUAL])
def test_a_ready_task_that_is_left_to_a_person_now_is_held(world, reason):
    world.load(written(1, 2))
    world.join("x1", slots=1)
    assert world.states() == {1: "running", 2: "ready"}
    revise(world, written(1, 2, t1={"hold_when_ready": reason}, t2={"hold_when_ready": reason}))
    assert (world.task(1).state, world.task(2).state, world.task(2).reason) == ("running", "held", reason)
    world.end(1)
    assert world.states() == {1: "done", 2: "held"}
