"""One scheduler's life: recovery, staying in step with the pools, draining, and what front ends may ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import SaveAnswer
from orchestrator.core.limits import Limits
from orchestrator.core.state import Policy
from orchestrator.core.words import AttemptState, PlanState, TaskState
from orchestrator.errors import Conflict, Overloaded
from orchestrator.ports import Outcome
from orchestrator.runtime import commits
from orchestrator.runtime.scheduling import ExecutorInfo, Scheduling, SchedulingSettings
from tests.support.core import PLAN, spec
from tests.support.driven import worked
from tests.support.memory import MemoryExecutors, Signal, WatchedStore
from tests.support.rows import lease, save

X1 = ExecutorInfo(executor="x1", agent_type="coder", slots=2)
X2 = ExecutorInfo(executor="x2", agent_type="coder", slots=2)
LIMITS = e.LimitsSet(limits=Limits(sessions_max=16, agent_default_max=16))
SETTINGS = SchedulingSettings(
    policy=Policy(),
    limits=LIMITS,
    poll_s=0.02,
    tick_s=0.01,
    executors_s=0.02,
    term_patience_s=0.1,
    retry_s=0.01,
)


class MemoryPools:
    """The pools as the scheduler asks them. `may_answer` holds the answer after the list was made."""

    def __init__(self, *infos: ExecutorInfo) -> None:
        self.alive = list(infos)
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.signal = Signal()

    async def executors_now(self) -> Iterable[ExecutorInfo]:
        infos = list(self.alive)
        self.asked += 1
        self.signal.note()
        await self.may_answer.wait()
        return infos


class Stage:
    """A scheduler with everything around it."""

    def __init__(
        self,
        *infos: ExecutorInfo,
        settings: SchedulingSettings = SETTINGS,
        store: WatchedStore | None = None,
    ) -> None:
        self.store = store or WatchedStore()
        self.executors = MemoryExecutors()
        self.pools = MemoryPools(*infos)
        self.scheduling = Scheduling(
            store=self.store,
            executors=self.executors,
            executors_now=self.pools.executors_now,
            settings=settings,
        )

    def has_plan(self, plan_id: int, *task_ids: int, state: PlanState = PlanState.ACTIVE) -> None:
        tasks = [spec(task_id) for task_id in task_ids]
        self.store.tables.add_plan(replace(PLAN, plan_id=plan_id, state=state), tasks)

    def answers_sent(self) -> int:
        """Return how many answers of requests were sent to the tables."""
        return sum(isinstance(row, SaveAnswer) for _, rows in self.store.sent for row in rows)

    async def sent(self, count: int) -> list[int]:
        await self.executors.signal.until(lambda: len(self.executors.started()) >= count)
        return self.executors.started()

    async def asked_again(self) -> None:
        """Wait until the pools have made a list that they have not sent yet."""
        asked = self.pools.asked
        await self.pools.signal.until(lambda: self.pools.asked > asked)

    async def listed_again(self) -> None:
        """Wait until the pools were asked and the answer has been taken."""
        asked = self.pools.asked
        await self.pools.signal.until(lambda: self.pools.asked >= asked + 2)

    @property
    def known(self) -> set[str]:
        assert self.scheduling._driver is not None
        return set(self.scheduling._driver.state.executors)


@asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[asyncio.Task[None]]:
    run = asyncio.create_task(stage.scheduling.run())
    try:
        yield run
    finally:
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "RECONNECT_S", 0.001)


# --- recovery


async def test_recovery_adopts_what_runs_and_sends_again_what_may_never_have_been_sent() -> None:
    stage = Stage(X1)
    stage.has_plan(1, 1, 2)
    tables = stage.store.tables
    tables.take_term(seen_epoch=0, cluster_id="c1", incarnation="before")
    leases = [lease(70 + task_id, plan_id=1, task_id=task_id) for task_id in (1, 2)]
    tables.commit(1, 1, [save(task_id, state=TaskState.RUNNING) for task_id in (1, 2)] + leases)
    tables.start([71], executor="x1", incarnation="i1")
    async with running(stage):
        assert await stage.sent(1) == [72]
        stage.scheduling.ended([worked(stage.store.tables, 71), worked(stage.store.tables, 72)])
        await stage.store.signal.until(lambda: stage.store.states() == {1: "done", 2: "done"})
        assert stage.store.leased() == []


async def test_a_new_plan_is_found_without_being_told_of() -> None:
    stage = Stage(X1)
    async with running(stage):
        await stage.store.signal.until(lambda: stage.scheduling.is_ready)
        stage.has_plan(3, 31, state=PlanState.SUBMITTED)
        await stage.sent(1)
        assert [row.task_id for row in stage.store.leased()] == [31]
        assert stage.store.readings == [3]


async def test_results_are_found_without_being_told_of() -> None:
    stage = Stage(X1)
    stage.has_plan(1, 1)
    async with running(stage):
        (token,) = await stage.sent(1)
        stage.store.tables.start([token], executor="x1", incarnation="i1")
        stage.store.tables.save_results([(token, Outcome(state=AttemptState.SUCCEEDED))])
        await stage.store.signal.until(lambda: stage.store.states().get(1) == "done")


async def test_a_plan_that_cannot_be_read_holds_up_no_other() -> None:
    stage = Stage(X1)
    stage.has_plan(1, 11, state=PlanState.SUBMITTED)
    stage.has_plan(2, 21)
    stage.store.unreadable = {1}
    async with running(stage):
        await stage.store.signal.until(lambda: 1 in stage.store.readings)
        await stage.sent(1)
        await stage.listed_again()
        assert sorted(stage.store.readings) == [1, 2]


async def test_after_a_lost_term_memory_is_built_anew_and_the_term_is_not_seized() -> None:
    stage = Stage(X1)
    stage.has_plan(1, 1)
    async with running(stage):
        await stage.sent(1)
        stage.store.breaks = ["fenced"]
        stage.scheduling.executor_joined(X2)
        stage.scheduling.ended([worked(stage.store.tables, 1)])
        await stage.store.signal.until(lambda: len(stage.store.terms) == 2)
        assert stage.store.terms == [True, False]  # only a first term may take over at once
        await stage.store.signal.until(lambda: stage.store.readings == [1, 1])


async def test_a_database_that_is_away_at_the_start_is_waited_for() -> None:
    stage = Stage(X1)
    stage.store.is_away = True
    stage.has_plan(1, 1)
    async with running(stage):
        with pytest.raises(Overloaded):
            stage.scheduling.status()
        stage.store.is_away = False
        await stage.sent(1)
        assert stage.scheduling.status()["is_ready"]


# --- in step with the pools


async def test_an_executor_that_nobody_told_of_is_found_and_one_that_is_gone_is_lost() -> None:
    stage = Stage(X1)
    async with running(stage):
        await stage.pools.signal.until(lambda: stage.scheduling.is_ready and stage.known == {"x1"})
        stage.pools.alive = [X2]
        await stage.pools.signal.until(lambda: stage.known == {"x2"})


async def test_an_executor_that_joins_while_the_pools_answer_is_not_lost() -> None:
    stage = Stage(X1)
    stage.has_plan(1, 1, 2, 3)
    async with running(stage):
        await stage.sent(2)
        stage.pools.may_answer.clear()
        await stage.asked_again()
        stage.pools.alive = [X1, X2]
        stage.scheduling.executor_joined(X2)
        await stage.sent(3)
        stage.pools.may_answer.set()
        await stage.listed_again()
        assert stage.known == {"x1", "x2"}
        assert stage.store.asked_fates == []


async def test_an_executor_that_is_lost_while_the_pools_answer_does_not_come_back() -> None:
    stage = Stage(X1, X2)
    async with running(stage):
        await stage.pools.signal.until(lambda: stage.scheduling.is_ready and stage.known == {"x1", "x2"})
        stage.pools.may_answer.clear()
        await stage.asked_again()
        stage.scheduling.executor_lost("x2")
        assert await stage.scheduling.retire("x1")
        stage.pools.alive = []
        stage.has_plan(1, 1, state=PlanState.SUBMITTED)
        await stage.store.signal.until(lambda: stage.store.states() == {1: "ready"})
        stage.pools.may_answer.set()
        await stage.listed_again()
        assert stage.known == set()
        assert stage.store.leased() == []


async def test_pools_that_have_forgotten_the_demand_hear_it_again() -> None:
    stage = Stage()
    stage.has_plan(1, 1, 2)
    async with running(stage):
        await stage.executors.signal.until(lambda: stage.executors.told.count({"coder": 2}) >= 3)


# --- drain


async def test_draining_leases_nothing_more_waits_and_gives_the_term_back_for_good() -> None:
    stage = Stage(X1)
    stage.has_plan(1, 1, 2, 3)
    async with running(stage) as run:
        first, second = await stage.sent(2)
        drain = asyncio.create_task(stage.scheduling.drain(timeout_s=10))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await stage.scheduling.request("cancel_task", {"plan_id": 1, "task_id": 3}, "")
        stage.scheduling.ended([worked(stage.store.tables, first), worked(stage.store.tables, second)])
        await drain
        assert run.done()
        assert stage.store.states() == {1: "done", 2: "done", 3: "ready"}
        assert len(stage.store.leased()) == 2
        assert stage.store.releases == 1
        assert len(stage.store.terms) == 1


async def test_draining_is_bounded() -> None:
    stage = Stage(X1)
    stage.has_plan(1, 1)
    async with running(stage) as run:
        await stage.sent(1)
        await stage.scheduling.drain(timeout_s=0.05)
        assert run.done()
        assert stage.store.releases == 1


async def test_draining_without_a_term_takes_none() -> None:
    stage = Stage()
    stage.store.is_away = True
    async with running(stage) as run:
        await asyncio.sleep(0)
        await stage.scheduling.drain(timeout_s=1)
        assert run.done()
        assert stage.store.terms == []


# --- requests


async def test_a_repeated_key_gets_the_first_answer_and_a_refusal_to_try_again_is_no_answer() -> None:
    stage = Stage()
    stage.has_plan(1, 1)
    async with running(stage):
        await stage.store.signal.until(lambda: stage.scheduling.is_ready)
        ask = stage.scheduling.request
        first = await ask("cancel_task", {"plan_id": 1, "task_id": 1}, "k1")
        assert await ask("cancel_task", {"plan_id": 1, "task_id": 1}, "k1") == first
        with pytest.raises(Conflict):
            await ask("cancel_task", {"plan_id": 1, "task_id": 1}, "k2")
        stage.has_plan(2, 21)
        driver = stage.scheduling._driver
        assert driver is not None
        driver._commits.is_away = True
        with pytest.raises(Overloaded):
            await ask("cancel_task", {"plan_id": 2, "task_id": 21}, "k3")
        driver._commits.is_away = False
        assert await ask("cancel_task", {"plan_id": 2, "task_id": 21}, "k3") == first


async def test_two_that_ask_at_once_with_one_key_are_one_request() -> None:
    stage = Stage()
    stage.has_plan(1, 1)
    async with running(stage):
        await stage.store.signal.until(lambda: stage.scheduling.is_ready)
        stage.store.may_commit.clear()
        args = {"plan_id": 1, "task_id": 1}
        both = [asyncio.create_task(stage.scheduling.request("cancel_task", args, "k1")) for _ in range(2)]
        await stage.store.signal.until(lambda: stage.answers_sent() == 1)
        stage.store.may_commit.set()
        assert await asyncio.gather(*both) == [{"cancelled": 1, "cancelling": 0}] * 2
        assert stage.answers_sent() == 1


async def test_a_key_is_refused_to_another_request_at_once_and_later_too() -> None:
    stage = Stage()
    stage.has_plan(1, 1, 2)
    async with running(stage):
        await stage.store.signal.until(lambda: stage.scheduling.is_ready)
        ask = stage.scheduling.request
        stage.store.may_commit.clear()
        first = asyncio.create_task(ask("cancel_task", {"plan_id": 1, "task_id": 1}, "k1"))
        await stage.store.signal.until(lambda: stage.answers_sent() == 1)
        with pytest.raises(Conflict, match="another request"):
            await ask("cancel_task", {"plan_id": 1, "task_id": 2}, "k1")
        stage.store.may_commit.set()
        await first
        with pytest.raises(Conflict, match="another request"):
            await ask("hold_task", {"plan_id": 1, "task_id": 1}, "k1")
        assert stage.store.states() == {1: "cancelled", 2: "ready"}


async def test_a_key_is_its_tenant_s_own() -> None:
    stage = Stage()
    stage.has_plan(1, 1)
    stage.store.tables.add_plan(
        replace(PLAN, plan_id=2, tenant_id="y", state=PlanState.ACTIVE), [spec(2), spec(3)]
    )
    async with running(stage):
        await stage.store.signal.until(lambda: stage.scheduling.is_ready)
        ask = stage.scheduling.request
        assert await ask("cancel_plan", {"plan_id": 1, "tenant_id": "local"}, "k1")
        assert await ask("cancel_task", {"plan_id": 2, "task_id": 2, "tenant_id": "y"}, "k1")
        assert stage.store.states() == {1: "cancelled", 2: "cancelled", 3: "ready"}


async def test_a_refusal_stays_the_answer_of_its_key_and_the_next_scheduler_gives_it_too() -> None:
    stage = Stage()
    stage.has_plan(1, 1)
    asked = ("release_task", {"plan_id": 1, "task_id": 1}, "k1")
    async with running(stage):
        await stage.store.signal.until(lambda: stage.scheduling.is_ready)
        with pytest.raises(Conflict, match="is ready, not held"):
            await stage.scheduling.request(*asked)
        await stage.scheduling.request("hold_task", {"plan_id": 1, "task_id": 1}, "k2")
    after = Stage(store=stage.store)
    async with running(after):
        await after.store.signal.until(lambda: after.scheduling.is_ready)
        with pytest.raises(Conflict, match="is ready, not held"):
            await after.scheduling.request(*asked)
        assert after.store.states() == {1: "held"}


async def test_pools_may_end_only_an_executor_on_which_nothing_runs() -> None:
    stage = Stage(X1)
    stage.has_plan(1, 1)
    assert not await stage.scheduling.retire("x1")
    async with running(stage):
        (token,) = await stage.sent(1)
        assert not await stage.scheduling.retire("x1")
        stage.scheduling.ended([worked(stage.store.tables, token)])
        assert await stage.scheduling.retire("x1")
        assert "x1" not in stage.known


# --- what the files of agent types allow


async def test_the_files_of_agent_types_bound_their_pools_and_are_read_again() -> None:
    stage = Stage(X1, X2, settings=replace(SETTINGS, agent_types_s=0.02))
    stage.has_plan(1, 1, 2, 3, 4)
    stage.store.allowed = {"coder": 1}
    async with running(stage):
        assert await stage.sent(1) == [1]
        await stage.listed_again()
        await stage.listed_again()
        assert stage.executors.started() == [1], "there is room for three more, and the file allows one"
        stage.store.allowed = {"coder": 3}
        assert len(await stage.sent(3)) == 3
        await stage.listed_again()
        assert len(stage.executors.started()) == 3
        stage.scheduling.stop_leasing()
        stage.store.allowed = {}
        await stage.listed_again()
        await stage.listed_again()
        assert len(stage.executors.started()) == 3, "what has been stopped does not begin again"
