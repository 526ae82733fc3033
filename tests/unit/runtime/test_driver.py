"""The scheduler's loop: commit first, act after; and what follows when database or executors are away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import Command, EndAttempt, LeaseAttempt, MarkStarted
from orchestrator.core.leases import START_TIMEOUT
from orchestrator.core.limits import Limits
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.state import Policy
from orchestrator.core.task import TaskRules
from orchestrator.core.words import AttemptState, HoldReason, Proof, RetryLost
from orchestrator.errors import Conflict, Fenced, NotFound, Overloaded
from orchestrator.ports import Outcome, Revision
from orchestrator.runtime import commits
from orchestrator.runtime import driver as driver_module
from orchestrator.runtime.clock import Clock
from orchestrator.runtime.driver import Driver
from tests.support.core import PLAN, spec
from tests.support.memory import MemoryExecutors, Signal, WatchedStore

LIMITS = e.LimitsSet(at_ms=0, limits=Limits(sessions_max=16, agent_default_max=16), has_credentials=True)


class ManualClock(Clock):
    """Database time that stands still until it is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.ms = 1_000_000
        self._hung_s = 0.0

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:  # type: ignore[override] # of this clock, not of all
        return time.monotonic() + self._hung_s

    def hang(self, ms: int) -> None:
        """Let time pass while nothing else happens."""
        self.ms += ms
        self._hung_s += ms / 1000


class RememberingState(SchedulerState):
    """Remembers the events it has handled."""

    def __init__(self, signal: Signal) -> None:
        super().__init__(policy=Policy())
        self.handled: list[AnyEvent] = []
        self.signal = signal

    def handle(self, event: AnyEvent) -> list[Command]:
        commands = super().handle(event)
        self.handled.append(event)
        self.signal.note()
        return commands


class Stage:
    """A driver with everything around it."""

    def __init__(self, **options: object) -> None:
        self.store = WatchedStore()
        self.store.hold_term()
        self.executors = MemoryExecutors()
        self.clock = ManualClock()
        self.state = RememberingState(self.store.signal)
        self.driver = Driver(
            state=self.state,
            store=self.store,
            executors=self.executors,
            clock=self.clock,
            **options,
        )
        self.driver.post(e.TokensReserved(at_ms=0, first=1, count=100_000))
        self.driver.post(LIMITS)

    def has_plan(self, *task_ids: int, plan_id: int = 1, **changes: object) -> None:
        tasks = tuple(spec(task_id, **changes) for task_id in task_ids)
        self.store.tables.add_plan(replace(PLAN, plan_id=plan_id), tasks)

    def join(self, *, slots: int = 4) -> None:
        self.driver.post(e.ExecutorJoined(at_ms=0, executor="x1", agent_type="coder", slots=slots))

    def tick(self, ms: int = 0) -> None:
        self.clock.ms += ms
        self.driver.post(e.Tick(at_ms=0))

    async def handled(self, kind: type, *, times: int = 1) -> None:
        handled = self.state.handled
        await self.store.signal.until(lambda: sum(isinstance(event, kind) for event in handled) >= times)

    async def running_attempt(self) -> int:
        """Have one task running on the executor; return its token."""
        self.has_plan(1)
        self.join()
        await self.driver.load_plan(1)
        await self.executors.signal.until(self.executors.started)
        return self.executors.started()[0]


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[asyncio.Task[None]]:
    run = asyncio.create_task(stage.driver.run())
    try:
        yield run
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError, Fenced):
            await run


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
        stage.driver.post(e.AttemptStarted(at_ms=0, token=token))
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
        stage.driver.post(e.AttemptStarted(at_ms=0, token=1))
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
        stage.driver.post(e.AttemptStarted(at_ms=0, token=9))
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
        stage.driver.post(e.AttemptStarted(at_ms=0, token=1))
        await stage.store.signal.until(lambda: MarkStarted(token=1) in stage.store.sent[-1][1])
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
        await stage.driver.ask(lambda n: e.ExecutorRetired(at_ms=0, executor="x", request_id=n))
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
    stage.driver.post(e.Tick(at_ms=0))
    with pytest.raises(Overloaded, match="3 messages wait"):
        await stage.driver.ask(lambda n: e.ExecutorRetired(at_ms=0, executor="x", request_id=n))
    stage.driver.post(e.AttemptStarted(at_ms=0, token=1))


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
        stage.driver.post(e.DatabaseReturned(at_ms=0))
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
            e.Requested(
                at_ms=0, request_id=99, kind="cancel_plan", tenant_id="local", plan_id=1, reason="enough"
            )
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
        again = e.PlanSliceLoaded(at_ms=0, plan=part.plan, tasks=part.tasks, edges=part.edges)
        stage.driver.post(again)
        stage.store.may_commit.set()
        await paused
        await stage.handled(e.Requested, times=4)
        stage.driver.post(e.PlanLoaded(at_ms=0, plan_id=1))
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
        await stage.store.signal.until(lambda: MarkStarted(token=token) in stage.store.written)
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
        stage.driver.post(e.ExecutorLost(at_ms=0, executor="x1"))
        await stage.handled(e.AttemptLost)
        assert stage.state.tasks[1].reason == HoldReason.LOST.value


@pytest.mark.parametrize("reason", ["executor lost", "lease expired"])
async def test_what_started_is_lost_only_when_it_is_proven_gone(reason: str) -> None:
    stage = Stage()
    stage.executors.proofs = [Proof.UNPROVEN, Proof.UNPROVEN, Proof.GONE]
    async with running(stage):
        token = await stage.running_attempt()
        stage.driver.post(e.AttemptStarted(at_ms=0, token=token))
        stage.store.tables.start([token], executor="x1", incarnation="i1", node_id="n1")
        if reason == "executor lost":
            stage.driver.post(e.ExecutorLost(at_ms=0, executor="x1"))
        else:
            await stage.handled(e.AttemptStarted)
            stage.clock.ms += 130_000
            stage.driver.post(e.BeatsRead(at_ms=0, beats={token: 0}))
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
        stage.store.tables.save_results([(token, Outcome(state=AttemptState.SUCCEEDED, summary="made it"))])
        stage.driver.post(e.ExecutorLost(at_ms=0, executor="x1"))
        await stage.store.signal.until(lambda: stage.store.states().get(1) == "done")
        assert stage.executors.kills == []


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
        stage.driver.post(
            e.AttemptEnded(
                at_ms=0,
                token=token,
                state=AttemptState.SUCCEEDED,
                failure_class=None,
                summary="",
                cost_micros=0,
            )
        )
        await finish
        await run
        assert stage.store.states()[1] == "done"
