"""The history checker and the rebuilding of memory on real rows: of a sound run, and of one tampered with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import RowCommand
from orchestrator.core.limits import Limits
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.state import Policy
from orchestrator.core.words import AttemptState
from orchestrator.ports import Outcome, SessionLimits
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.urls import DatabaseUrls
from tests.support.history import check_history
from tests.support.history_rows import Acknowledged
from tests.support.rebuilding import differences, picture, rebuild
from tests.support.rows import Rows, make_store

pytestmark = pytest.mark.postgres

DONE = Outcome(state=AttemptState.SUCCEEDED, summary="did it")
LIMITS = e.LimitsSet(limits=Limits(sessions_max=4, agent_default_max=4))


class Run:
    """The real core, committer and executor's store, one event after the other."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self.urls = urls
        self.rows = Rows(urls)
        self.state = SchedulerState(policy=Policy(backoff_ms=(0,)))
        self.store = make_store(urls.direct)
        self.executor = ExecutorStore(
            urls.service, executor="x1", incarnation="i1", node_id="n1", limits=SessionLimits()
        )
        self._batch = 0

    async def begin(self) -> None:
        """Take the term, load a plan of a task, one that needs it and one that needs nobody."""
        await self.store.take_term(incarnation="i1", is_starting=True, patience_s=5)
        await self.handle(e.TokensReserved(first=1, count=1000), LIMITS)
        await self.handle(e.ExecutorJoined(executor="x1", agent_type="coder", slots=4))
        self.plan_id, self.task_ids = self.rows.plan(3, edges=[(1, 0)])
        async for part in self.store.load_plan(self.plan_id):
            await self.handle(
                e.PlanSliceLoaded(plan=part.plan, tasks=part.tasks, edges=part.edges),
                e.PlanLoaded(plan_id=self.plan_id),
            )

    async def handle(self, *events: AnyEvent, at_ms: int = 0) -> None:
        """Handle and commit."""
        for event in events:
            self._batch += 1
            rows = [row for row in self.state.handle(event, at_ms=at_ms) if isinstance(row, RowCommand)]
            await self.store.commit(self._batch, rows)

    async def end(self, token: int) -> None:
        """Start an attempt, store its result and report it."""
        await self.executor.start([token])
        await self.executor.save_results([(token, DONE)])
        await self.handle(
            e.AttemptStarted(token=token),
            e.AttemptEnded(token=token, state=DONE.state, failure_class=None, summary="", cost_micros=0),
        )

    async def lose(self, token: int) -> None:
        """Fence an attempt and report it lost."""
        await self.store.fate(token, may_fence=True, reason="executor lost")
        await self.handle(e.AttemptLost(token=token, reason="executor lost"))
        await self.handle(e.Tick(), at_ms=60_000)

    def live(self) -> Sequence[int]:
        """Return the live tokens."""
        return list(self.state.attempts)


@pytest.fixture
async def run(database: DatabaseUrls) -> AsyncIterator[Run]:
    made = Run(database)
    await made.begin()
    yield made
    await made.store.close()
    await made.executor.close()


async def test_a_sound_run_passes_at_every_step(run: Run) -> None:
    url = run.urls.service
    await run.lose(run.live()[0])
    while run.live():
        check_history(url)
        assert differences(picture(await rebuild(url)), picture(run.state)) == []
        await run.end(run.live()[0])
    history = check_history(url, acknowledged=[Acknowledged(run.plan_id, run.task_ids[1], "task.done")])
    assert history.summary.startswith("1 plans, 3 tasks, 4 attempts (1 lost, 3 succeeded)")


async def test_rows_that_were_tampered_with_are_caught(run: Run) -> None:
    url = run.urls.service
    await run.end(run.live()[0])
    run.rows.all("UPDATE attempts SET state = 'failed'")
    with pytest.raises(AssertionError, match="attempt 1 is failed, its last event says succeeded"):
        check_history(url)


async def test_memory_that_has_parted_from_the_tables_is_told(run: Run) -> None:
    url, last = run.urls.service, run.task_ids[1]
    assert differences(picture(await rebuild(url)), picture(run.state)) == []
    run.state.tasks[last].losses = 2
    told = differences(picture(await rebuild(url)), picture(run.state))
    assert told == [f"task {last}: losses is 0 in the tables, 2 in memory"]
    run.rows.all("UPDATE attempts SET state = 'lost', ended_at = now() WHERE token = %s", run.live()[0])
    with pytest.raises(AssertionError, match="loading changes 1 rows"):
        await rebuild(url)
