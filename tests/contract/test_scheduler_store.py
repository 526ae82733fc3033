"""What the scheduler reads from a real PostgreSQL, and how it settles what becomes of a silent attempt."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import psycopg
import pytest

from orchestrator.core.events import AttemptEnded, AttemptStarted
from orchestrator.core.words import AttemptState, FailureClass, TaskState
from orchestrator.errors import DatabaseUnavailable, NotFound
from orchestrator.ports import Fate, Outcome, SessionLimits
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.scheduler import SLICE, PostgresSchedulerStore
from orchestrator.store.urls import DatabaseUrls
from tests.support.rows import Rows, end, lease, make_store, save, somebody_waits_for_a_lock

pytestmark = pytest.mark.postgres

DONE = Outcome(state=AttemptState.SUCCEEDED, summary="did it")


class Stage:
    """A store that holds the term, an executor, and leased attempts."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self.rows = Rows(urls)
        self.store: PostgresSchedulerStore = make_store(urls.direct)
        self.executor = ExecutorStore(
            urls.service, executor="x1", incarnation="i1", limits=SessionLimits(), model=""
        )
        self._batches = itertools.count(1)

    async def commit(self, *rows: object) -> None:
        await self.store.commit(next(self._batches), list(rows))

    async def leased(self, token: int = 7) -> tuple[int, int]:
        """Have one attempt leased; return its plan and task."""
        plan_id, (task_id,) = self.rows.plan(1, state="active")
        await self.commit(lease(token, plan_id=plan_id, task_id=task_id))
        return plan_id, task_id

    async def fate(self, *, gone: bool = False, token: int = 7) -> Fate:
        return await self.store.fate(token, is_proven_gone=gone, reason="executor lost")


@pytest.fixture
async def stage(database: DatabaseUrls) -> AsyncIterator[Stage]:
    made = Stage(database)
    await made.store.take_term(incarnation="i1", is_starting=True, patience_s=5)
    yield made
    await made.store.close()
    await made.executor.close()


# --- fate


async def test_an_attempt_without_a_start_is_lost_and_can_start_no_more(stage: Stage) -> None:
    await stage.leased()
    assert await stage.fate() == Fate(verdict="fenced")
    (attempt,) = stage.rows.all("SELECT state, end_reason FROM attempts")
    assert attempt == {"state": "lost", "end_reason": "executor lost"}
    assert await stage.executor.start([7]) == []
    assert await stage.executor.save_results([(7, DONE)]) == set()
    assert stage.rows.column("SELECT token FROM starts") == []
    assert await stage.fate() == Fate(verdict="fenced")  # asked again, it says the same
    await stage.commit(end(7, AttemptState.LOST, end_reason="executor lost", has_result=False))
    assert stage.rows.column("SELECT token FROM leases") == []


async def test_what_started_stays_until_it_is_proven_gone(stage: Stage) -> None:
    await stage.leased()
    await stage.executor.start([7])
    assert await stage.fate() == Fate(verdict="started")
    assert stage.rows.attempts() == {7: "leased"}
    assert await stage.fate(gone=True) == Fate(verdict="fenced")
    assert stage.rows.attempts() == {7: "lost"}
    assert await stage.executor.save_results([(7, DONE)]) == set()


async def test_a_stored_result_wins_even_over_a_proven_death(stage: Stage) -> None:
    await stage.leased()
    await stage.executor.start([7])
    failed = Outcome(state=AttemptState.FAILED, failure_class=FailureClass.AGENT, summary="no")
    await stage.executor.save_results([(7, failed)])
    fate = await stage.fate(gone=True)
    assert fate.verdict == "result"
    assert fate.result == AttemptEnded(
        at_ms=0,
        token=7,
        state=AttemptState.FAILED,
        failure_class=FailureClass.AGENT,
        summary="no",
        cost_micros=0,
    )
    assert stage.rows.attempts() == {7: "leased"}


async def test_an_attempt_that_has_ended_is_over(stage: Stage) -> None:
    await stage.leased()
    await stage.executor.start([7])
    await stage.executor.save_results([(7, DONE)])
    await stage.commit(end(7))
    assert await stage.fate() == Fate(verdict="over")
    assert await stage.fate(token=99) == Fate(verdict="over")


async def test_a_start_that_is_being_stored_is_waited_for(stage: Stage, database: DatabaseUrls) -> None:
    await stage.leased()
    with psycopg.connect(database.service) as starting:
        starting.execute("SELECT 1 FROM attempts WHERE token = 7 FOR SHARE")
        starting.execute("INSERT INTO starts (token, incarnation) VALUES (7, 'i1')")
        fate = asyncio.create_task(stage.fate())
        await somebody_waits_for_a_lock(stage.rows)
        starting.commit()
    assert (await fate).verdict == "started"


async def test_of_a_start_and_a_loss_at_once_exactly_one_takes_place(stage: Stage) -> None:
    plan_id, ids = stage.rows.plan(40, state="active")
    tokens = range(100, 140)
    await stage.commit(
        *(lease(token, plan_id=plan_id, task_id=i) for token, i in zip(tokens, ids, strict=True))
    )
    for token in tokens:
        assignments, fate = await asyncio.gather(stage.executor.start([token]), stage.fate(token=token))
        assert (fate.verdict == "fenced") is (assignments == [])


