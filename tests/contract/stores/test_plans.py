"""What the scheduler loads is what was committed, on PostgreSQL and in memory alike."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from orchestrator.core.commands import AskCancel, LeaseAttempt, SaveDependency, SavePlan, SaveTask, TakeResult
from orchestrator.core.events import LiveAttempt
from orchestrator.core.task import Task
from orchestrator.core.words import AttemptKind, DependencyDecision, PlanState, TaskState
from orchestrator.errors import NotFound
from orchestrator.ports import SchedulerStore
from tests.support.rows import end, lease, save
from tests.support.stores import DONE, Stores, leased, loaded


async def test_what_is_committed_is_what_is_loaded(stores: Stores, scheduler: SchedulerStore) -> None:
    plan_id, (first, second, third) = stores.plan(3, edges=[(1, 0), (2, 0), (2, 1)])
    write = save(
        first,
        state=TaskState.RUNNING,
        reason="why",
        not_before_ms=1_700_000_000_123,
        attempts_used=1,
        losses=2,
    )
    leases = [
        lease(7, plan_id=plan_id, task_id=first, number=3),
        lease(8, plan_id=plan_id, task_id=second, executor="x2"),
        replace(lease(9, plan_id=plan_id, task_id=third), kind=AttemptKind.GATE, number=2),
    ]
    wish = AskCancel(token=8, reason="by request")
    pause = SavePlan(plan_id=plan_id, state=PlanState.PAUSED, until_task=second, budget_micros=0)
    await scheduler.commit(1, [write, *leases, wish, pause])
    await stores.executor().start([7])
    (part,) = await loaded(scheduler, plan_id)
    assert (part.plan.state, part.plan.until_task) == (PlanState.PAUSED, second)
    assert sorted(part.edges) == [(second, first), (third, first), (third, second)]
    task = part.tasks[0]
    for name in {f.name for f in fields(SaveTask)} & {f.name for f in fields(Task)}:
        assert getattr(task, name) == getattr(write, name), name
    assert [(t.work_number, t.gate_number) for t in part.tasks] == [(3, 0), (1, 0), (0, 2)]
    assert [a.token for a in part.attempts] == [7, 8, 9]
    for row, live in zip(leases, part.attempts, strict=True):
        for name in {f.name for f in fields(LeaseAttempt)} & {f.name for f in fields(LiveAttempt)}:
            assert getattr(live, name) == getattr(row, name), name
    assert [a.state for a in part.attempts] == ["started", "leased", "leased"]
    assert [a.cancel_reason for a in part.attempts] == ["", "by request", ""]


async def test_what_a_person_decides_on_dependencies_is_loaded(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    plan_id, (first, second, third) = stores.plan(3, edges=[(1, 0), (2, 0)])

    def decide(task_id: int, on_task_id: int, decision: DependencyDecision) -> SaveDependency:
        return SaveDependency(
            tenant_id="local", plan_id=plan_id, task_id=task_id, on_task_id=on_task_id, decision=decision
        )

    dropped = [decide(second, first, decision) for decision in DependencyDecision]
    await scheduler.commit(1, [decide(third, second, DependencyDecision.BLOCKS), *dropped])
    await scheduler.commit(2, [decide(third, first, DependencyDecision.BLOCKS)])
    (part,) = await loaded(scheduler, plan_id)
    assert sorted(part.edges) == [(third, first), (third, second)]


async def test_what_is_fenced_is_loaded_until_a_batch_has_ended_it(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    plan_id, (task_id, _) = await leased(stores, scheduler, 7, 8)
    await scheduler.commit(
        2,
        [
            AskCancel(token=7, reason="by request"),
            end(8),
            SavePlan(plan_id=plan_id, state=PlanState.DONE, until_task=0, budget_micros=0),
        ],
    )
    await scheduler.fate(7, may_fence=True, reason="executor lost")
    assert await scheduler.unfinished_plans() == [plan_id]
    (part,) = await loaded(scheduler, plan_id)
    (live,) = part.attempts
    assert (live.task_id, live.state, live.cancel_reason) == (task_id, "lost", "by request")
    assert live.end_reason == "executor lost"
    await scheduler.commit(3, [end(7)])
    (part,) = await loaded(scheduler, plan_id)
    assert part.attempts == ()
    assert await scheduler.unfinished_plans() == []


async def test_what_attempts_cost_is_spent(stores: Stores, scheduler: SchedulerStore) -> None:
    plan_id, _ = await leased(stores, scheduler, 7)
    x1 = stores.executor()
    await x1.start([7])
    await x1.save_results([(7, DONE)])
    (part,) = await loaded(scheduler, plan_id)
    assert part.plan.spent_micros == 0, "the scheduler counts it when it takes the result"
    assert [(live.state, live.reserved_micros) for live in part.attempts] == [("started", 42)], "till then"
    await scheduler.commit(2, [TakeResult(token=7)])
    (part,) = await loaded(scheduler, plan_id)
    assert (part.plan.spent_micros, part.attempts) == (42, ())


async def test_what_is_reserved_comes_back_and_what_nobody_knows_was_spent_counts(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    plan_id, ids = stores.plan(2)
    leases = [
        replace(lease(token, plan_id=plan_id, task_id=task_id), reserved_micros=50)
        for token, task_id in zip((7, 8), ids, strict=True)
    ]
    plan = SavePlan(
        plan_id=plan_id, state=PlanState.ACTIVE, until_task=0, budget_micros=99, fruitless_micros=5
    )
    await scheduler.commit(1, [*leases, plan])
    (assignment,) = await stores.executor().start([7])
    assert assignment.limits.cost_micros_max == 50
    await scheduler.fate(7, may_fence=True, reason="executor lost")
    await scheduler.commit(2, [end(7, kept_micros=50)])

    (part,) = await loaded(scheduler, plan_id)
    assert (part.plan.spent_micros, part.plan.budget_micros, part.plan.fruitless_micros) == (50, 99, 5)
    assert [task.spent_micros for task in part.tasks] == [50, 0]
    assert [(live.token, live.reserved_micros) for live in part.attempts] == [(8, 50)]
    controls = await scheduler.controls()
    assert (dict(controls.spent), controls.spent_today) == ({"local": 50}, 50)


@pytest.mark.parametrize(("count", "sizes"), [(1000, [1000, 0]), (1001, [1000, 1])])
async def test_a_large_plan_comes_in_slices(
    stores: Stores, scheduler: SchedulerStore, count: int, sizes: list[int]
) -> None:
    edges = [(0, count - 1), (count - 1, 0)]
    plan_id, ids = stores.plan(count, edges=edges)
    parts = await loaded(scheduler, plan_id)
    assert [len(part.tasks) for part in parts] == sizes
    assert [task.task_id for part in parts for task in part.tasks] == ids
    assert {e for part in parts for e in part.edges} == {(ids[task], ids[on]) for task, on in edges}
    for part in parts:
        assert {task for task, _ in part.edges} <= {task.task_id for task in part.tasks}


async def test_there_is_no_such_plan(scheduler: SchedulerStore) -> None:
    with pytest.raises(NotFound, match="no plan 99"):
        await loaded(scheduler, 99)


async def test_plans_that_are_over_are_not_loaded_unless_something_still_runs(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    states = ("submitted", "active", "paused", "stalled", "done", "cancelled")
    made = {state: stores.plan(1, state=state) for state in states}
    ids = {state: plan_id for state, (plan_id, _) in made.items()}
    assert await scheduler.submitted_plans() == [ids["submitted"]]
    unfinished = [ids[state] for state in states[:4]]
    assert await scheduler.unfinished_plans() == unfinished
    await scheduler.commit(1, [lease(7, plan_id=ids["cancelled"], task_id=made["cancelled"][1][0])])
    assert await scheduler.unfinished_plans() == [*unfinished, ids["cancelled"]]
