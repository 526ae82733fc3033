"""What people ask for: skip, finish, reopen, hold, approve, reject, budgets, and pause of everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import ReleaseTask, SaveAnswer, SaveControls, SavePlan
from orchestrator.core.limits import Overrides
from orchestrator.core.task import Task
from orchestrator.core.words import AttemptState, FailureClass, HoldReason, PlanState, TaskState
from tests.support.core import PLAN, World, spec


def world_of(*tasks: Task, edges: Sequence[tuple[int, int]] = (), **plan: Any) -> World:
    world = World()
    world.join("a")
    world.load(tasks, edges, plan=replace(PLAN, **plan))
    return world


def test_what_depends_on_a_skipped_task_goes_on_without_it():
    world = world_of(spec(1, attempts_max=1), spec(2), edges=[(2, 1)])
    world.fail(1)
    assert world.state.plans[1].state is PlanState.STALLED
    world.request("skip_task", task_id=1)
    assert world.states() == {1: "skipped", 2: "running"}
    world.end(2)
    assert world.state.plans[1].state is PlanState.DONE


def test_a_box_of_skipped_tasks_is_skipped_and_not_called_done():
    world = world_of(
        spec(1, is_container=True), spec(2, parent_id=1, attempts_max=1), spec(3), edges=[(3, 1)]
    )
    world.fail(2)
    world.request("skip_task", task_id=1)
    assert world.states() == {1: "skipped", 2: "skipped", 3: "running"}


def test_nothing_is_skipped_or_finished_under_a_session():
    world = world_of(spec(1))
    for kind in ("skip_task", "finish_task"):
        assert "A session works on task 1" in world.request(kind, task_id=1).error
    assert world.states() == {1: "running"}


def test_a_task_is_done_by_hand_whatever_it_waits_for():
    world = world_of(
        spec(1, hold_when_ready=HoldReason.MANUAL), spec(2, attempts_max=1), spec(3), edges=[(3, 1), (3, 2)]
    )
    world.fail(2)
    world.request("finish_task", task_id=2)
    world.request("finish_task", task_id=1)
    assert world.states() == {1: "done", 2: "done", 3: "running"}


def test_a_reopened_task_calls_back_what_has_not_started():
    world = world_of(spec(1), spec(2, attempts_max=1), spec(3), edges=[(3, 1)])
    world.request("hold_task", task_id=3)
    world.end(1)
    world.request("release_task", task_id=3)
    assert world.states()[3] == "running"
    assert "which depends on task 1" in world.request("reopen_task", task_id=1).error
    world.end(3)
    world.fail(2)
    world.request("reopen_task", task_id=1)
    assert world.states() == {1: "running", 2: "failed", 3: "done"}


def test_nothing_is_reopened_under_work_that_waits_for_its_gate():
    world = world_of(spec(1), spec(2, has_gate=True), edges=[(2, 1)])
    world.end(1)
    world.end(2)
    assert world.states() == {1: "done", 2: "verifying"}
    assert "which depends on task 1" in world.request("reopen_task", task_id=1).error
    assert world.states() == {1: "done", 2: "verifying"}


def test_a_ready_task_waits_again_when_its_dependency_is_reopened():
    world = world_of(spec(1), spec(2), edges=[(2, 1)])
    world.request("pause_all")
    world.end(1)
    assert world.states() == {1: "done", 2: "ready"}
    world.request("reopen_task", task_id=1)
    assert world.states() == {1: "ready", 2: "waiting"}
    assert world.task(2).reason == ""
    world.request("resume_all")
    world.end(1)
    assert world.states() == {1: "done", 2: "running"}


def test_a_retried_child_reopens_its_box_only_if_nobody_relies_on_it():
    world = world_of(
        spec(1, is_container=True), spec(2, parent_id=1), spec(3, parent_id=1), spec(4), edges=[(4, 1)]
    )
    world.request("cancel_task", task_id=3)
    world.end(3)
    world.end(2)
    assert world.states()[4] == "running"
    retried = world.request("reopen_task", task_id=2)
    assert "Task 4" in retried.error


def test_a_person_holds_a_task_and_lets_it_go():
    world = World()
    world.load([spec(1), spec(2)], [(2, 1)])
    assert world.request("hold_task", task_id=1).result == {"held": 1}
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, "by request")
    world.request("hold_task", task_id=2, reason="the key: who has it?")
    assert world.task(2).reason == "by request: the key: who has it?"
    world.request("release_task", task_id=2)
    world.request("release_task", task_id=1)
    assert world.states() == {1: "ready", 2: "waiting"}


def test_what_a_hold_of_a_container_holds_its_release_lets_go_and_nothing_else():
    world = World()
    approval = HoldReason.APPROVAL
    tasks = [spec(1, is_container=True), *(spec(i, parent_id=1) for i in (2, 3)), spec(4)]
    world.load([*tasks, spec(5, parent_id=1, hold_when_ready=approval)], [(3, 2)])
    assert world.request("hold_task", task_id=1, reason="a freeze").result == {"held": 2}
    assert world.request("release_task", task_id=1).result == {"state": "waiting", "released": 2}
    assert world.states() == {1: "waiting", 2: "ready", 3: "waiting", 4: "ready", 5: "held"}
    assert "held by request" in world.request("release_task", task_id=1).error


def test_what_was_approved_is_not_asked_for_again_after_a_hold_and_a_restart():
    world = World()
    world.load([spec(1, hold_when_ready=HoldReason.APPROVAL)])
    world.request("approve_task", task_id=1)
    assert ReleaseTask(task_id=1) in world.commands
    world.request("hold_task", task_id=1)
    again = world_of(replace(world.task(1), ticket=0), state=PlanState.ACTIVE)
    again.request("release_task", task_id=1)
    assert again.states() == {1: "running"}


def test_letting_go_what_the_plan_marks_as_taken_does_not_approve_it():
    held = spec(1, state=TaskState.HELD, reason=HoldReason.ELSEWHERE, hold_when_ready=HoldReason.APPROVAL)
    world = world_of(held)
    world.request("release_task", task_id=1)
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, "approval")


@pytest.mark.parametrize("kind", ["cancel_task", "hold_task", "pause_plan", "cancel_plan"])
def test_nobody_changes_the_plan_of_another_tenant(kind):
    world = World()
    world.load([spec(1)], plan=replace(PLAN, tenant_id="x"))
    task_id = 1 if kind.endswith("task") else 0
    stranger = world.request(kind, task_id=task_id, tenant_id="y", key="k1").error
    nobody = world.request(kind, plan_id=1 + (task_id == 0), task_id=2 * task_id, tenant_id="y").error
    assert stranger.replace("1", "2") == nobody  # as if it were not there
    assert (world.states(), world.state.plans[1].state) == ({1: "ready"}, PlanState.ACTIVE)
    assert not any(isinstance(row, SaveAnswer) for row in world.commands)
    assert not world.request(kind, task_id=task_id).error


def test_approval_lets_a_task_go_and_rejection_makes_it_a_dead_letter():
    world = world_of(*(spec(i, hold_when_ready=HoldReason.APPROVAL) for i in (1, 2)))
    world.request("approve_task", task_id=1)
    world.request("reject_task", task_id=2)
    assert world.states() == {1: "running", 2: "failed"}
    assert world.task(2).reason == "rejected: by request"
    world.request("retry_task", task_id=2)
    assert (world.task(2).state, world.task(2).reason) == (TaskState.HELD, "approval")


@pytest.mark.parametrize("kind", ["approve_task", "reject_task"])
def test_only_what_waits_for_approval_is_approved_or_rejected(kind):
    world = world_of(spec(1, hold_when_ready=HoldReason.MANUAL))
    assert "manual" in world.request(kind, task_id=1).error


def test_a_larger_budget_releases_what_the_smaller_one_held():
    world = world_of(spec(1, backend="anthropic"), budget_micros=40_000)
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, "budget")
    answer = world.request("set_budget", budget_micros=9_000_000)
    nothing_yet = {"spent_micros": 0, "reserved_micros": 0, "ending": 0}
    assert answer.result == {"budget_micros": 9_000_000, **nothing_yet}
    assert world.states() == {1: "running"}
    assert [row.budget_micros for row in world.commands if isinstance(row, SavePlan)][-1] == 9_000_000


def test_a_budget_that_a_session_has_used_up_holds_its_task():
    world = world_of(spec(1, backend="anthropic"), budget_micros=5_000_000)
    world.end(1, AttemptState.FAILED, FailureClass.BUDGET, cost_micros=5_000_000)
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, "budget")


def test_pause_of_everything_starts_nothing_in_any_plan_and_is_written():
    world = World()
    world.request("pause_all", reason="the disk is full")
    world.request("pause_all")  # again, with nothing new to say
    world.join("a")
    world.load([spec(1)])
    world.load([spec(2)], plan=replace(PLAN, plan_id=2))
    assert world.running() == []
    assert world.state.demand() == {}
    assert [row for row in world.commands if isinstance(row, SaveControls)] == [
        SaveControls(is_paused=True, pause_reason="the disk is full", overrides=Overrides())
    ]
    world.request("resume_all")
    assert world.running() == [1, 2]
    assert world.state.pause_reason == ""


def test_a_new_scheduler_stays_paused_until_somebody_resumes_it():
    world = World()
    world.handle(e.ControlsRead(is_paused=True, overrides=Overrides(sessions_max=1)))
    world.join("a")
    world.load([spec(1), spec(2)])
    assert world.running() == []
    world.request("resume_all")
    assert world.running() == [1]


def test_a_request_with_a_key_has_its_answer_written_whatever_it_was():
    world = world_of(spec(1))
    world.request("pause_plan", key="k1")
    world.request("release_task", task_id=1, key="k2")
    answers = [row for row in world.commands if isinstance(row, SaveAnswer)]
    assert [(row.key, row.result) for row in answers] == [("k1", {"state": "paused", "live": 1}), ("k2", {})]
    assert answers[1].error == "Task 1 is running, not held."


def test_a_refusal_that_is_not_the_last_word_is_not_written():
    world = World()
    answer = world.request("pause_plan", plan_id=7, key="k1")
    assert "not loaded" in answer.error
    assert not any(isinstance(row, SaveAnswer) for row in world.commands)


def test_limits_below_zero_are_refused():
    world = World()
    assert "below zero" in world.request("set_limits", overrides=Overrides(sessions_max=-1)).error


def test_a_plan_whose_last_task_its_budget_holds_stalls_at_once():
    world = world_of(spec(1, backend="anthropic"), budget_micros=1)
    assert world.task(1).reason == HoldReason.BUDGET.value
    assert world.state.plans[1].state is PlanState.STALLED


def test_a_plan_works_up_to_one_of_its_own_tasks_only():
    world = world_of(spec(1))
    assert "Task 99 is not in plan 1" in world.request("resume_plan", until_task=99).error
    assert (world.state.plans[1].state, world.state.plans[1].until_task) == (PlanState.ACTIVE, 0)


@pytest.mark.parametrize(
    ("state", "reason", "kind"),
    [
        (TaskState.DONE, HoldReason.MANUAL, "reopen_task"),
        (TaskState.FAILED, HoldReason.APPROVAL, "retry_task"),
    ],
)
def test_after_a_restart_too_what_never_ran_waits_for_its_person_again(
    state: TaskState, reason: HoldReason, kind: str
):
    world = world_of(spec(1, state=state, hold_when_ready=reason), spec(2), state=PlanState.ACTIVE)
    world.request(kind, task_id=1)
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, reason.value)
