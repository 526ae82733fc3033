"""Budgets: what is reserved, who waits and who is held, what is given back, and the fuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import AskCancel, EndAttempt, LeaseAttempt, SavePlan, SaveTaskBudget
from orchestrator.core.limits import Limits, Overrides
from orchestrator.core.state import Policy
from orchestrator.core.task import TaskRules
from orchestrator.core.words import BUDGET_LOWERED, AttemptState, FailureClass, PlanState, TaskState
from tests.support.core import PLAN, World, spec

M = 1_000_000
DAY_MS = 86_400_000


def world_of(*numbers: int, budget: int = 0, limits: Limits | None = None, **policy: int) -> World:
    """Return a world with a plan of paid tasks and room for all of them."""
    world = World(policy=Policy(backoff_ms=(0,), **policy), sessions_max=16)  # type: ignore[arg-type]
    world.now_ms = 20_000 * DAY_MS
    if limits is not None:
        world.handle(e.LimitsSet(limits=limits))
    world.wait(0)
    world.join("a", slots=16)
    world.load([spec(n, backend="anthropic") for n in numbers], plan=replace(PLAN, budget_micros=budget))
    return world


def reserved(world: World) -> list[int]:
    return [row.reserved_micros for row in world.commands if isinstance(row, LeaseAttempt)]


def standing(world: World, task_id: int) -> tuple[str, str]:
    return world.task(task_id).state.value, world.task(task_id).reason


def test_an_attempt_reserves_its_cap_and_the_last_one_what_is_left():
    world = world_of(1, 2, 3, budget=12 * M)
    assert reserved(world) == [5 * M, 5 * M]
    world.end(1, cost_micros=4 * M)
    assert reserved(world) == [5 * M, 5 * M]  # 3 M are left, and the other may give some back
    world.end(2, cost_micros=5 * M)
    assert reserved(world) == [5 * M, 5 * M, 3 * M]


def test_a_budget_below_the_cap_is_spent_and_not_refused():
    assert reserved(world_of(1, budget=2 * M)) == [2 * M]


def test_an_attempt_without_a_cap_has_all_of_the_budget_to_itself():
    world = world_of(1, 2, budget=7 * M, attempt_cost_micros=0)
    assert reserved(world) == [7 * M]
    assert reserved(world_of(1, 2, attempt_cost_micros=0)) == [0, 0]


def test_gates_and_commands_cost_nothing():
    world = world_of(budget=1)
    world.load(
        [spec(7), spec(8, has_gate=True)],
        plan=replace(PLAN, plan_id=2, budget_micros=1),
    )
    assert reserved(world) == [0, 0]


def test_the_attempts_of_a_task_share_its_own_budget():
    world = world_of()
    rules = TaskRules(attempts_max=9, budget_micros=6 * M)
    world.load([spec(7, backend="anthropic", rules=rules)], plan=replace(PLAN, plan_id=2))
    world.end(7, AttemptState.FAILED, FailureClass.AGENT, cost_micros=4 * M)
    world.wait(1)
    assert reserved(world) == [5 * M, 2 * M]
    world.end(7, AttemptState.FAILED, FailureClass.AGENT, cost_micros=2 * M)
    world.wait(1)
    assert standing(world, 7) == ("held", "task budget")


def test_a_task_beyond_its_own_budget_is_held_at_once_and_holds_nobody_up():
    world = world_of(task_budget_micros=6 * M)
    tasks = [spec(n, backend="anthropic", priority=n, spent_micros=6 * M if n == 7 else 0) for n in (7, 8, 9)]
    world.load(tasks, plan=replace(PLAN, plan_id=2, budget_micros=100 * M))
    assert standing(world, 7) == ("held", "task budget")
    assert world.running() == [8, 9]


@pytest.mark.parametrize(
    "limits", [Limits(tenant_budget_micros=8 * M), Limits(day_budget_micros=8 * M)], ids=["tenant", "day"]
)
def test_what_a_shared_budget_cannot_bear_waits_ready_and_goes_on_when_something_comes_back(limits: Limits):
    world = world_of(1, limits=limits)
    world.load([spec(7, backend="anthropic")], plan=replace(PLAN, plan_id=2))
    assert (world.running(), world.task(7).state) == ([1], TaskState.READY)
    world.end(1, cost_micros=1 * M)
    assert reserved(world) == [5 * M, 5 * M]
    world.end(7, AttemptState.FAILED, FailureClass.AGENT, cost_micros=7 * M)
    world.wait(1)
    assert (standing(world, 7), world.state.plans[2].state) == (("ready", ""), PlanState.ACTIVE)

    budget = Overrides(tenant_budgets={"local": 20 * M}, day_budget=20 * M)
    world.request("set_limits", overrides=budget)
    assert world.running() == [7]


@pytest.mark.parametrize(
    "limits", [Limits(tenant_budget_micros=3 * M), Limits(day_budget_micros=3 * M)], ids=["tenant", "day"]
)
def test_who_is_stopped_by_a_shared_budget_waits_for_it_and_is_not_held(limits: Limits):
    world = world_of(1, limits=limits)
    assert reserved(world) == [3 * M]
    world.end(1, AttemptState.FAILED, FailureClass.BUDGET, cost_micros=3 * M)
    world.wait(60_000)
    assert (standing(world, 1), world.task(1).attempts_used) == (("ready", ""), 0)
    budget = Overrides(tenant_budgets={"local": 20 * M}, day_budget=20 * M)
    world.request("set_limits", overrides=budget)
    assert reserved(world) == [3 * M, 5 * M]
    world.end(1, AttemptState.FAILED, FailureClass.BUDGET, cost_micros=5 * M)
    assert standing(world, 1) == ("held", "attempt budget")  # its own cap, not what others share


def test_a_new_day_has_a_budget_of_its_own():
    world = world_of(1, 2, limits=Limits(day_budget_micros=5 * M))
    assert world.running() == [1]
    world.end(1, cost_micros=5 * M)
    world.wait(DAY_MS - 1)
    assert world.running() == []
    world.wait(1)
    assert world.running() == [2]


def test_another_tenant_has_a_budget_of_its_own():
    world = world_of(1, limits=Limits(tenant_budget_micros=5 * M))
    world.load([spec(7, backend="anthropic")], plan=replace(PLAN, plan_id=2, tenant_id="other"))
    assert world.running() == [1, 7]


def test_an_attempt_of_which_nobody_knows_what_it_spent_counts_as_all_of_it():
    world = world_of(1, 2, budget=20 * M)
    for task_id in (1, 2):
        token = world.task(task_id).token
        if task_id == 1:
            world.handle(e.AttemptStarted(token=token))
        world.handle(e.AttemptLost(token=token, reason="executor lost"))
    assert world.state.plans[1].purse.spent == 5 * M  # the other never started
    assert [row.kept_micros for row in world.commands if isinstance(row, EndAttempt)] == [5 * M, 0]


def test_a_restart_knows_what_was_spent_and_what_is_reserved():
    world = World()
    world.now_ms = 20_000 * DAY_MS
    world.handle(
        e.ControlsRead(
            is_paused=False,
            overrides=Overrides(day_budget=12 * M),
            spent={"local": 9 * M},
            spent_today=5 * M,
        )
    )
    world.join("a")
    live = e.LiveAttempt(
        token=999_999, task_id=1, kind=world_of(1).task(1).wants, number=1, agent_type="coder",
        backend="anthropic", executor="a", state=AttemptState.STARTED, cancel_reason="",
        reserved_micros=3 * M,
    )  # fmt: skip
    tasks = [spec(1, backend="anthropic", state=TaskState.RUNNING), spec(2, backend="anthropic")]
    world.load(tasks, plan=replace(PLAN, state=PlanState.ACTIVE, spent_micros=2 * M), attempts=(live,))
    assert (world.state.today.spent, world.state.today.reserved) == (5 * M, 3 * M)
    assert (world.state.plans[1].purse.spent, world.state.plans[1].purse.reserved) == (2 * M, 3 * M)
    assert world.state.tenants["local"].purse.spent == 9 * M
    assert world.running() == [1]  # 4 M of the day are left, less than a cap, while 3 M may come back


def test_the_fuse_holds_a_plan_that_spends_without_progress_and_a_done_task_mends_it():
    world = world_of(1, 2, 3, fuse_micros=10 * M)
    world.end(1, AttemptState.FAILED, FailureClass.AGENT, cost_micros=6 * M)
    world.end(2, cost_micros=1 * M)  # done
    assert world.state.plans[1].fruitless_micros == 0
    for _ in range(2):
        world.wait(1)
        world.end(1, AttemptState.FAILED, FailureClass.AGENT, cost_micros=6 * M)
    assert world.state.plans[1].fruitless_micros == 12 * M
    assert [row.fruitless_micros for row in world.commands if isinstance(row, SavePlan)][-1] == 12 * M
    world.end(3, AttemptState.FAILED, FailureClass.AGENT)
    world.wait(1)
    assert standing(world, 3) == ("held", "no progress")
    assert not world.request("set_budget", budget_micros=0).error
    assert world.task(3).state is TaskState.RUNNING


@pytest.mark.parametrize(("reason", "state"), [("executor lost", "lost"), ("timed out", "timed_out")])
def test_what_is_set_aside_for_a_session_that_nobody_hears_of_again_was_spent_without_progress(
    reason: str, state: str
):
    world = world_of(1, fuse_micros=10 * M)
    for ended in (1, 2):
        token = world.task(1).token
        world.handle(e.AttemptStarted(token=token))
        world.handle(e.AttemptLost(token=token, reason=reason))
        assert world.state.ended[token] == state
        assert world.state.plans[1].fruitless_micros == ended * 5 * M
        world.wait(1)
    assert standing(world, 1) == ("held", "no progress")


def test_work_that_waits_for_its_gate_is_not_without_progress_until_the_gate_refuses_it():
    world = world_of(fuse_micros=100 * M)
    world.join("g", "gate")
    world.load([spec(7, backend="anthropic", has_gate=True)], plan=replace(PLAN, plan_id=2))
    world.end(7, cost_micros=6 * M)
    assert world.state.plans[2].fruitless_micros == 0
    world.end(7, AttemptState.FAILED, FailureClass.GATE)
    assert world.state.plans[2].fruitless_micros == 6 * M
    world.wait(1)
    world.end(7, cost_micros=6 * M)
    world.end(7)
    assert world.state.plans.get(2) is None or world.state.plans[2].fruitless_micros == 0


def test_what_proposals_cost_is_counted_once_and_leaves_less_for_attempts():
    world = world_of(1, 2, budget=10_000_000)
    for so_far in (4_000_000, 4_000_000, 7_000_000, 4_000_000):  # told again, and late
        world.handle(e.ProposalsPaid(plan_id=1, cost_micros=so_far))
    world.handle(e.ProposalsPaid(plan_id=9, cost_micros=1))  # of a plan that is not in memory
    plan = world.state.plans[1]
    assert plan.purse.spent == world.state.tenant("local").purse.spent == world.state.today.spent == 7_000_000
    again = World()
    again.load(
        [spec(1, backend="anthropic")],
        plan=replace(PLAN, budget_micros=10_000_000, spent_micros=3_000_000, proposed_micros=1_000_000),
    )
    again.handle(e.ProposalsPaid(plan_id=1, cost_micros=6_000_000))
    again.join("a")
    assert reserved(again) == [2_000_000]


def test_a_proposal_that_is_told_while_its_plan_is_being_read_counts_at_once():
    world = World()
    for plan_id, told in ((1, 3_000_000), (2, 1_000_000)):  # after the plan was read, and before
        world.handle(e.ProposalsPaid(plan_id=plan_id, cost_micros=told))
        read = replace(PLAN, plan_id=plan_id, spent_micros=1_000_000, proposed_micros=1_000_000)
        world.load([spec(plan_id, backend="anthropic")], plan=read)
    assert [world.state.plans[plan_id].purse.spent for plan_id in (1, 2)] == [3_000_000, 1_000_000]
    assert world.state.tenant("local").purse.spent == world.state.today.spent == 2_000_000
    assert world.state.early_proposals == {}


def ending(world: World) -> dict[int, str]:
    """Return why live attempts are asked to end, by their tasks."""
    return {each.task_id: each.cancel_reason for each in world.state.attempts.values() if each.cancel_reason}


def stopped(world: World, task_id: int, *, cost_micros: int) -> None:
    """An executor ends a session because it was asked to."""
    world.end(task_id, AttemptState.INTERRUPTED, cost_micros=cost_micros)


def test_a_plan_whose_budget_is_lowered_ends_the_newest_sessions_and_they_start_with_what_is_left():
    world = world_of(1, 2, 3, budget=20 * M)
    answer = world.request("set_budget", budget_micros=12 * M)
    told = {"budget_micros": 12 * M, "spent_micros": 0, "reserved_micros": 15 * M, "ending": 1}
    assert answer.result == told
    assert ending(world) == {3: BUDGET_LOWERED}
    assert AskCancel(token=world.task(3).token, reason=BUDGET_LOWERED) in world.commands
    stopped(world, 3, cost_micros=1 * M)
    assert (standing(world, 3), world.task(3).attempts_used) == (("ready", ""), 0)
    world.end(1, cost_micros=1 * M)
    assert world.running() == [2, 3]
    assert reserved(world)[3:] == [5 * M]


def test_what_a_session_had_spent_when_its_budget_was_lowered_may_end_others_too():
    world = world_of(1, 2, budget=20 * M)
    world.request("set_budget", budget_micros=7 * M)
    assert ending(world) == {2: BUDGET_LOWERED}
    stopped(world, 2, cost_micros=4 * M)
    assert ending(world) == {1: BUDGET_LOWERED}
    stopped(world, 1, cost_micros=4 * M)
    assert (standing(world, 1), standing(world, 2)) == (("held", "budget"), ("held", "budget"))
    assert world.state.plans[1].state is PlanState.STALLED


@pytest.mark.parametrize("reason", ["set_budget", "set_task_budget", "set_limits"])
def test_a_session_without_a_cap_starts_again_with_one_when_a_budget_is_set(reason: str):
    world = world_of(1, attempt_cost_micros=0)
    assert reserved(world) == [0]
    more = {"overrides": Overrides(tenant_budgets={"local": 9 * M})} if reason == "set_limits" else {}
    task = {"task_id": 1} if reason == "set_task_budget" else {}
    world.request(reason, budget_micros=9 * M, **more, **task)
    assert ending(world) == {1: BUDGET_LOWERED}
    stopped(world, 1, cost_micros=2 * M)
    assert reserved(world) == [0, 7 * M]


def test_a_budget_that_is_lowered_leaves_alone_what_it_does_not_pay_for():
    world = world_of(1, budget=20 * M)
    world.load([spec(7), spec(8, backend="anthropic")], plan=replace(PLAN, plan_id=2, tenant_id="other"))
    world.request("set_limits", overrides=Overrides(tenant_budgets={"other": 1 * M}))
    assert ending(world) == {8: BUDGET_LOWERED}
    world.request("set_limits", overrides=Overrides(day_budget=6 * M))
    assert ending(world) == {8: BUDGET_LOWERED}  # what it gives back suffices
    world.request("set_limits", overrides=Overrides(day_budget=1 * M))
    assert ending(world) == {1: BUDGET_LOWERED, 8: BUDGET_LOWERED}


@pytest.mark.parametrize("is_lowered_first", [True, False])
def test_what_a_cancelled_session_had_spent_when_a_budget_was_lowered_may_end_others_too(
    is_lowered_first: bool,
):
    world = world_of(1, 2, budget=20 * M)
    lower = {"kind": "set_budget", "budget_micros": 7 * M}
    cancel = {"kind": "cancel_task", "task_id": 2}
    for asked in (lower, cancel) if is_lowered_first else (cancel, lower):
        world.request(**asked)
    assert ending(world) == {2: "by request"}
    world.end(2, AttemptState.CANCELLED, cost_micros=4 * M)
    assert ending(world) == {1: BUDGET_LOWERED}


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "set_limits", "overrides": Overrides(sessions_max=9)},
        {"kind": "set_limits", "overrides": Overrides(tenant_budgets={"local": 90 * M}, day_budget=70 * M)},
        {"kind": "set_budget", "plan_id": 2, "budget_micros": 90 * M},
        {"kind": "set_task_budget", "plan_id": 2, "task_id": 7, "budget_micros": 8 * M},
        None,
    ],
)
def test_the_last_answer_of_a_session_ends_no_other_while_no_budget_is_lowered(asked: dict[str, Any] | None):
    limits = Limits(tenant_budget_micros=80 * M, day_budget_micros=60 * M)
    world = world_of(1, 2, budget=10 * M, limits=limits)
    world.load(
        [spec(7, rules=TaskRules(budget_micros=6 * M))], plan=replace(PLAN, plan_id=2, budget_micros=80 * M)
    )
    world.end(1, AttemptState.FAILED, FailureClass.BUDGET, cost_micros=5 * M + 1)
    if asked is not None:
        world.request(**asked)
    else:
        tasks = tuple(spec(n, backend="anthropic", priority=1) for n in (1, 2))
        world.handle(e.PlanRevised(request_id=1, revision_id=1, plan_id=1, tasks=tasks, edges=()))
    assert (world.running(), ending(world)) == ([2, 7], {})


def test_what_a_session_came_to_before_it_heard_of_a_lower_budget_counts():
    world = world_of(budget=20 * M)
    world.join("g", "gate")
    world.load([spec(7, backend="anthropic", has_gate=True)], plan=replace(PLAN, plan_id=2))
    world.request("set_budget", plan_id=2, budget_micros=1 * M)
    world.end(7, cost_micros=2 * M)
    assert standing(world, 7) == ("verifying", "")
    world.end(7)
    assert world.states() == {7: "done"}


def test_who_cancels_a_task_while_its_session_ends_for_a_lower_budget_gets_it_cancelled():
    world = world_of(1, budget=20 * M)
    world.request("set_budget", budget_micros=1 * M)
    world.request("cancel_task", task_id=1, reason="not needed")
    stopped(world, 1, cost_micros=1 * M)
    assert standing(world, 1) == ("cancelled", "not needed")


def test_a_person_lets_the_attempts_of_a_task_spend_more_and_takes_it_back():
    world = world_of()
    rules = TaskRules(budget_micros=6 * M)
    world.load([spec(7, backend="anthropic", rules=rules, spent_micros=6 * M)], plan=replace(PLAN, plan_id=2))
    assert standing(world, 7) == ("held", "task budget")
    world.request("set_budget", plan_id=2, budget_micros=100 * M)
    assert standing(world, 7) == ("held", "task budget")  # that is the plan's
    answer = world.request("set_task_budget", plan_id=2, task_id=7, budget_micros=8 * M)
    told = {"budget_micros": 8 * M, "spent_micros": 6 * M, "reserved_micros": 0, "ending": 0}
    assert answer.result == told
    assert SaveTaskBudget(task_id=7, budget_micros=8 * M) in world.commands
    assert (world.running(), reserved(world)) == ([7], [2 * M])
    answer = world.request("set_task_budget", plan_id=2, task_id=7)
    assert answer.result == {**told, "budget_micros": 6 * M, "reserved_micros": 2 * M, "ending": 1}
    stopped(world, 7, cost_micros=0)
    assert standing(world, 7) == ("held", "task budget")


def test_a_restart_knows_what_a_person_lets_a_task_spend():
    world = world_of()
    held = spec(7, backend="anthropic", state=TaskState.HELD, reason="task budget", spent_micros=6 * M)
    world.load([replace(held, budget_micros=8 * M)], plan=replace(PLAN, state=PlanState.STALLED))
    assert (world.running(), reserved(world)) == ([7], [2 * M])
