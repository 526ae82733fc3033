"""Who may hold the term of the scheduler, and what the others may not, on PostgreSQL and in memory alike."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.errors import Fenced
from orchestrator.ports import SchedulerStore
from tests.support.rows import lease
from tests.support.stores import LONG_S, Stores

SHORT_S = 0.2


async def test_an_older_epoch_is_fenced_from_everything(stores: Stores, scheduler: SchedulerStore) -> None:
    plan_id, (task_id,) = stores.plan(1)
    new = stores.scheduler()
    term = await new.take_term(incarnation="s2", is_starting=True, patience_s=LONG_S)
    assert term.epoch == 2
    for batch in ([], [lease(7, plan_id=plan_id, task_id=task_id)]):
        with pytest.raises(Fenced):
            await scheduler.commit(1, batch)
    with pytest.raises(Fenced):
        await scheduler.last_batch()
    await scheduler.release_term()  # it is not its own any more
    await new.commit(1, [])
    assert (stores.attempts(), await new.last_batch()) == ({}, 1)


async def test_a_released_term_writes_nothing_and_is_taken_at_once_by_anybody(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    await scheduler.release_term()
    with pytest.raises(Fenced):
        await scheduler.commit(1, [])
    other = stores.scheduler(cluster="c2")
    assert (await other.take_term(incarnation="s2", is_starting=False, patience_s=LONG_S)).epoch == 2


async def test_the_same_incarnation_takes_its_own_term_again(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    term = await scheduler.take_term(incarnation="s1", is_starting=False, patience_s=LONG_S)
    assert term.epoch == 2
    assert await scheduler.last_batch() == 0


@pytest.mark.parametrize(("cluster", "is_starting"), [("c2", True), ("c1", False)])
async def test_any_other_waits_until_the_term_has_stood_still(
    stores: Stores, scheduler: SchedulerStore, cluster: str, is_starting: bool
) -> None:
    other = stores.scheduler(cluster=cluster)
    patient = asyncio.create_task(
        other.take_term(incarnation="s2", is_starting=is_starting, patience_s=LONG_S)
    )
    impatient = stores.scheduler(cluster=cluster)
    for batch in range(1, 4):
        await scheduler.commit(batch, [])
    term = await impatient.take_term(incarnation="s3", is_starting=is_starting, patience_s=SHORT_S)
    assert (term.epoch, patient.done()) == (2, False)
    patient.cancel()
    with pytest.raises(Fenced):
        await scheduler.commit(4, [])


async def test_of_many_that_start_at_once_each_epoch_has_one_holder(stores: Stores) -> None:
    made = [stores.scheduler() for _ in range(4)]
    terms = await asyncio.gather(
        *(s.take_term(incarnation=f"s{n}", is_starting=True, patience_s=LONG_S) for n, s in enumerate(made))
    )
    epochs = [term.epoch for term in terms]
    assert sorted(epochs) == [1, 2, 3, 4]
    for store, epoch in zip(made, epochs, strict=True):
        if epoch == 4:
            await store.commit(1, [])
        else:
            with pytest.raises(Fenced):
                await store.commit(1, [])
