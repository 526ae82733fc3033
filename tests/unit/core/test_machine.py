"""What the core decides, event by event."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import (
    CancelAttempt,
    LeaseAttempt,
    RecordEvent,
    SavePlan,
    StartAttempt,
    TakeResult,
)
from orchestrator.core.moving import move_task
from orchestrator.core.state import Policy
from orchestrator.core.task import TaskRules
from orchestrator.core.words import (
    AttemptKind,
    AttemptState,
    FailureClass,
    HoldReason,
    PlanState,
    RetryLost,
    TaskState,
)
from orchestrator.errors import InvariantViolation
from tests.support.core import PLAN, World, proofs, saves, spec


def test_a_chain_runs_in_order_and_ends_the_plan():
    world = World()
    world.join("a")
    world.load([spec(1), spec(2), spec(3)], [(2, 1), (3, 2)])
    assert world.running() == [1]
    world.end(1)
    assert world.states() == {1: "done", 2: "running", 3: "waiting"}
    world.end(2)
    commands = world.end(3)
    assert [c.state for c in commands if isinstance(c, SavePlan)] == [PlanState.DONE]


def test_a_diamond_waits_for_both_sides():
    world = World()
    world.join("a")
    world.load([spec(i) for i in (1, 2, 3, 4)], [(2, 1), (3, 1), (4, 2), (4, 3)])
    world.end(1)
    assert world.running() == [2, 3]
    world.end(2)
    assert world.task(4).unmet == 1
    world.end(3)
    assert world.running() == [4]


def test_completion_and_next_lease_come_in_one_answer():
    """One commit per edge: the end, the release of the child and its lease are of one event."""
    world = World()
    world.join("a")
    world.load([spec(1), spec(2)], [(2, 1)])
    token = world.task(1).token
    world.handle(e.AttemptStarted(token=token))
    commands = world.handle(
        e.AttemptEnded(
            token=token,
            state=AttemptState.SUCCEEDED,
            failure_class=None,
            summary="",
            cost_micros=0,
        )
    )
    kinds = [type(c) for c in commands]
    assert TakeResult in kinds
    assert LeaseAttempt in kinds
    assert kinds.index(LeaseAttempt) < kinds.index(StartAttempt)


def test_nothing_starts_without_an_executor_and_demand_says_so():
    world = World()
    world.load([spec(1), spec(2), spec(3, agent_type="tester")])
    assert world.running() == []
    assert world.state.demand() == {"coder": 2, "tester": 1}
    world.join("a", slots=1)
    assert world.running() == [1]
    world.join("b", slots=1)
    assert world.running() == [1, 2]


def test_limits_bound_total_and_agent_type():
    world = World(sessions_max=3)
    world.handle(replace(world.limits, limits=replace(world.limits.limits, agent_sessions_max={"coder": 2})))
    world.join("a", slots=10)
    world.join("t", "tester", slots=10)
    world.load([*(spec(i) for i in range(1, 5)), *(spec(i, agent_type="tester") for i in range(5, 9))])
    running = world.running()
    assert len(running) == 3
    assert sum(world.task(i).agent_type == "coder" for i in running) == 2
    assert world.state.demand() == {"coder": 2, "tester": 3}


def test_order_is_priority_then_longest_downstream_then_first_ready():
    world = World(sessions_max=1)
    world.load([spec(1), spec(2, rank=9), spec(3, priority=0), spec(4, rank=9)])
    world.join("a")
    order = []
    while world.running():
        order.append(world.running()[0])
        world.end(order[-1])
    assert order == [3, 2, 4, 1]


def test_two_plans_share_the_slots():
    world = World(sessions_max=2)
    world.load([spec(i, priority=0) for i in range(1, 50)])
    world.load(
        [spec(i, priority=4) for i in range(100, 104)], plan=replace(PLAN, plan_id=2, tenant_id="other")
    )
    world.join("a", slots=2)
    first_ten = []
    for _ in range(10):
        task_id = world.running()[0]
        first_ten.append(task_id)
        world.end(task_id)
    assert sum(task_id >= 100 for task_id in first_ten) == 4


def test_a_charged_failure_retries_after_its_back_off_then_becomes_a_dead_letter():
    world = World(policy=Policy(backoff_ms=(1000, 5000), jitter=0.0))
    world.join("a")
    world.load([spec(1), spec(2)], [(2, 1)])
    world.fail(1)
    assert world.states()[1] == "ready"
    assert world.wait(999) == []
    world.wait(1)
    assert world.running() == [1]
    world.fail(1)
    world.wait(4999)
    assert world.running() == []
    world.wait(1)
    commands = world.fail(1)
    assert saves(commands)[1].state is TaskState.FAILED
    assert world.state.plans[1].state is PlanState.STALLED
    assert [c.number for c in world.commands if isinstance(c, LeaseAttempt)] == [1, 2, 3]


def test_rate_limits_are_waited_out_longer_and_longer_without_end_and_charge_nobody():
    policy = Policy(backoff_ms=(1,), rate_limited_backoff_ms=(1000, 2000, 4000), jitter=0.0)
    world = World(policy=policy)
    world.join("a")
    world.load([spec(1, attempts_max=1)])
    for delay_ms in (1000, 2000, 4000, 4000, 4000):
        world.fail(1, FailureClass.RATE_LIMITED)
        world.wait(delay_ms - 1)
        assert world.running() == []
        world.wait(1)
        assert world.running() == [1]
    assert (world.task(1).attempts_used, world.task(1).losses) == (0, 0)
    world.fail(1, FailureClass.INFRASTRUCTURE)
    world.wait(1)
    world.fail(1, FailureClass.RATE_LIMITED)
    world.wait(1000)
    assert world.running() == [1]


def test_infrastructure_is_never_charged_but_three_losses_in_a_row_hold():
    world = World(policy=Policy(backoff_ms=(0,), jitter=0.0))
    world.join("a")
    world.load([spec(1, attempts_max=1)])
    for _ in range(2):
        world.fail(1, FailureClass.INFRASTRUCTURE)
        world.wait(1)
    assert world.task(1).attempts_used == 0
    world.fail(1, FailureClass.INFRASTRUCTURE)
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, HoldReason.POISON.value)


def test_a_plan_defect_is_not_tried_again():
    world = World()
    world.join("a")
    world.load([spec(1)])
    world.fail(1, FailureClass.PLAN_DEFECT)
    assert world.states() == {1: "failed"}


def test_a_gate_runs_in_its_own_pool_and_only_it_releases_children():
    world = World()
    world.join("a")
    world.load([spec(1, has_gate=True), spec(2)], [(2, 1)])
    assert world.state.demand() == {"coder": 1, "gate": 1}
    world.end(1)
    assert world.states() == {1: "verifying", 2: "waiting"}
    assert world.state.demand() == {"gate": 1}
    world.join("g", "gate")
    gate = world.state.attempts[world.task(1).token]
    assert (gate.kind, gate.number, gate.agent_type) == (AttemptKind.GATE, 1, "gate")
    world.end(1)
    assert world.states() == {1: "done", 2: "running"}


def test_a_failed_gate_sends_the_task_back_charged():
    world = World(policy=Policy(backoff_ms=(0,), jitter=0.0))
    world.join("a")
    world.join("g", "gate")
    world.load([spec(1, has_gate=True, attempts_max=2)])
    world.end(1)
    world.fail(1, FailureClass.GATE)
    world.wait(1)
    assert world.running() == [1]
    assert world.task(1).attempts_used == 1
    world.end(1)
    world.fail(1, FailureClass.GATE)
    assert world.states() == {1: "failed"}


def test_a_lost_gate_is_tried_again_in_verifying():
    world = World(policy=Policy(backoff_ms=(0,), jitter=0.0))
    world.join("a")
    world.join("g", "gate")
    world.load([spec(1, has_gate=True)])
    world.end(1)
    world.handle(e.AttemptLost(token=world.task(1).token, reason="executor lost"))
    assert world.states() == {1: "verifying"}
    world.wait(1)
    assert world.state.attempts[world.task(1).token].number == 2


def test_a_repeated_report_changes_nothing():
    world = World()
    world.join("a")
    world.load([spec(1)])
    token = world.task(1).token
    first = world.handle(e.AttemptStarted(token=token))
    assert [c.type for c in first if isinstance(c, RecordEvent)] == ["attempt.started"]
    assert world.handle(e.AttemptStarted(token=token)) == []
    world.end(1)
    ended = e.AttemptEnded(
        token=token,
        state=AttemptState.FAILED,
        failure_class=FailureClass.AGENT,
        summary="",
        cost_micros=0,
    )
    assert world.handle(ended) == []
    assert world.state.late_reports == 0
    world.handle(replace(ended, token=999_999))
    assert world.state.late_reports == 1


def test_a_lost_executor_has_its_attempts_looked_into_once():
    world = World()
    world.join("a")
    world.load([spec(1), spec(2)])
    commands = world.handle(e.ExecutorLost(executor="a"))
    assert [(p.tokens, p.reason) for p in proofs(commands)] == [((1, 2), "executor lost")]
    assert proofs(world.handle(e.ExecutorLost(executor="a"))) == []
    world.join("b")
    world.handle(e.AttemptLost(token=1, reason="executor lost"))
    world.wait(60_000)
    assert world.state.attempts[world.task(1).token].executor == "b"
    lost = [c for c in world.commands if isinstance(c, RecordEvent) and c.type == "attempt.lost"]
    assert lost[0].payload["policy"] == "1 of 3 losses in a row"


def test_executors_that_the_pools_do_not_list_are_lost():
    world = World()
    world.join("a", slots=1)
    world.join("b", slots=1)
    world.load([spec(1), spec(2)])
    commands = world.handle(e.ExecutorsListed(alive=frozenset({"b"})))
    assert [p.executor for p in proofs(commands)] == ["a"]


def test_an_unanswered_start_is_sent_once_more_then_looked_into():
    world = World()
    world.join("a")
    world.load([spec(1)])
    assert world.wait(7_999) == []
    assert [type(c) for c in world.wait(1)] == [StartAttempt]
    assert world.wait(11_999) == []
    assert [p.reason for p in proofs(world.wait(1))] == ["start timeout"]
    assert world.wait(60_000) == []
    world.handle(e.AttemptStarted(token=world.task(1).token))
    assert world.states() == {1: "running"}


def test_a_lease_expires_when_its_beat_stands_still():
    world = World()
    world.join("a")
    world.load([spec(1)])
    token = world.task(1).token
    world.handle(e.AttemptStarted(token=token))
    for beat in (1, 2):
        world.now_ms += 100_000
        assert world.handle(e.BeatsRead(beats={token: beat})) == []
    world.now_ms += 129_999
    assert world.handle(e.BeatsRead(beats={token: 2})) == []
    world.now_ms += 1
    assert [p.reason for p in proofs(world.handle(e.BeatsRead(beats={token: 2})))] == ["lease expired"]


def test_after_a_database_outage_leases_get_a_fresh_count():
    world = World()
    world.join("a")
    world.load([spec(1)])
    token = world.task(1).token
    world.handle(e.AttemptStarted(token=token))
    world.now_ms += 1_000_000
    world.handle(e.DatabaseReturned())
    world.now_ms += 129_000
    assert world.handle(e.BeatsRead(beats={token: 0})) == []


@pytest.mark.parametrize(("hold", "then"), [(HoldReason.APPROVAL, "running"), (HoldReason.MANUAL, "done")])
def test_what_waits_for_a_person_is_held_when_its_dependencies_are_done(hold, then):
    world = World()
    world.join("a")
    world.load([spec(1), spec(2, hold_when_ready=hold)], [(2, 1)])
    assert world.states()[2] == "waiting"
    world.end(1)
    assert (world.task(2).state.value, world.task(2).reason) == ("held", hold.value)
    assert world.state.plans[1].state is PlanState.STALLED
    world.request("release_task", task_id=2)
    assert world.states()[2] == then


def test_without_credentials_a_model_task_is_held_and_released_when_they_come():
    world = World(has_credentials=False)
    world.join("a")
    world.load([spec(1, backend="anthropic"), spec(2)])
    assert world.task(1).reason == "no credentials: anthropic"
    assert world.running() == [2]
    assert "Set ANTHROPIC_API_KEY, and" in world.request("release_task", task_id=1).remedy
    world.end(2)
    assert world.state.plans[1].state is PlanState.STALLED
    world.handle(replace(world.limits, keyless=frozenset()))
    assert world.running() == [1]


def test_a_key_for_one_provider_is_none_for_another():
    world = World()
    world.handle(replace(world.limits, keyless=frozenset({"openai"})))
    world.join("a")
    world.load([spec(1, backend="openai"), spec(2, backend="anthropic")])
    assert world.task(1).reason == "no credentials: openai"
    assert world.running() == [2]
    assert "Set OPENAI_API_KEY, and" in world.request("release_task", task_id=1).remedy
    world.handle(world.limits)
    assert sorted(world.running()) == [1, 2]


def test_a_plan_that_stalled_without_credentials_goes_on_at_a_start_with_them():
    world = World()
    world.join("a")
    held = spec(1, backend="anthropic", state=TaskState.HELD, reason="no credentials: anthropic")
    world.load([held], plan=replace(PLAN, state=PlanState.STALLED))
    assert world.running() == [1]
    assert world.state.plans[1].state is PlanState.ACTIVE


def test_cancel_of_a_running_task_waits_for_its_end():
    world = World()
    world.join("a")
    world.load([spec(1), spec(2)])
    assert world.request("cancel_task", task_id=1).result == {"cancelled": 0, "cancelling": 1}
    assert any(isinstance(c, CancelAttempt) for c in world.commands)
    assert world.states()[1] == "running"
    world.end(1, AttemptState.CANCELLED)
    assert world.states()[1] == "cancelled"


def test_a_session_that_was_interrupted_starts_again_uncharged():
    world = World()
    world.join("a")
    world.load([spec(1)])
    world.end(1, AttemptState.INTERRUPTED)
    assert world.running() == [1]
    assert (world.task(1).attempts_used, world.task(1).losses) == (0, 0)


def test_an_interrupted_task_whose_work_must_not_be_done_twice_waits_for_a_person():
    world = World()
    world.join("a")
    world.load([spec(1, rules=TaskRules(retry_lost=RetryLost.NEVER))])
    world.end(1, AttemptState.INTERRUPTED)
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, HoldReason.LOST.value)


def test_retry_of_a_dead_letter_wakes_the_plan():
    world = World()
    world.join("a")
    world.load([spec(1, attempts_max=1), spec(2)], [(2, 1)])
    world.fail(1)
    assert world.state.plans[1].state is PlanState.STALLED
    assert "Retry what has failed" in world.request("retry_task", task_id=2).remedy
    world.request("retry_task", task_id=1)
    assert world.state.plans[1].state is PlanState.ACTIVE
    world.end(1)
    world.end(2)
    assert world.state.plans[1].state is PlanState.DONE


def test_pause_starts_nothing_new_and_resume_goes_on():
    world = World(sessions_max=1)
    world.join("a")
    world.load([spec(1), spec(2)])
    world.request("pause_plan")
    world.end(1)
    assert world.running() == []
    world.request("resume_plan")
    assert world.running() == [2]


def test_until_works_only_on_what_the_task_needs_then_pauses():
    world = World()
    world.join("a")
    world.load([spec(1), spec(2), spec(3)], [(2, 1)], plan=replace(PLAN, until_task=2))
    assert world.running() == [1]
    world.end(1)
    world.end(2)
    assert world.state.plans[1].state is PlanState.PAUSED
    world.request("resume_plan")
    assert world.running() == [3]


def test_cancel_plan_cancels_what_waits_and_what_runs():
    world = World()
    world.join("a")
    world.load([spec(1), spec(2)], [(2, 1)])
    world.request("cancel_plan")
    assert world.states() == {1: "running", 2: "cancelled"}
    world.end(1, AttemptState.CANCELLED)
    assert world.states() == {1: "cancelled", 2: "cancelled"}
    world.wait(1)
    assert world.state.plans == {}


def test_containers_roll_up_and_release_their_dependents():
    world = World()
    world.join("a")
    tasks = [spec(1, is_container=True, backend=""), spec(2, parent_id=1), spec(3, parent_id=1), spec(4)]
    world.load(tasks, [(4, 1)])
    world.end(2)
    assert world.states()[1] == "waiting"
    world.end(3)
    assert world.states()[1] == "done"
    assert world.running() == [4]


def test_a_container_with_nothing_done_is_cancelled_with_its_children():
    world = World()
    world.load([spec(1, is_container=True, backend=""), spec(2, parent_id=1), spec(3, parent_id=1)])
    world.request("cancel_task", task_id=1)
    assert world.states() == {1: "cancelled", 2: "cancelled", 3: "cancelled"}


def test_a_budget_parks_what_it_cannot_afford_and_holds_when_nothing_can_settle():
    world = World(policy=Policy(attempt_cost_micros=10))
    world.join("a")
    tasks = [spec(i, backend="anthropic") for i in (1, 2, 3)]
    world.load(tasks, plan=replace(PLAN, budget_micros=25))
    assert world.running() == [1, 2]
    world.end(1, cost_micros=3)
    assert world.running() == [2, 3]
    world.end(2, cost_micros=10)
    world.fail(3)
    assert world.task(3).state is TaskState.READY
    world.state.plans[1].purse.spent = 20
    world.wait(10_000)
    assert (world.task(3).state.value, world.task(3).reason) == ("held", "budget")


@pytest.mark.parametrize("hold", [HoldReason.APPROVAL, HoldReason.MANUAL, None])
def test_what_is_cancelled_while_it_is_held_is_held_again_when_it_is_tried_again(hold):
    world = World(has_credentials=False)
    backend = "command" if hold else "anthropic"
    world.load([spec(1, hold_when_ready=hold, backend=backend), spec(2, hold_when_ready=HoldReason.MANUAL)])
    reason = world.task(1).reason
    world.request("cancel_task", task_id=1)
    world.request("retry_task", task_id=1)
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, reason)


def test_a_failed_task_is_held_when_the_credentials_are_gone_at_its_retry():
    world = World(has_credentials=False)
    world.load([spec(1, state=TaskState.FAILED, backend="anthropic", work_number=3)])
    world.request("retry_task", task_id=1)
    assert (world.task(1).state, world.task(1).reason) == (TaskState.HELD, "no credentials: anthropic")


def test_an_illegal_move_raises_and_changes_nothing():
    world = World()
    world.load([spec(1, state=TaskState.DONE)])
    before = world.state.tasks[1].state, dict(world.state.plans[1].counts)
    with pytest.raises(InvariantViolation, match="cannot go from done to running"):
        move_task(world.state, world.task(1), TaskState.RUNNING)
    assert (world.state.tasks[1].state, dict(world.state.plans[1].counts)) == before


def test_retiring_an_executor_needs_it_idle():
    world = World()
    world.join("a")
    world.load([spec(1)])
    world.handle(e.ExecutorRetired(executor="a", request_id=7))
    assert world.answers[7].result == {"may_end": False}
    world.end(1)
    world.handle(e.ExecutorRetired(executor="a", request_id=8))
    assert world.answers[8].result == {"may_end": True}
    assert world.state.executors == {}


def test_a_cancel_wins_over_work_that_has_not_passed_its_gate():
    world = World()
    world.join("a")
    world.join("g", pool="gate")
    world.load([spec(1, has_gate=True), spec(2), spec(3)])
    world.request("cancel_task", task_id=1)
    world.request("cancel_task", task_id=2)
    world.end(1)
    world.end(2)
    assert world.states() == {1: "cancelled", 2: "done", 3: "running"}
    assert world.running() == [3]


def test_nothing_is_retried_in_a_cancelled_plan():
    world = World()
    world.join("a")
    world.load([spec(1)])
    world.request("cancel_plan")
    world.end(1, AttemptState.CANCELLED)
    assert "was cancelled" in world.request("retry_task", task_id=1).error
    assert world.states() == {1: "cancelled"}


def test_cancelling_the_last_open_task_of_a_stalled_plan_ends_it():
    world = World()
    world.join("a")
    world.load([spec(1), spec(2, hold_when_ready=HoldReason.MANUAL)])
    world.end(1)
    assert world.state.plans[1].state is PlanState.STALLED
    world.request("cancel_task", task_id=2)
    assert world.state.plans[1].state is PlanState.DONE


@pytest.mark.parametrize("request_kind", ["resume_plan", "cancel_task"])
def test_a_stalled_plan_with_nothing_to_start_is_stalled_again_at_once(request_kind):
    world = World()
    world.join("a")
    world.load([spec(1, hold_when_ready=HoldReason.MANUAL), spec(2, hold_when_ready=HoldReason.APPROVAL)])
    assert world.state.plans[1].state is PlanState.STALLED
    world.request(request_kind, task_id=2 if request_kind == "cancel_task" else 0)
    assert world.state.plans[1].state is PlanState.STALLED
