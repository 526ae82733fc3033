"""What is PostgreSQL's own in the scheduler's store: locks, columns, connections; see contract/stores."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import psycopg
import pytest

from orchestrator.agent_types import AgentType
from orchestrator.core.words import AttemptState, RetryLost, TaskState
from orchestrator.errors import DatabaseUnavailable
from orchestrator.ports import Fate, Outcome, SessionLimits
from orchestrator.routing import choose_backend
from orchestrator.store.agent_types import keep_agent_types
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.scheduler import PostgresSchedulerStore
from orchestrator.store.urls import DatabaseUrls
from tests.support.rows import Rows, lease, make_store, save, somebody_waits_for_a_lock

pytestmark = pytest.mark.postgres

DONE = Outcome(state=AttemptState.SUCCEEDED, summary="did it")


class Stage:
    """A store that holds the term, an executor, and leased attempts."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self.rows = Rows(urls)
        self.store: PostgresSchedulerStore = make_store(urls.direct)
        self.executor = ExecutorStore(
            urls.service, executor="x1", incarnation="i1", node_id="n1", limits=SessionLimits()
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
        return await self.store.fate(token, may_fence=gone, reason="executor lost")


@pytest.fixture
async def stage(database: DatabaseUrls) -> AsyncIterator[Stage]:
    made = Stage(database)
    await made.store.take_term(incarnation="i1", is_starting=True, patience_s=5)
    yield made
    await made.store.close()
    await made.executor.close()


# --- fate


async def test_a_start_that_is_being_stored_is_waited_for(stage: Stage, database: DatabaseUrls) -> None:
    await stage.leased()
    with psycopg.connect(database.service) as starting:
        starting.execute("UPDATE attempts SET state = 'started', incarnation = 'i1' WHERE token = 7")
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


# --- plans


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
    assert (task.state, task.version, task.rules.attempts_max) == (TaskState.RUNNING, 1, 5)
    assert (task.attempts_used, task.losses, task.not_before_ms) == (1, 2, 1_700_000_000_123)
    assert (task.work_number, task.gate_number) == (3, 0)
    (live,) = part.attempts
    assert (live.token, live.executor, live.state, live.cancel_reason) == (
        7,
        "x1",
        AttemptState.LEASED,
        "by request",
    )
    rows.all("UPDATE attempts SET cost_micros = 40, reserved_micros = 2")
    assert [p.plan.spent_micros async for p in stage.store.load_plan(plan_id)] == [0]  # it is live
    rows.all("DELETE FROM leases")
    (part,) = [part async for part in stage.store.load_plan(plan_id)]
    assert (part.plan.spent_micros, part.tasks[0].spent_micros) == (42, 42)


async def test_a_task_comes_with_the_rules_that_its_author_gave_and_else_with_those_of_the_settings(
    stage: Stage,
) -> None:
    given = {
        "attempts": "5",
        "timeout": "2 min",
        "start timeout": "90 s",
        "retry lost": "never",
        "review": "r",
    }
    for options, expected in (
        (given, (5, 120_000, 90_000, RetryLost.NEVER, "r")),
        ({}, (3, 0, 0, RetryLost.PROVEN, "")),
    ):
        plan_id, _ = stage.rows.plan(1, options=options, state="active")
        (rules,) = [part.tasks[0].rules async for part in stage.store.load_plan(plan_id)]
        assert expected == (
            *(rules.attempts_max, rules.timeout_ms, rules.start_timeout_ms),
            *(rules.retry_lost, rules.review_agent),
        )


async def test_a_task_and_its_review_have_the_backends_of_their_agent_types(database: DatabaseUrls) -> None:
    rows = Rows(database)
    store = PostgresSchedulerStore(
        database.direct,
        cluster_id="c1",
        attempts_max=3,
        choose_backend=choose_backend,
    )
    coder, judge = (
        AgentType(name=n, backend=b) for n, b in (("coder", "claude-code"), ("judge", "simulated"))
    )
    keep_agent_types(database.service, [coder, judge])
    plan_id, _ = rows.plan(1, options={"review": "judge"}, state="active")
    (with_lines,) = [part.tasks[0] async for part in store.load_plan(plan_id)]
    rows.all("UPDATE tasks SET run = '[]'")
    (without,) = [part.tasks[0] async for part in store.load_plan(plan_id)]
    await store.close()
    assert with_lines.agent_type == "coder"
    assert (with_lines.backend, with_lines.rules.review_backend) == ("command", "simulated")
    assert (without.backend, without.rules.review_backend) == ("claude-code", "simulated")


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
