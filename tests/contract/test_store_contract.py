"""What every store of schedulers and executors promises, on PostgreSQL and in memory alike.

The simulation and the searches trust the tables in memory; here they are held to the real ones, promise by
promise and then, in the last test, by long seeded histories that must go the same way on both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import fields, replace

import pytest

from orchestrator.core.commands import (
    AskCancel,
    LeaseAttempt,
    ReleaseTask,
    RowCommand,
    SaveDependency,
    SavePlan,
    SaveTask,
    TakeResult,
)
from orchestrator.core.events import AttemptEnded, AttemptStarted, LiveAttempt
from orchestrator.core.task import Task
from orchestrator.core.words import (
    AttemptKind,
    AttemptState,
    DependencyDecision,
    FailureClass,
    PlanState,
    TaskState,
)
from orchestrator.errors import DatabaseUnavailable, Fenced, InvariantViolation, NotFound
from orchestrator.ports import Fate, Outcome, PlanSlice, SchedulerStore, Usage
from tests.support.rows import end, lease, record, save
from tests.support.stores import MemoryStores, PostgresStores, Stores

DONE = Outcome(state=AttemptState.SUCCEEDED, summary="did it", usage=Usage(cost_micros=42))
FAILED = Outcome(
    state=AttemptState.FAILED, failure_class=FailureClass.GATE, summary="gate failed", detail="expected 1"
)

#: Long enough that a term taken within it was not waited for, on any machine.
LONG_S = 60.0

SHORT_S = 0.2


@pytest.fixture(params=["postgres", "memory"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    made = (
        PostgresStores(request.getfixturevalue("database")) if request.param == "postgres" else MemoryStores()
    )
    yield made
    await made.close()


@pytest.fixture
async def scheduler(stores: Stores) -> SchedulerStore:
    """The store of the scheduler that holds the term."""
    made = stores.scheduler()
    await made.take_term(incarnation="s1", is_starting=True, patience_s=LONG_S)
    return made


async def leased(stores: Stores, scheduler: SchedulerStore, *tokens: int) -> tuple[int, list[int]]:
    """Have a task leased for each token; return plan and tasks."""
    plan_id, ids = stores.plan(len(tokens))
    rows = [lease(token, plan_id=plan_id, task_id=i) for token, i in zip(tokens, ids, strict=True)]
    await scheduler.commit(1, rows)
    return plan_id, ids


async def loaded(scheduler: SchedulerStore, plan_id: int) -> list[PlanSlice]:
    return [part async for part in scheduler.load_plan(plan_id)]


# --- commit: everything or nothing


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


# --- the term


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


# --- starts


async def test_only_a_leased_attempt_of_the_executor_starts(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    await leased(stores, scheduler, 1, 2, 3)
    await scheduler.commit(2, [end(2)])
    await scheduler.fate(3, may_fence=False, reason="start timeout")
    assert await stores.executor("x2").start([1]) == []
    assert [a.token for a in await stores.executor("x1").start([1, 2, 3, 99])] == [1]
    assert stores.starts() == {1: "i1"}


async def test_one_incarnation_may_repeat_its_start_and_another_gets_nothing(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    await leased(stores, scheduler, 7)
    first = await stores.executor().start([7])
    assert [a.token for a in first] == [7]
    assert await stores.executor(incarnation="i2").start([7]) == []
    assert await stores.executor().start([7, 7]) == first
    await scheduler.commit(2, [end(7)])
    assert await stores.executor().start([7]) == []
    assert stores.starts() == {7: "i1"}


async def test_an_assignment_carries_what_the_last_failed_attempt_said(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    plan_id, (task_id,) = await leased(stores, scheduler, 1)
    x1 = stores.executor()
    await x1.start([1])
    await x1.save_results([(1, FAILED)])
    await scheduler.commit(2, [TakeResult(token=1)])
    await scheduler.commit(3, [lease(2, plan_id=plan_id, task_id=task_id, number=2)])
    await scheduler.fate(2, may_fence=False, reason="start timeout")
    await scheduler.commit(4, [end(2)])
    await scheduler.commit(5, [lease(3, plan_id=plan_id, task_id=task_id, number=3)])
    (assignment,) = await x1.start([3])
    assert (assignment.token, assignment.number, assignment.task_id) == (3, 3, task_id)
    assert assignment.feedback == "gate failed\nexpected 1"


async def test_a_review_gets_the_work_that_it_judges_and_the_work_after_it_why_it_was_refused(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    """Three rounds: work 1 fails, work 2 is refused by review 1, work 3 is judged by review 2."""
    plan_id, (task_id,) = await leased(stores, scheduler, 1)
    done = Outcome(state=AttemptState.SUCCEEDED, summary="did it", detail="well")
    refused = Outcome(
        state=AttemptState.FAILED, failure_class=FailureClass.GATE, summary="no", detail="units"
    )
    rounds = (
        (1, AttemptKind.WORK, 1, FAILED),
        (2, AttemptKind.WORK, 2, done),
        (3, AttemptKind.REVIEW, 1, refused),
        (4, AttemptKind.WORK, 3, replace(done, summary="mended it")),
        (5, AttemptKind.REVIEW, 2, done),
    )
    told, x1 = [], stores.executor()
    for token, kind, number, outcome in rounds:
        if token > 1:
            attempt = replace(lease(token, plan_id=plan_id, task_id=task_id, number=number), kind=kind)
            await scheduler.commit(2 * token, [attempt])
        (assignment,) = await x1.start([token])
        told.append(" ".join(assignment.feedback.split()))
        await x1.save_results([(token, outcome)])
        await scheduler.commit(2 * token + 1, [TakeResult(token=token)])
    assert told == ["", "gate failed expected 1", "did it well", "no units", "mended it well"]


# --- results


async def test_a_result_is_stored_once_and_the_first_one_stays(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    await leased(stores, scheduler, 7)
    x1 = stores.executor()
    await x1.start([7])
    assert await x1.save_results([(7, FAILED)]) == {7}
    assert await x1.save_results([(7, DONE)]) == {7}
    ended = [report for report in await scheduler.reports() if isinstance(report, AttemptEnded)]
    assert [report.state for report in ended] == [AttemptState.FAILED]
    await scheduler.commit(2, [TakeResult(token=7)])
    assert await x1.save_results([(7, DONE)]) == {7}  # stored long ago


async def test_a_fenced_result_is_refused_and_the_others_are_stored(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    await leased(stores, scheduler, 1, 2)
    x1 = stores.executor()
    await x1.start([1, 2])
    await scheduler.fate(1, may_fence=True, reason="executor lost")
    assert await x1.save_results([(1, DONE), (2, DONE), (99, DONE)]) == {2}
    await scheduler.commit(2, [end(1)])
    assert await x1.save_results([(1, DONE)]) == set()


async def test_what_is_stored_is_reported_until_it_is_taken(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    await leased(stores, scheduler, 7, 8)
    x1 = stores.executor()
    assert await scheduler.reports() == []
    await x1.start([8])
    await x1.start([7])
    starts = [AttemptStarted(at_ms=0, token=8), AttemptStarted(at_ms=0, token=7)]
    assert await scheduler.reports() == starts  # in the order in which they came
    await x1.save_results([(8, DONE)])
    expected = AttemptEnded(
        at_ms=0, token=8, state=DONE.state, failure_class=None, summary="did it", cost_micros=42
    )
    assert await scheduler.reports() == [starts[1], expected]
    await scheduler.commit(2, [TakeResult(token=8)])
    assert await scheduler.reports() == [starts[1]]


# --- fate


@pytest.mark.parametrize("is_gone", [False, True])
async def test_an_attempt_without_a_start_is_lost_and_can_start_no_more(
    stores: Stores, scheduler: SchedulerStore, is_gone: bool
) -> None:
    await leased(stores, scheduler, 7)
    x1 = stores.executor()
    for _ in range(2):  # asked again, it says the same
        assert await scheduler.fate(7, may_fence=is_gone, reason="why") == Fate(
            verdict="fenced", reason="why"
        )
    assert stores.attempts() == {7: ("lost", "why")}
    assert await x1.start([7]) == []
    assert await x1.save_results([(7, DONE)]) == set()
    assert set(await scheduler.beats()) == {7}  # the lease goes with the attempt's end
    await scheduler.commit(2, [end(7)])
    assert await scheduler.beats() == {}


async def test_what_started_stays_until_it_is_proven_gone(stores: Stores, scheduler: SchedulerStore) -> None:
    plan_id, _ = await leased(stores, scheduler, 7)
    x1 = stores.executor()
    await x1.start([7])
    started = Fate(verdict="started", node_id="node of x1")
    assert await scheduler.fate(7, may_fence=False, reason="why") == started
    assert stores.attempts() == {7: ("started", "")}
    assert await scheduler.fate(7, may_fence=True, reason="why") == Fate(verdict="fenced", reason="why")
    assert stores.attempts() == {7: ("lost", "why")}
    ((fenced,),) = [part.attempts for part in await loaded(scheduler, plan_id)]
    assert fenced.started_at_ms  # recovery judges the loss by it
    assert await x1.save_results([(7, DONE)]) == set()


async def test_a_stored_result_wins_even_over_a_proven_death(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    await leased(stores, scheduler, 7)
    x1 = stores.executor()
    await x1.start([7])
    await x1.save_results([(7, FAILED)])
    for is_gone in (False, True):
        fate = await scheduler.fate(7, may_fence=is_gone, reason="why")
        assert fate.verdict == "result"
        assert fate.result is not None
        assert (fate.result.state, fate.result.failure_class) == (FAILED.state, FAILED.failure_class)
    assert stores.attempts() == {7: ("failed", "reported")}


async def test_what_has_ended_or_never_was_is_over(stores: Stores, scheduler: SchedulerStore) -> None:
    await leased(stores, scheduler, 7)
    await stores.executor().start([7])
    await stores.executor().save_results([(7, DONE)])
    await scheduler.commit(2, [TakeResult(token=7)])
    for token in (7, 99):
        assert await scheduler.fate(token, may_fence=True, reason="why") == Fate(verdict="over")


# --- leases


async def test_beats_are_bumped_for_what_has_a_lease_and_bring_wishes_to_cancel(
    stores: Stores, scheduler: SchedulerStore
) -> None:
    await leased(stores, scheduler, 1, 2, 3)
    beats = stores.beats()
    assert beats.renew([1, 2, 3]) == {1: None, 2: None, 3: None}
    await scheduler.commit(2, [AskCancel(token=1, reason="by request"), end(2)])
    assert beats.renew([1, 2, 3, 99]) == {1: "by request", 3: None}
    assert await scheduler.beats() == {1: 2, 3: 2}


# --- plans


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
    assert [live.state for live in part.attempts] == ["started"]
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
