"""The life of attempts between executors and scheduler, on PostgreSQL and in memory alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.core.commands import AskCancel, TakeResult
from orchestrator.core.events import AttemptEnded, AttemptStarted
from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.ports import Fate, Outcome, SchedulerStore
from tests.support.rows import end, lease
from tests.support.stores import DONE, FAILED, Stores, leased, loaded

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
    starts = [AttemptStarted(token=8), AttemptStarted(token=7)]
    assert await scheduler.reports() == starts  # in the order in which they came
    await x1.save_results([(8, DONE)])
    expected = AttemptEnded(token=8, state=DONE.state, failure_class=None, summary="did it", cost_micros=42)
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