# --- reports and beats


async def test_stored_starts_and_results_are_reported_until_the_attempts_show_them(stage: Stage) -> None:
    await stage.leased()
    assert await stage.store.reports() == []
    await stage.executor.start([7])
    started = AttemptStarted(at_ms=0, token=7)
    assert await stage.store.reports() == [started]
    await stage.executor.save_results([(7, DONE)])
    kinds = [type(report) for report in await stage.store.reports()]
    assert kinds == [AttemptStarted, AttemptEnded]
    assert await stage.store.beats() == {7: 0}
    await stage.commit(end(7))
    assert await stage.store.reports() == []
    assert await stage.store.beats() == {}


# --- plans


async def test_a_large_plan_comes_in_slices_with_every_edge(stage: Stage) -> None:
    count = 2 * SLICE + 5
    edges = [(count - 1, 0), (0, count - 1), (SLICE, SLICE - 1), (1, 2)]  # across slices, both ways
    plan_id, ids = stage.rows.plan(count, edges=edges)
    parts = [part async for part in stage.store.load_plan(plan_id)]
    assert [len(part.tasks) for part in parts] == [SLICE, SLICE, 5]
    assert [task.task_id for part in parts for task in part.tasks] == ids
    found = {edge for part in parts for edge in part.edges}
    assert found == {(ids[task], ids[on]) for task, on in edges}
    for part in parts:
        assert {task for task, _ in part.edges} <= {task.task_id for task in part.tasks}


async def test_a_plan_of_exactly_one_slice_ends_with_an_empty_one(stage: Stage) -> None:
    plan_id, _ = stage.rows.plan(SLICE)
    assert [len(part.tasks) async for part in stage.store.load_plan(plan_id)] == [SLICE, 0]


async def test_a_task_comes_as_it_was_left(stage: Stage) -> None:
    plan_id, (task_id,) = stage.rows.plan(1, options={"attempts": "5"}, state="active")
    await stage.commit(
        save(task_id, state=TaskState.RUNNING, attempts_used=1, losses=2, not_before_ms=1_700_000_000_123),
        lease(7, plan_id=plan_id, task_id=task_id, number=3),
    )
    rows = stage.rows
    rows.all("UPDATE leases SET cancel_reason = 'by request'")
    (part,) = [part async for part in stage.store.load_plan(plan_id)]
    (task,) = part.tasks
    assert (task.state, task.version, task.attempts_max) == (TaskState.RUNNING, 1, 5)
    assert (task.attempts_used, task.losses, task.not_before_ms) == (1, 2, 1_700_000_000_123)
    assert (task.work_number, task.gate_number) == (3, 0)
    (live,) = part.attempts
    assert (live.token, live.executor, live.state, live.cancel_reason) == (
        7,
        "x1",
        AttemptState.LEASED,
        "by request",
    )
    rows.all("UPDATE attempts SET cost_micros = 42")
    assert [p.plan.spent_micros async for p in stage.store.load_plan(plan_id)] == [42]


async def test_there_is_no_such_plan(stage: Stage) -> None:
    with pytest.raises(NotFound, match="no plan 99"):
        _ = [part async for part in stage.store.load_plan(99)]


async def test_plans_that_are_over_are_not_loaded_unless_something_still_runs(stage: Stage) -> None:
    states = ("submitted", "active", "paused", "stalled", "done", "cancelled")
    ids = {state: stage.rows.plan(1, state=state)[0] for state in states}
    assert await stage.store.submitted_plans() == [ids["submitted"]]
    unfinished = [ids[state] for state in states[:4]]
    assert await stage.store.unfinished_plans() == unfinished
    (task_id,) = stage.rows.column("SELECT id FROM tasks WHERE plan_id = %s", ids["cancelled"])
    await stage.commit(lease(7, plan_id=ids["cancelled"], task_id=task_id))
    assert await stage.store.unfinished_plans() == [*unfinished, ids["cancelled"]]


# --- history and state


async def test_only_history_that_has_changed_is_read_again(stage: Stage) -> None:
    add = (
        "INSERT INTO agent_task_affinity (agent_type, task_type, domain, attempts, success, duration_ms) "
        "VALUES (%s, 'test', 'backend', 3, 0.5, 10)"
    )
    stage.rows.all(add, "coder")
    assert [row.agent_type for row in await stage.store.changed_affinity()] == ["coder"]
    assert await stage.store.changed_affinity() == ()
    stage.rows.all(add, "tester")
    assert [row.agent_type for row in await stage.store.changed_affinity()] == ["tester"]


async def test_state_is_kept_by_key(stage: Stage) -> None:
    await stage.store.save_state("scheduler", {"sessions": 1})
    await stage.store.save_state("scheduler", {"sessions": 2})
    assert stage.rows.all("SELECT key, value FROM orchestrator_state") == [
        {"key": "scheduler", "value": {"sessions": 2}}
    ]


async def test_a_reader_that_the_server_ends_is_opened_again(stage: Stage) -> None:
    await stage.store.submitted_plans()
    stage.rows.all(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'orchestrator-scheduler' AND datname = current_database()"
    )
    with pytest.raises(DatabaseUnavailable):
        await stage.store.submitted_plans()
    assert await stage.store.submitted_plans() == []
