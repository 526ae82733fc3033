"""From a plan as read to its rows: states, unmet dependencies, hierarchy."""

import pytest

from orchestrator.core.words import TaskKind, TaskState
from orchestrator.plan.model import (
    Checkboxes,
    DependencyKind,
    Mark,
    Plan,
    PlanDependency,
    PlanTask,
)
from orchestrator.plan.standing import Standing
from orchestrator.store.plan_rows import (
    NewPlan,
    dependency_columns,
    initial_states,
    state_columns,
    task_columns,
)


def leaf(key, mark=Mark.OPEN, parent=""):
    return PlanTask(key=key, has_own_key=True, title=key, mark=mark, parent=parent)


def box(key, parent=""):
    return PlanTask(key=key, has_own_key=True, title=key, kind=TaskKind.CONTAINER, parent=parent)


def new_plan(*tasks, dependencies=()):
    plan = Plan(
        format="coditect",
        format_reason="",
        title="P",
        name="",
        tasks=tasks,
        dependencies=tuple(dependencies),
        findings=(),
        checkboxes=Checkboxes(),
        with_id=0,
        source="text",
    )
    return NewPlan(
        plan=plan,
        name="P",
        workdir="",
        backend="auto",
        budget_micros=0,
        until_key="",
        files={"": ""},
        decisions={},
        ranks={"a": 5},
    )


@pytest.mark.parametrize(
    ("mark", "state", "reason"),
    [
        (Mark.OPEN, "waiting", ""),
        (Mark.DONE, "done", "by import, no evidence"),
        (Mark.IN_PROGRESS, "held", "in progress elsewhere"),
        (Mark.BLOCKED, "held", "blocked in the plan"),
        (Mark.DEFERRED, "cancelled", "deferred in the plan"),
        (Mark.CANCELLED, "cancelled", "cancelled in the plan"),
        (Mark.SKIPPED, "skipped", "cancelled in the plan"),
    ],
)
def test_a_mark_becomes_a_state(mark, state, reason):
    assert initial_states([leaf("a", mark)], is_taken=False)["a"] == Standing(state, reason)


def test_every_mark_has_a_state():
    for mark in Mark:
        assert initial_states([leaf("a", mark)], is_taken=False)


def test_taking_changes_only_what_is_in_progress():
    tasks = [leaf(mark.value, mark) for mark in Mark]
    plain, taken = initial_states(tasks, is_taken=False), initial_states(tasks, is_taken=True)
    assert {key for key in plain if plain[key] != taken[key]} == {"in_progress"}
    assert taken["in_progress"] == Standing(TaskState.WAITING)


def test_a_container_waits_as_long_as_anything_below_it_is_open():
    tasks = [
        box("a"),
        box("a.1", "a"),
        leaf("a.1.1", Mark.DONE, "a.1"),
        box("a.2", "a"),
        leaf("a.2.1", parent="a.2"),
    ]
    states = initial_states(tasks, is_taken=False)
    assert [states[key].state for key in ("a", "a.1", "a.2")] == ["waiting", "done", "waiting"]


def test_only_blocking_dependencies_on_what_is_not_done_are_unmet():
    edges = [
        PlanDependency(task="c", on="a"),
        PlanDependency(task="c", on="a", evidence="said twice"),
        PlanDependency(task="c", on="b"),
        PlanDependency(task="b", on="a", kind=DependencyKind.RELATES),
        PlanDependency(task="b", on="elsewhere"),
    ]
    new = new_plan(leaf("a"), leaf("b", Mark.DONE), leaf("c"), dependencies=edges)
    ids = {"a": 1, "b": 2, "c": 3}
    states = state_columns(new, plan_id=9, ids=ids)
    assert states["state"] == ["ready", "done", "waiting"]
    assert task_columns(new, plan_id=9, ids=ids)["rank"] == [5, 0, 0]
    rows = dependency_columns(new, plan_id=9, ids=ids)
    assert list(zip(rows["task_id"], rows["on_task_id"], rows["kind"], strict=True)) == [
        (3, 1, "blocks"),
        (3, 2, "blocks"),
        (2, 1, "relates"),
    ]


def test_only_what_is_cancelled_for_its_dependents_too_holds_them_up():
    edges = [PlanDependency(task="c", on="a"), PlanDependency(task="d", on="b")]
    new = new_plan(
        leaf("a", Mark.CANCELLED), leaf("b", Mark.SKIPPED), leaf("c"), leaf("d"), dependencies=edges
    )
    states = state_columns(new, plan_id=9, ids={key: number for number, key in enumerate("abcd", 1)})
    assert states["state"] == ["cancelled", "skipped", "waiting", "ready"]


def test_rows_keep_order_and_parents():
    rows = task_columns(new_plan(box("a"), leaf("a.1", parent="a")), plan_id=9, ids={"a": 1, "a.1": 2})
    assert list(rows["ordinal"]) == [0, 1]
    assert rows["parent_id"] == [None, 1]
    assert {len(column) for column in rows.values()} == {2}
