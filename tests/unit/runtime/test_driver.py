"""The scheduler's loop: commit first, act after; and what follows when database or executors are away."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import LeaseAttempt
from orchestrator.core.leases import START_TIMEOUT
from orchestrator.errors import Conflict, Fenced, NotFound, Overloaded
from orchestrator.runtime import commits
from orchestrator.runtime import driver as driver_module
from tests.support.driven import Stage, has_event, running, worked


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "RECONNECT_S", 0.001)


def _lease(rows: list) -> bool:
    return any(isinstance(row, LeaseAttempt) for row in rows)


# --- commit first


async def test_nothing_is_started_before_its_lease_is_committed() -> None:
    stage = Stage()
    stage.has_plan(1)
    async with running(stage):
        await stage.driver.load_plan(1)
        stage.store.may_commit.clear()
        stage.join()
        await stage.store.signal.until(lambda: any(_lease(rows) for _, rows in stage.store.sent))
        for _ in range(10):
            await asyncio.sleep(0)
        assert stage.executors.started() == []
        stage.store.may_commit.set()
        await stage.executors.signal.until(stage.executors.started)
        assert stage.executors.started() == [row.token for row in stage.store.leased()]


async def test_what_was_decided_while_a_commit_failed_is_neither_written_nor_done() -> None:
    stage = Stage()
    stage.has_plan(1)
    async with running(stage) as run:
        await stage.driver.load_plan(1)
        stage.store.may_commit.clear()
        stage.join()
        await stage.store.signal.until(lambda: any(_lease(rows) for _, rows in stage.store.sent))
        sent = len(stage.store.sent)
        asking = asyncio.create_task(stage.driver.request("pause_plan", {"plan_id": 1}))
        await stage.handled(e.Requested)
        stage.store.breaks = ["fenced"]
        stage.store.may_commit.set()
        with pytest.raises(Overloaded, match="starting again"):
            await asking
        with pytest.raises(Fenced):
            await run
    assert stage.executors.started() == []
    assert len(stage.store.sent) == sent


async def test_nothing_is_decided_while_a_commit_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "AHEAD_S", -1.0)
    stage = Stage()
    stage.has_plan(1)
    async with running(stage):
        await stage.driver.load_plan(1)
        stage.store.may_commit.clear()
        stage.join()
        await stage.handled(e.ExecutorJoined)
        await stage.store.signal.until(lambda: any(_lease(rows) for _, rows in stage.store.sent))
        stage.tick()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not isinstance(stage.state.handled[-1], e.Tick)
        stage.store.may_commit.set()
        await stage.handled(e.Tick)


async def test_a_batch_that_was_not_committed_is_sent_again_as_the_same_batch() -> None:
    stage = Stage()
    async with running(stage):
        stage.store.breaks = ["lost", "lost"]
        await stage.running_attempt()
        await stage.handled(e.DatabaseReturned)
        tries = [(batch, rows) for batch, rows in stage.store.sent if batch == stage.store.sent[0][0]]
        assert len(tries) == 3
        assert tries[0] == tries[1] == tries[2]
        assert stage.executors.started() == [1]
        assert not stage.driver.is_database_away


async def test_a_batch_whose_answer_was_lost_is_not_written_twice() -> None:
    stage = Stage()
    stage.has_plan(1)
    async with running(stage):
        await stage.driver.load_plan(1)
        stage.store.breaks = ["cut"]
        stage.join()
        await stage.executors.signal.until(stage.executors.started)
        await stage.handled(e.DatabaseReturned)
        assert len(stage.store.leased()) == 1
        assert stage.executors.started() == [1]


async def test_leases_count_afresh_after_the_database_was_away() -> None:
    stage = Stage()
    async with running(stage):
        token = await stage.running_attempt()
        stage.store.breaks = ["lost"]
        stage.driver.post(e.AttemptStarted(token=token))
        await stage.store.signal.until(lambda: not stage.store.breaks)
        stage.clock.ms += 500_000
        await stage.handled(e.DatabaseReturned)
        assert stage.state.attempts[token].beat_at_ms == stage.clock.ms


async def test_starts_count_afresh_before_any_tick_of_the_outage_is_taken() -> None:
    stage = Stage()
    stage.has_plan(1, 2)
    async with running(stage):
        await stage.driver.load_plan(1)
        stage.join()
        await stage.executors.signal.until(lambda: len(stage.executors.started()) == 2)
        stage.store.breaks = ["lost"]
        stage.driver.post(e.AttemptStarted(token=1))
        await stage.store.signal.until(lambda: not stage.store.breaks)
        stage.tick(500_000)
        await stage.handled(e.Tick)
        assert stage.state.attempts[2].leased_at_ms == stage.clock.ms
        assert not stage.state.attempts[2].prove_reason


async def test_starts_count_afresh_too_when_it_was_only_tokens_that_could_not_be_had() -> None:
    stage = Stage()
    stage.has_plan(1)
    async with running(stage):
        await stage.driver.load_plan(1)
        stage.join()
        await stage.executors.signal.until(stage.executors.started)
        stage.store.may_reserve.clear()
        stage.state.tokens = [range(200_000, 200_001)]
        stage.driver.post(e.AttemptStarted(token=9))
        await stage.store.signal.until(lambda: stage.store.reservations == 1)
        stage.store.is_away = True
        stage.store.may_reserve.set()
        await stage.store.signal.until(lambda: stage.driver.is_database_away)
        stage.tick(500_000)
        stage.store.is_away = False
        await stage.handled(e.Tick)
        assert stage.state.attempts[1].leased_at_ms == stage.clock.ms
        assert not stage.state.attempts[1].prove_reason
        assert not stage.driver.is_database_away


async def test_the_time_of_a_commit_that_hung_and_then_came_true_counts_for_no_start() -> None:
    stage = Stage()
    stage.has_plan(1, 2)
    async with running(stage):
        await stage.driver.load_plan(1)
        stage.join()
        await stage.executors.signal.until(lambda: len(stage.executors.started()) == 2)
        stage.store.may_commit.clear()
        stage.driver.post(e.AttemptStarted(token=1))
        await stage.store.signal.until(lambda: has_event(stage.store.sent[-1][1], "attempt.started", 1))
        stage.clock.hang(500_000)
        stage.tick()
        stage.store.may_commit.set()
        await stage.handled(e.Tick)
        assert not stage.state.attempts[2].prove_reason
        assert stage.executors.started() == [1, 2]
        stage.tick(20_000)
        await stage.handled(e.Tick, times=2)
        assert stage.state.attempts[2].prove_reason == START_TIMEOUT


async def test_a_lost_term_ends_the_loop_and_whoever_waits_may_try_again() -> None:
    stage = Stage()
    stage.has_plan(1, 2)
    async with running(stage) as run:
        await stage.driver.load_plan(1)
        stage.store.breaks = ["fenced"]
        with pytest.raises(Overloaded):
            await stage.driver.request("cancel_task", {"plan_id": 1, "task_id": 1})
        with pytest.raises(Fenced):
            await run
        with pytest.raises(Overloaded):  # not an answer that never comes
            await stage.driver.request("cancel_task", {"plan_id": 1, "task_id": 2})
        with pytest.raises(Overloaded):
            await stage.driver.load_plan(7)


async def test_nothing_to_write_is_not_written_until_the_term_must_be_renewed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    async with running(stage):
        await stage.store.signal.until(lambda: stage.store.sent)
        handled = len(stage.state.handled)
        for _ in range(5):
            stage.tick()
        await stage.driver.ask(lambda n: e.ExecutorRetired(executor="x", request_id=n))
        assert len(stage.state.handled) == handled + 6
        assert len(stage.store.sent) == 1
        monkeypatch.setattr(driver_module, "RENEW_S", 0.01)
        monkeypatch.setattr(commits, "RENEW_S", 0.01)
        stage.driver._renew_at_s = 0.0
        stage.tick()
        await stage.store.signal.until(lambda: len(stage.store.sent) > 3)


# --- requests


async def test_a_request_is_answered_after_its_commit() -> None:
    stage = Stage()
    stage.has_plan(1)
    async with running(stage):
        await stage.driver.load_plan(1)
        stage.store.may_commit.clear()
        args = {"plan_id": 1, "task_id": 1, "reason": "a NUL \0 and a lone \ud800"}
        request = asyncio.create_task(stage.driver.request("cancel_task", args))
        await stage.store.signal.until(lambda: len(stage.store.sent[-1][1]) > 0)
        assert not request.done()
        stage.store.may_commit.set()
        assert await request == {"cancelled": 1, "cancelling": 0}
        assert stage.store.states() == {1: "cancelled"}
        reasons = [row.reason for _, rows in stage.store.sent for row in rows if hasattr(row, "reason")]
        assert "a NUL \ufffd and a lone \ufffd" in reasons


async def test_what_the_state_does_not_allow_is_a_conflict() -> None:
    stage = Stage()
    stage.has_plan(1)
    async with running(stage):
        with pytest.raises(Conflict, match="not held"):
            await stage.driver.request("release_task", {"plan_id": 1, "task_id": 1})
        with pytest.raises(NotFound, match="There is no plan 9"):
            await stage.driver.request("pause_plan", {"plan_id": 9})
        with pytest.raises(Conflict, match="no number"):
            await stage.driver.request("cancel_plan", {"plan_id": float("inf")})
        with pytest.raises(NotFound, match="no request 'explode'"):
            await stage.driver.request("explode", {"plan_id": 1})


async def test_a_full_inbox_refuses_requests_and_takes_reports() -> None:
    stage = Stage(inbox_max=3)  # nobody takes anything out: the loop does not run
    stage.driver.post(e.Tick())
    with pytest.raises(Overloaded, match="3 messages wait"):
        await stage.driver.ask(lambda n: e.ExecutorRetired(executor="x", request_id=n))
    stage.driver.post(e.AttemptStarted(token=1))


async def test_requests_are_refused_while_the_database_is_away() -> None:
    stage = Stage()
    stage.has_plan(1)
    async with running(stage):
        await stage.driver.load_plan(1)
        stage.store.is_away = True
        stage.join()
        await stage.store.signal.until(lambda: stage.driver.is_database_away or stage.tick())
        with pytest.raises(Overloaded, match="database is away") as refusal:
            await stage.driver.request("cancel_task", {"plan_id": 1, "task_id": 1})
        assert refusal.value.retry_after_s > 0
        stage.store.is_away = False
        await stage.handled(e.DatabaseReturned)
        await stage.driver.request("cancel_task", {"plan_id": 1, "task_id": 1})


# --- pools


async def test_pools_hear_the_newest_demand_one_call_at_a_time() -> None:
    stage = Stage()
    stage.executors.may_be_told.clear()
    async with running(stage):
        for plan_id in (1, 2, 3):
            stage.has_plan(plan_id, plan_id=plan_id)
            await stage.driver.load_plan(plan_id)
        await stage.executors.signal.until(lambda: stage.executors.told)
        assert stage.executors.told == [{"coder": 1}]
        stage.driver.repeat_demand()  # one is under way: no second beside it
        await stage.store.signal.until(lambda: stage.state.demand() == {"coder": 3})
        stage.executors.may_be_told.set()
        await stage.executors.signal.until(lambda: len(stage.executors.told) == 2)
        assert stage.executors.told == [{"coder": 1}, {"coder": 3}]
        await asyncio.sleep(0)
        stage.driver.repeat_demand()
        await stage.executors.signal.until(lambda: len(stage.executors.told) == 3)
        assert stage.executors.told[-1] == {"coder": 3}


async def test_demand_that_is_told_again_and_demand_that_is_new_are_not_told_at_once() -> None:
    stage = Stage()
    stage.has_plan(1)
    stage.has_plan(2, plan_id=2)
    async with running(stage):
        await stage.driver.load_plan(1)
        await stage.executors.signal.until(lambda: stage.executors.told)
        await asyncio.sleep(0)
        stage.executors.may_be_told.clear()
        stage.driver.repeat_demand()
        await stage.executors.signal.until(lambda: len(stage.executors.told) == 2)
        await stage.driver.load_plan(2)
        stage.driver.repeat_demand()
        stage.tick()
        await stage.handled(e.Tick)
        assert len(stage.executors.told) == 2
        stage.executors.may_be_told.set()
        await stage.executors.signal.until(lambda: len(stage.executors.told) == 3)
        assert stage.executors.told[-1] == stage.state.demand()


async def test_finishing_waits_for_what_is_live_and_then_for_what_is_queued() -> None:
    stage = Stage()
    async with running(stage) as run:
        token = await stage.running_attempt()
        finish = asyncio.create_task(stage.driver.finish(timeout_s=10))
        stage.tick()
        await stage.handled(e.Tick)
        assert not finish.done()
        stage.driver.post(worked(stage.store.tables, token))
        await finish
        await run
        assert stage.store.states()[1] == "done"
