"""What a commit of the scheduler promises, on PostgreSQL and in memory alike: everything or nothing."""

from __future__ import annotations

import pytest

from orchestrator.core.commands import (
    AskCancel,
    ReleaseTask,
    RowCommand,
    SavePlan,
    SaveTaskBudget,
    TakeResult,
)
from orchestrator.core.words import PlanState, TaskState
from orchestrator.errors import DatabaseUnavailable, InvariantViolation
from orchestrator.ports import SchedulerStore
from tests.support.rows import end, lease, record, save
from tests.support.stores import DONE, LONG_S, Stores, leased, loaded


@pytest.mark.parametrize("missed", ["task", "attempt", "plan", "token", "number", "second live attempt"])
async def test_a_guard_that_misses_leaves_no_trace(
    stores: Stores, scheduler: SchedulerStore, missed: str
) -> None:
    plan_id, (first, second, third) = stores.plan(3)
    await scheduler.commit(
        1, [lease(7, plan_id=plan_id, task_id=first), save(first), lease(9, plan_id=plan_id, task_id=third)]
    )
    wrongs: dict[str, RowCommand] = {
        "task": save(second, expected=3, version=4),
        "attempt": end(99),
        "plan": SavePlan(plan_id=plan_id + 1, state=PlanState.PAUSED, until_task=0, budget_micros=0),
        "token": lease(9, plan_id=plan_id, task_id=second, number=2),
        "number": lease(10, plan_id=plan_id, task_id=first, number=1),
        "second live attempt": lease(10, plan_id=plan_id, task_id=third, number=2),
    }
    batch: list[RowCommand] = [
        save(first, expected=1, version=2, state=TaskState.DONE),
        end(7),
        record("task.done", plan_id=plan_id),
    ]
    with pytest.raises(InvariantViolation):
        await scheduler.commit(2, [*batch, wrongs[missed]])
    assert stores.attempts() == {7: ("leased", ""), 9: ("leased", "")}
    assert (stores.versions(), stores.events()) == ([1, 0, 0], [])
    assert set(await scheduler.beats()) == {7, 9}
    assert await scheduler.last_batch() == 1
    await scheduler.commit(2, batch)
    assert stores.attempts()[7] == ("lost", "executor lost")
    assert set(await scheduler.beats()) == {9}
    assert await scheduler.last_batch() == 2


async def test_several_writes_of_one_task_have_the_guard_of_the_first_and_the_values_of_the_last(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    plan_id, (task_id,) = stores.plan(1)
    writes = [save(task_id, expected=n, version=n + 1, reason=str(n)) for n in range(3)]
    await scheduler.commit(1, writes)
    ((task,),) = [part.tasks for part in await loaded(scheduler, plan_id)]
    assert (task.version, task.reason) == (3, "2")


async def test_what_a_person_lets_through_stays_so(stores: Stores, scheduler: SchedulerStore) -> None:
    plan_id, (first, second) = stores.plan(2)
    await scheduler.commit(1, [save(first), ReleaseTask(task_id=first)])
    await scheduler.commit(2, [save(first, expected=1, version=2), save(second)])
    ((one, other),) = [part.tasks for part in await loaded(scheduler, plan_id)]
    assert (one.is_released, one.version, other.is_released) == (True, 2, False)


async def test_what_a_person_lets_a_task_spend_stays_so(stores: Stores, scheduler: SchedulerStore) -> None:
    plan_id, (first, _) = stores.plan(2)
    await scheduler.commit(1, [SaveTaskBudget(task_id=first, budget_micros=n) for n in (9, 7)])
    await scheduler.commit(2, [save(first)])
    ((one, other),) = [part.tasks for part in await loaded(scheduler, plan_id)]
    assert (one.budget_micros, other.budget_micros) == (7, 0)


async def test_what_ends_makes_room_in_its_own_batch(stores: Stores, scheduler: SchedulerStore) -> None:
    plan_id, (task_id,) = await leased(stores, scheduler, 7)
    await scheduler.commit(2, [lease(8, plan_id=plan_id, task_id=task_id, number=2), end(7)])
    assert stores.attempts() == {7: ("lost", "executor lost"), 8: ("leased", "")}
    assert set(await scheduler.beats()) == {8}


async def test_an_attempt_ends_once_but_a_loss_may_be_told_twice(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    await leased(stores, scheduler, 7, 8)
    await scheduler.commit(2, [end(7)])
    with pytest.raises(InvariantViolation):
        await scheduler.commit(3, [end(7)])
    await scheduler.fate(8, may_fence=True, reason="executor lost")
    with pytest.raises(InvariantViolation):  # what is fenced has no result
        await scheduler.commit(3, [TakeResult(token=8)])
    await scheduler.commit(3, [end(8)])
    assert stores.attempts()[8] == ("lost", "executor lost")


async def test_only_a_stored_result_is_taken_and_only_once(stores: Stores, scheduler: SchedulerStore) -> None:
    await leased(stores, scheduler, 7)
    x1 = stores.executor()
    for step in (None, x1.start([7])):
        if step is not None:
            await step
        with pytest.raises(InvariantViolation):
            await scheduler.commit(2, [TakeResult(token=7)])
    await x1.save_results([(7, DONE)])
    assert stores.attempts() == {7: ("succeeded", "reported")}
    assert set(await scheduler.beats()) == {7}
    await scheduler.commit(2, [TakeResult(token=7)])
    assert await scheduler.beats() == {}
    with pytest.raises(InvariantViolation):
        await scheduler.commit(3, [TakeResult(token=7)])
    with pytest.raises(InvariantViolation):  # what was reported is never lost
        await scheduler.commit(3, [end(7)])


async def test_a_wish_for_what_has_ended_changes_nothing(stores: Stores, scheduler: SchedulerStore) -> None:
    await leased(stores, scheduler, 7)
    await scheduler.commit(2, [end(7)])
    await scheduler.commit(3, [AskCancel(token=7, reason="too late")])
    assert stores.attempts() == {7: ("lost", "executor lost")}
    assert await scheduler.beats() == {}


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_outcome_of_a_cut_commit_can_be_looked_up(stores: Stores, when: str) -> None:
    plan_id, (task_id,) = stores.plan(1)
    with stores.cutting(when) as (scheduler, cut_next_commit):
        await scheduler.take_term(incarnation="s1", is_starting=True, patience_s=LONG_S)
        batch = [lease(7, plan_id=plan_id, task_id=task_id)]
        cut_next_commit()
        with pytest.raises(DatabaseUnavailable):
            await scheduler.commit(1, batch)
        was_committed = await scheduler.last_batch() == 1
        assert was_committed is (when == "after")
        assert set(stores.attempts()) == ({7} if was_committed else set())
        if not was_committed:
            await scheduler.commit(1, batch)
        assert set(stores.attempts()) == {7}


async def test_tokens_come_in_blocks_that_do_not_overlap(stores: Stores, scheduler: SchedulerStore) -> None:
    other = stores.scheduler()
    blocks = [await store.reserve_tokens() for store in (scheduler, other, scheduler)]
    taken = [set(range(first, first + count)) for first, count in blocks]
    assert len(set.union(*taken)) == sum(map(len, taken))
