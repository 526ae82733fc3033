"""How much may run at once: what the settings say, what people set instead, and the way back."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from orchestrator.core.limits import UNBOUNDED, Bounds, Limits, Overrides
from tests.support.core import PLAN, World, spec

SETTINGS = Limits(
    sessions_max=9,
    agent_default_max=4,
    agent_sessions_max={"tester": 2},
    tenant_default_max=6,
    tenant_sessions_max={"x": 3},
    plan_default_max=5,
)
SET = Overrides(sessions_max=7, agents={"coder": 1}, tenants={"x": 8}, plans={1: 2})


@pytest.mark.parametrize(
    ("overrides", "total", "agents", "tenants", "plans"),
    [
        (Overrides(), 9, {"coder": 4, "tester": 2}, {"x": 3, "y": 6}, {1: 5, 2: 5}),
        (SET, 7, {"coder": 1, "tester": 2}, {"x": 8, "y": 6}, {1: 2, 2: 5}),
    ],
)
def test_what_people_set_counts_and_else_the_settings(
    overrides: Overrides, total: int, agents: dict[str, int], tenants: dict[str, int], plans: dict[int, int]
) -> None:
    bounds = Bounds(limits=SETTINGS, overrides=overrides)
    assert bounds.total == bounds.of_pool("gate") == total
    assert {name: bounds.of_pool(name) for name in agents} == agents
    assert {name: bounds.of_tenant(name) for name in tenants} == tenants
    assert {plan_id: bounds.of_plan(plan_id) for plan_id in plans} == plans


def test_zero_goes_back_to_the_settings_and_what_is_not_named_stays() -> None:
    newer = SET.merged(Overrides(sessions_max=0, tenants={"x": 0}))
    assert newer == replace(SET, sessions_max=None, tenants={})


def test_tenants_and_plans_have_no_limit_unless_one_is_given() -> None:
    bounds = Bounds(limits=Limits())
    assert (bounds.of_tenant("x"), bounds.of_plan(1)) == (UNBOUNDED, UNBOUNDED)


def test_nobody_overrides_settings_that_stop_everything() -> None:
    assert Bounds(limits=Limits(sessions_max=0), overrides=Overrides(sessions_max=5)).total == 0


def test_what_is_set_is_the_same_after_it_was_stored() -> None:
    assert Overrides.from_json(SET.as_json()) == SET


@pytest.mark.parametrize(
    ("limits", "running"),
    [
        (Limits(sessions_max=3), {("x", 1): 1, ("x", 2): 1, ("y", 3): 1}),
        (Limits(agent_default_max=2), {("x", 1): 1, ("y", 3): 1}),
        (Limits(tenant_default_max=1), {("x", 1): 1, ("y", 3): 1}),
        (Limits(plan_default_max=2), {("x", 1): 2, ("x", 2): 2, ("y", 3): 2}),
    ],
)
def test_each_limit_bounds_what_it_names(limits: Limits, running: dict[tuple[str, int], int]) -> None:
    world = World()
    world.handle(replace(world.limits, limits=limits))
    for plan_id, tenant_id in ((1, "x"), (2, "x"), (3, "y")):
        plan = replace(PLAN, plan_id=plan_id, tenant_id=tenant_id)
        world.load([spec(plan_id * 100 + n) for n in range(9)], plan=plan)
    world.join("a", slots=16)
    plans = [world.state.plans[world.task(task_id).plan_id] for task_id in world.running()]
    assert Counter((plan.tenant_id, plan.plan_id) for plan in plans) == running


def test_a_limit_of_a_tenant_is_changed_while_its_plans_run() -> None:
    world = World()
    world.load([spec(n) for n in range(1, 9)], plan=replace(PLAN, tenant_id="x"))
    world.request("set_limits", overrides=Overrides(tenants={"x": 2}))
    world.join("a", slots=8)
    assert len(world.running()) == 2
    world.request("set_limits", overrides=Overrides(tenants={"x": 3}))
    assert len(world.running()) == 3
    world.request("set_limits", overrides=Overrides(tenants={"x": 0}))
    assert len(world.running()) == 8


def test_files_of_agent_types_narrow_the_limits_and_never_widen_them():
    limits = Limits(agent_default_max=8, agent_sessions_max={"poet": 4, "coder": 2})
    files = {"poet": 3, "coder": 5, "tester": 6, "greedy": 99, "silent": None}
    bounds = Bounds(limits=limits.narrowed(files))
    assert {name: bounds.of_pool(name) for name in files} == {
        "poet": 3, "coder": 2, "tester": 6, "greedy": 8, "silent": 8,
    }  # fmt: skip
    assert set(bounds.limits.agent_sessions_max) == {"poet", "coder", "tester"}, "what differs is listed"


def test_a_type_that_a_plan_brought_along_has_no_more_than_its_name_has_elsewhere():
    limits = Limits(agent_default_max=8, agent_sessions_max={"coder": 2, "poet@7": 1})
    bounds = Bounds(limits=limits.narrowed({"coder@7": None, "coder@8": 1, "coder@9": 5, "poet@7": 3}))
    names = ("coder@7", "coder@8", "coder@9", "poet@7")
    assert [bounds.of_pool(name) for name in names] == [2, 1, 2, 1]
