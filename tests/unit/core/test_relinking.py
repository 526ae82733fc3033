"""Dependencies that people add and drop while a plan runs."""

from __future__ import annotations

from orchestrator.core.commands import SaveDependency
from orchestrator.core.task import Task
from orchestrator.core.words import PlanState
from tests.support.core import World, spec


def _world(*tasks: Task, edges: tuple[tuple[int, int], ...] = (), slots: int = 1) -> World:
    world = World()
    world.join("a", slots=slots)
    world.load(tasks, edges)
    return world


def test_a_ready_task_waits_for_what_is_added() -> None:
    world = _world(spec(1), spec(2), spec(3))
    assert world.states() == {1: "running", 2: "ready", 3: "ready"}
    assert world.request("add_dependency", task_id=2, on_task=3).result == {"waits": 1, "flagged": []}
    assert world.states()[2] == "waiting"
    world.end(1)
    assert world.states() == {1: "done", 2: "waiting", 3: "running"}
    world.end(3)
    assert world.states()[2] == "running"


def test_a_task_at_work_goes_on_and_is_flagged() -> None:
    world = _world(spec(1), spec(2))
    answer = world.request("add_dependency", task_id=1, on_task=2)
    assert answer.result == {"waits": 1, "flagged": [1]}
    assert (world.states()[1], world.task(1).is_overtaken) == ("running", True)
    world.end(1)
    assert world.states() == {1: "done", 2: "running"}


def test_what_is_done_holds_nobody_up() -> None:
    world = _world(spec(1), spec(2), spec(3), edges=((2, 1),))
    world.end(1)
    assert world.request("add_dependency", task_id=3, on_task=1).result == {"waits": 0, "flagged": []}
    assert world.task(3).unmet == 0


def test_a_cycle_is_refused_and_named_whole() -> None:
    world = _world(spec(1), spec(2), spec(3), edges=((2, 1), (3, 2)))
    refused = world.request("add_dependency", task_id=1, on_task=3)
    assert "task 3 → task 2 → task 1 → task 3" in refused.error
    assert "task 1 → task 1" in world.request("add_dependency", task_id=1, on_task=1).error
    assert world.task(1).unmet == 0


def test_a_cycle_through_a_container_is_refused() -> None:
    world = _world(spec(1, is_container=True), spec(2, parent_id=1), spec(3), edges=((3, 1),))
    assert "task 3 → task 1 → task 2 → task 3" in world.request("add_dependency", task_id=2, on_task=3).error
    assert "task 1 → task 2 → task 1" in world.request("add_dependency", task_id=2, on_task=1).error
    assert "→" in world.request("add_dependency", task_id=1, on_task=3).error


def test_all_leaves_of_a_container_wait() -> None:
    world = _world(spec(1), spec(2, is_container=True), spec(3, parent_id=2), spec(4, parent_id=2))
    assert world.request("add_dependency", task_id=2, on_task=1).result["waits"] == 2
    assert world.states() == {1: "running", 2: "waiting", 3: "waiting", 4: "waiting"}


def test_a_dropped_dependency_lets_the_task_start_and_wakes_its_plan() -> None:
    world = _world(spec(1, attempts_max=1), spec(2), edges=((2, 1),))
    world.fail(1)
    assert _plan_state(world) is PlanState.STALLED
    assert world.request("drop_dependency", task_id=2, on_task=1).result == {"waits": 0}
    assert world.states()[2] == "running"
    assert _plan_state(world) is PlanState.ACTIVE


def test_a_task_that_was_flagged_is_not_so_any_more_when_it_is_dropped_again() -> None:
    world = _world(spec(1), spec(2))
    world.request("add_dependency", task_id=1, on_task=2)
    world.request("drop_dependency", task_id=1, on_task=2)
    assert not world.task(1).is_overtaken


def test_the_other_task_must_be_of_the_same_plan() -> None:
    world = _world(spec(1))
    assert "Task 9 is not in plan 1" in world.request("add_dependency", task_id=1, on_task=9).error


def test_a_plan_that_stops_at_a_task_takes_in_what_that_waits_for_now() -> None:
    world = World()
    world.join("a", slots=1)
    world.load((spec(1), spec(2), spec(3)), ())
    world.end(1)
    world.request("resume_plan", until_task=3)
    world.request("add_dependency", task_id=3, on_task=2)
    wanted = world.state.plans[1].wanted
    assert wanted is not None
    assert 2 in wanted


def test_every_decision_is_written() -> None:
    world = _world(spec(1), spec(2), spec(3), edges=((2, 1),))
    commands = [
        command
        for kind, task_id in (("add_dependency", 3), ("add_dependency", 2), ("drop_dependency", 2))
        for command in _saved(world, kind, task_id)
    ]
    assert [(row.task_id, row.on_task_id, row.decision.value) for row in commands] == [
        (3, 1, "blocks"),
        (2, 1, "blocks"),
        (2, 1, "dropped"),
    ]


def _saved(world: World, kind: str, task_id: int) -> list[SaveDependency]:
    known = len(world.commands)
    world.request(kind, task_id=task_id, on_task=1)
    return [command for command in world.commands[known:] if isinstance(command, SaveDependency)]


def _plan_state(world: World) -> PlanState:
    return world.state.plans[1].state
