"""The scheduler's loop: plans that are read while others run, and attempts of which nobody hears."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import EndAttempt
from orchestrator.core.task import TaskRules
from orchestrator.core.words import AttemptState, HoldReason, Proof, RetryLost
from orchestrator.errors import Conflict
from orchestrator.ports import Revision
from orchestrator.runtime import commits
from tests.support.core import PLAN, spec
from tests.support.driven import Stage, has_event, running, worked


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "RECONNECT_S", 0.001)


# --- plans


async def test_callers_of_one_plan_share_one_reading() -> None:
    stage = Stage()
    stage.has_plan(1, 2)
    stage.store.may_read.clear()
    async with running(stage):
        both = [
            asyncio.create_task(stage.driver.load_plan(1)),
            asyncio.create_task(stage.driver.request("cancel_task", {"plan_id": 1, "task_id": 1})),
        ]
        await stage.store.signal.until(lambda: stage.store.readings)
        stage.store.may_read.set()
        await asyncio.gather(*both)
        await stage.driver.load_plan(1)
        assert stage.store.readings == [1]
        assert stage.state.plans[1].task_ids == [1, 2]


async def test_a_reading_that_broke_begins_again_and_counts_nothing_twice() -> None:
    stage = Stage()
    stage.store.tables.add_plan(PLAN, [spec(n) for n in (1, 2, 3)], [(2, 1), (3, 1)])
    stage.store.slice_size = 1
    stage.store.breaks_reading_after = [2]
    async with running(stage):
        await stage.driver.load_plan(1)
        assert stage.store.readings == [1, 1]
        assert stage.state.plans[1].task_ids == [1, 2, 3]
        assert {n: task.unmet for n, task in stage.state.tasks.items()} == {1: 0, 2: 1, 3: 1}


async def test_other_events_pass_between_the_slices_of_a_plan() -> None:
    stage = Stage()
    stage.has_plan(1, 2, 3, 4, 5)
    stage.store.slice_size = 1
    async with running(stage):
        load = asyncio.create_task(stage.driver.load_plan(1))
        await stage.store.signal.until(lambda: stage.store.readings)
        stage.store.may_commit.clear()
        stage.driver.post(e.DatabaseReturned())
        stage.store.may_commit.set()
        await load
        kinds = [type(event) for event in stage.state.handled]
        assert kinds.index(e.DatabaseReturned) < len(kinds) - 1 - kinds[::-1].index(e.PlanSliceLoaded)


async def test_a_plan_that_left_memory_is_read_after_what_was_decided_about_it_is_written() -> None:
    stage = Stage()
    stage.has_plan(1)
    async with running(stage):
        await stage.driver.load_plan(1)
        stage.store.may_commit.clear()
        stage.driver.post(
            e.Requested(request_id=99, kind="cancel_plan", tenant_id="local", plan_id=1, reason="enough")
        )
        stage.tick()
        await stage.store.signal.until(lambda: 1 not in stage.state.plans)
        load = asyncio.create_task(stage.driver.load_plan(1))
        for _ in range(10):  # it gets every chance to be too early
            await asyncio.sleep(0)
        assert stage.store.readings == [1]
        stage.store.may_commit.set()
        await load
        assert stage.store.readings == [1, 1]


async def test_what_is_asked_of_a_plan_that_is_being_read_again_waits_for_it() -> None:
    stage = Stage()
    stage.has_plan(1)
    async with running(stage):
        await stage.driver.request("cancel_plan", {"plan_id": 1})
        stage.store.may_commit.clear()
        paused = asyncio.create_task(stage.driver.request("pause_all", {}))
        await stage.handled(e.Requested, times=2)
        stage.clock.hang(1_000)  # nothing is decided for now
        stage.tick()  # the plan leaves memory before it is asked ...
        asked = asyncio.create_task(stage.driver.request("cancel_plan", {"plan_id": 1}))
        await asyncio.sleep(0)
        (part,) = stage.store.tables.load_plan(1)  # ... and is not wholly there again when that is answered
        again = e.PlanSliceLoaded(plan=part.plan, tasks=part.tasks, edges=part.edges)
        stage.driver.post(again)
        stage.store.may_commit.set()
        await paused
        await stage.handled(e.Requested, times=4)
        stage.driver.post(e.PlanLoaded(plan_id=1))
        assert (await asked)["state"] == "cancelled"


async def test_a_decision_waits_for_the_text_that_is_on_its_way_and_is_checked_against_it() -> None:
    stage = Stage()
    stage.has_plan(1, 2)
    async with running(stage):
        await stage.driver.load_plan(1)
        revision = Revision(id=stage.store.tables.add_revision(1, [spec(1), spec(2)], [(2, 1)]), plan_id=1)
        stage.store.may_read.clear()
        taking = asyncio.create_task(stage.driver.take_revision(revision))
        await stage.store.signal.until(lambda: len(stage.store.readings) == 2)
        decided = asyncio.create_task(
            stage.driver.request("add_dependency", {"plan_id": 1, "task_id": 1, "on_task": 2})
        )
        await stage.driver.request("pause_plan", {"plan_id": 1})  # nothing else waits
        assert not decided.done()
        stage.store.may_read.set()
        await taking
        with pytest.raises(Conflict, match="task 2 → task 1 → task 2"):
            await decided


async def test_a_text_is_taken_after_every_decision_before_it_whoever_has_gone() -> None:
    stage = Stage()
    stage.has_plan(1, 2, 3)
    async with running(stage):
        await stage.driver.load_plan(1)
        revision = Revision(id=stage.store.tables.add_revision(1, [spec(1), spec(2)], [(2, 1)]), plan_id=1)
        stage.store.may_commit.clear()
        decision = {"plan_id": 1, "task_id": 3, "on_task": 2}
        decided = asyncio.create_task(stage.driver.request("add_dependency", decision))
        await asyncio.sleep(0)
        decided.cancel()
        taking = asyncio.create_task(stage.driver.take_revision(revision))
        await stage.handled(e.Requested)
        assert stage.store.tables.revisions[1].state == "submitted"
        stage.store.may_commit.set()
        await taking
        assert stage.store.tables.edges[3] == (2,)
        assert stage.state.tasks[3].unmet == 1


# --- attempts of which nobody hears


async def test_an_attempt_that_never_started_is_lost_and_leased_again() -> None:
    stage = Stage()
    async with running(stage):
        token = await stage.running_attempt()
        stage.tick(8_000)
        await stage.executors.signal.until(lambda: stage.executors.started() == [token, token])
        stage.tick(12_000)
        await stage.handled(e.AttemptLost)
        stage.tick(5_000)  # its back-off
        await stage.executors.signal.until(lambda: len(stage.executors.started()) == 3)
        assert stage.store.asked_fates == [(token, False, "start timeout")]
        assert stage.executors.kills == []
        assert [row.number for row in stage.store.leased()] == [1, 2]


async def test_a_start_that_is_stored_ends_the_start_timeout() -> None:
    stage = Stage()
    async with running(stage):
        token = await stage.running_attempt()
        stage.store.tables.start([token], executor="x1", incarnation="i1")
        stage.tick(20_000)
        await stage.store.signal.until(lambda: has_event(stage.store.written, "attempt.started", token))
        assert stage.executors.kills == []
        assert stage.state.attempts[token].state is AttemptState.STARTED


async def test_a_start_of_which_nobody_told_counts_when_its_executor_is_lost() -> None:
    stage = Stage()
    async with running(stage):
        stage.has_plan(1, rules=TaskRules(retry_lost=RetryLost.NEVER))
        stage.join()
        await stage.driver.load_plan(1)
        await stage.executors.signal.until(stage.executors.started)
        (token,) = stage.executors.started()
        stage.store.tables.start([token], executor="x1", incarnation="i1")
        stage.driver.post(e.ExecutorLost(executor="x1"))
        await stage.handled(e.AttemptLost)
        assert stage.state.tasks[1].reason == HoldReason.LOST.value


@pytest.mark.parametrize("reason", ["executor lost", "lease expired"])
async def test_what_started_is_lost_only_when_it_is_proven_gone(reason: str) -> None:
    stage = Stage()
    stage.executors.proofs = [Proof.UNPROVEN, Proof.UNPROVEN, Proof.GONE]
    async with running(stage):
        token = await stage.running_attempt()
        stage.driver.post(e.AttemptStarted(token=token))
        stage.store.tables.start([token], executor="x1", incarnation="i1", node_id="n1")
        if reason == "executor lost":
            stage.driver.post(e.ExecutorLost(executor="x1"))
        else:
            await stage.handled(e.AttemptStarted)
            stage.clock.ms += 130_000
            stage.driver.post(e.BeatsRead(beats={token: 0}))
        for times in (1, 2):
            await stage.handled(e.AttemptUnproven, times=times)
            stage.tick(1_000)
        await stage.handled(e.AttemptLost)
        assert stage.executors.kills == [("n1", token)] * 3
        assert stage.store.asked_fates == [(token, gone, reason) for gone in (False, False, False, True)]
        ends = [row for row in stage.store.written if isinstance(row, EndAttempt)]
        await stage.store.signal.until(
            lambda: any(isinstance(row, EndAttempt) for row in stage.store.written)
        )
        assert all(row.state is AttemptState.LOST for row in ends)


async def test_a_stored_result_wins_over_the_loss_of_its_executor() -> None:
    stage = Stage()
    async with running(stage):
        token = await stage.running_attempt()
        worked(stage.store.tables, token)
        stage.driver.post(e.ExecutorLost(executor="x1"))
        await stage.store.signal.until(lambda: stage.store.states().get(1) == "done")
        assert stage.executors.kills == []
