"""Whose turn it is: shares of tenants and plans, and limits that leave somebody out for a while."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

from orchestrator.core import events as e
from orchestrator.core.commands import LeaseAttempt
from orchestrator.core.limits import Limits, Overrides
from orchestrator.core.state import Policy
from orchestrator.core.words import PlanState
from tests.support.core import PLAN, World, spec


def plan(plan_id: int, tenant_id: str = "local", **changes: object) -> e.PlanSpec:
    return replace(PLAN, plan_id=plan_id, tenant_id=tenant_id, **changes)  # type: ignore[arg-type]


def picks(world: World, count: int) -> list[LeaseAttempt]:
    """End attempts one by one; return the leases that followed, those already made included."""
    while len(leases(world)) < count:
        world.end(world.running()[0])
    return leases(world)[:count]


def leases(world: World) -> list[LeaseAttempt]:
    return [command for command in world.commands if isinstance(command, LeaseAttempt)]


def test_a_small_plan_of_another_tenant_gets_every_second_start_beside_a_large_urgent_one():
    world = World()
    world.load([spec(i, priority=0) for i in range(1, 301)], plan=plan(1, "large"))
    world.load([spec(i, priority=3) for i in range(1001, 1011)], plan=plan(2, "small"))
    world.join("a", slots=1)
    chosen = [lease.plan_id for lease in picks(world, 20)]
    assert Counter(chosen) == {1: 10, 2: 10}
    assert all(first != second for first, second in pairwise(chosen))


def test_tenants_share_first_and_then_their_plans():
    world = World()
    for plan_id, tenant_id in ((1, "x"), (2, "x"), (3, "y")):
        first = plan_id * 100
        world.load([spec(i) for i in range(first, first + 30)], plan=plan(plan_id, tenant_id))
    world.join("a", slots=1)
    assert Counter(lease.plan_id for lease in picks(world, 40)) == {1: 10, 2: 10, 3: 20}


def test_a_plan_that_was_paused_has_no_claim_to_what_ran_meanwhile():
    world = World()
    for plan_id in (1, 2):
        world.load([spec(plan_id * 1000 + i) for i in range(60)], plan=plan(plan_id))
    world.request("pause_plan", plan_id=1)
    world.join("a", slots=1)
    picks(world, 40)
    world.request("resume_plan", plan_id=1)
    assert Counter(lease.plan_id for lease in picks(world, 60)[40:]) == {1: 10, 2: 10}


def test_a_plan_that_had_nothing_to_start_has_no_claim_to_what_ran_meanwhile():
    """It stays active all the time: its only task that could go on waits out a back-off."""
    world = World(policy=Policy(backoff_ms=(100_000,), jitter=0.0))
    first, *rest = [spec(i) for i in range(1000, 1041)]
    world.load([first, *rest], [(task.task_id, 1000) for task in rest], plan=plan(1, "x"))
    world.join("a", slots=1)
    world.fail(1000)
    world.load([spec(i) for i in range(2001, 2101)], plan=plan(2, "x"))
    world.load([spec(i) for i in range(3001, 3101)], plan=plan(3, "y"))
    picks(world, 61)
    assert world.state.plans[1].state is PlanState.ACTIVE
    world.wait(100_000)
    while world.states()[1000] != "done":
        world.end(world.running()[0])
    seen = len(leases(world))
    later = Counter(lease.plan_id for lease in picks(world, seen + 40)[seen:])
    assert later == {1: 10, 2: 10, 3: 20}


def test_who_idles_is_no_measure_for_a_late_comer():
    world = World(policy=Policy(backoff_ms=(100_000,), jitter=0.0))
    world.join("a", slots=1)
    world.load([spec(1)], plan=plan(1))
    world.fail(1)
    world.load([spec(i) for i in range(2001, 2101)], plan=plan(2))
    picks(world, 41)
    world.load([spec(i) for i in range(3001, 3101)], plan=plan(3))
    assert Counter(lease.plan_id for lease in picks(world, 61)[41:]) == {2: 10, 3: 10}


def test_who_comes_back_does_not_fall_behind_who_waits_at_a_busy_pool():
    """A plan that runs much in another pool is no measure: both share the slot of theirs."""
    world = World()
    world.load([spec(i, agent_type="tester") for i in range(1, 101)], plan=plan(1))
    world.load([spec(i) for i in range(1001, 1021)], plan=plan(2))
    world.load([spec(2001), spec(2002), *(spec(i) for i in range(2003, 2010))], plan=plan(3))
    world.join("a", slots=1)
    world.join("t", "tester", slots=1)
    for _ in range(50):
        world.end(next(i for i in world.running() if i < 1000))
    world.request("hold_task", plan_id=3, task_id=2001)
    for task_id in range(2002, 2010):
        world.request("hold_task", plan_id=3, task_id=task_id)
    world.end(next(i for i in world.running() if i > 1000))
    assert world.state.plans[3].state is PlanState.STALLED
    for task_id in range(2001, 2010):
        world.request("release_task", plan_id=3, task_id=task_id)
    seen = len(leases(world))
    while len(leases(world)) < seen + 10:
        world.end(next(i for i in world.running() if i > 1000))
    assert Counter(lease.plan_id for lease in leases(world)[seen:]) == {2: 5, 3: 5}


def test_a_late_comer_has_no_claim_to_the_past():
    world = World()
    world.load([spec(i) for i in range(1, 101)], plan=plan(1, "x"))
    world.join("a", slots=1)
    picks(world, 40)
    world.load([spec(i) for i in range(1001, 1041)], plan=plan(2, "y"))
    late = [lease.plan_id for lease in picks(world, 60)[40:]]
    assert Counter(late) == {1: 10, 2: 10}


def test_a_pool_that_is_full_holds_up_no_other():
    world = World()
    tasks = [*(spec(i, priority=0) for i in range(1, 9)), *(spec(i, agent_type="tester") for i in (20, 21))]
    world.load(tasks)
    world.join("a", slots=1)
    world.join("t", "tester", slots=1)
    assert world.running() == [1, 20]


def test_what_becomes_ready_later_comes_after_what_has_the_same_rank():
    world = World()
    world.load([spec(1, rank=5), spec(2, rank=9), spec(3, rank=5)], [(1, 2)])
    world.join("a", slots=1)
    assert [lease.task_id for lease in picks(world, 3)] == [2, 3, 1]


def test_a_plan_at_its_limit_leaves_its_slots_to_others_and_goes_on_when_one_ends():
    world = World()
    world.load([spec(i) for i in range(1, 9)], plan=plan(1))
    world.load([spec(i) for i in range(21, 29)], plan=plan(2))
    world.request("set_limits", overrides=Overrides(plans={1: 2}))
    world.join("a", slots=6)
    assert Counter(world.state.tasks[i].plan_id for i in world.running()) == {1: 2, 2: 4}
    world.end(next(i for i in world.running() if i < 20))
    assert Counter(world.state.tasks[i].plan_id for i in world.running()) == {1: 2, 2: 4}


def test_a_tenant_at_its_limit_leaves_its_slots_to_others():
    world = World()
    world.handle(replace(world.limits, limits=Limits(tenant_sessions_max={"x": 1})))
    for plan_id, tenant_id in ((1, "x"), (2, "x"), (3, "y")):
        first = plan_id * 100
        world.load([spec(i) for i in range(first, first + 5)], plan=plan(plan_id, tenant_id))
    world.join("a", slots=4)
    tenants = [world.state.plans[world.task(i).plan_id].tenant_id for i in world.running()]
    assert Counter(tenants) == {"x": 1, "y": 3}
    world.end(next(i for i in world.running() if i < 300))
    assert len(world.running()) == 4


def test_limits_change_while_running_and_go_back_to_the_settings():
    world = World(sessions_max=4)
    world.load([spec(i) for i in range(1, 20)])
    world.join("a", slots=16)
    assert len(world.running()) == 4
    world.request("set_limits", overrides=Overrides(sessions_max=6))
    assert len(world.running()) == 6
    world.request("set_limits", overrides=Overrides(agents={"coder": 7}, sessions_max=9))
    assert len(world.running()) == 7
    world.request("set_limits", overrides=Overrides(sessions_max=2))
    assert len(world.running()) == 7  # what is live goes on
    for task_id in world.running()[:6]:
        world.end(task_id)
    assert len(world.running()) == 2
    answer = world.request("set_limits", overrides=Overrides(sessions_max=0, agents={"coder": 0}))
    nothing: dict[str, object] = {"tenants": {}, "plans": {}, "tenant_budgets": {}, "day_budget": None}
    assert answer.result == {"sessions_max": 0, "agents": {"coder": 0}, **nothing}
    assert len(world.running()) == 4


def test_a_paused_plan_gets_no_turn_and_its_turn_comes_again():
    world = World()
    world.load([spec(i) for i in range(1, 9)], plan=plan(1))
    world.load([spec(i) for i in range(21, 29)], plan=plan(2))
    world.request("pause_plan")
    world.join("a", slots=2)
    assert world.running() == [21, 22]
    world.request("resume_plan")
    assert world.state.plans[1].state is PlanState.ACTIVE
    world.end(21)
    assert world.running() == [22, 1]


def test_the_executor_with_the_most_room_gets_the_next():
    world = World()
    world.join("a", slots=2)
    world.join("b", slots=3)
    world.load([spec(i) for i in range(1, 5)])
    assert Counter(attempt.executor for attempt in world.state.attempts.values()) == {"a": 2, "b": 2}
