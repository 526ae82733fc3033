"""The committer on a real PostgreSQL: whole batches, guarded by versions, epoch and live attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import AskCancel, SavePlan
from orchestrator.core.machine import SchedulerState
from orchestrator.core.state import Policy
from orchestrator.core.words import AttemptState, PlanState, TaskState
from orchestrator.errors import DatabaseUnavailable, Fenced, InvariantViolation
from orchestrator.runtime.clock import Clock
from orchestrator.runtime.driver import Driver
from orchestrator.store.hot import HotConnection
from orchestrator.store.scheduler import PostgresSchedulerStore
from orchestrator.store.tables import TOKEN_BLOCK
from orchestrator.store.urls import DatabaseUrls
from tests.support.commit_proxy import Fate, commit_proxy
from tests.support.memory import MemoryExecutors
from tests.support.rows import Rows, end, frozen, lease, make_store, record, save, somebody_waits_for_a_lock

pytestmark = pytest.mark.postgres


@pytest.fixture
async def store(database: DatabaseUrls) -> AsyncIterator[PostgresSchedulerStore]:
    """The store of a scheduler that holds the term."""
    made = make_store(database.direct)
    await made.take_term(incarnation="i1", is_starting=True, patience_s=5)
    yield made
    await made.close()


@pytest.fixture
def rows(database: DatabaseUrls) -> Rows:
    return Rows(database)


# --- batches


async def test_a_batch_is_written_whole(store: PostgresSchedulerStore, rows: Rows) -> None:
    plan_id, (task_id, until_id) = rows.plan(2)
    await store.commit(
        1,
        [
            save(task_id, state=TaskState.RUNNING, reason="why", not_before_ms=1_700_000_000_123, losses=2),
            lease(7, plan_id=plan_id, task_id=task_id),
            SavePlan(plan_id=plan_id, state=PlanState.ACTIVE, until_task=until_id, budget_micros=0),
            record("plan.active", plan_id=plan_id, tasks=2),
        ],
    )
    (state,) = rows.all("SELECT * FROM task_states WHERE task_id = %s", task_id)
    assert (state["state"], state["reason"], state["losses"], state["version"]) == ("running", "why", 2, 1)
    assert int(state["not_before"].timestamp() * 1000) == 1_700_000_000_123
    (attempt,) = rows.all("SELECT * FROM attempts")
    assert (attempt["token"], attempt["state"], attempt["epoch"], attempt["cluster_id"]) == (
        7,
        "leased",
        1,
        "c1",
    )
    assert rows.column("SELECT token FROM leases") == [7]
    (plan,) = rows.all("SELECT state, until_key, ended_at FROM plans")
    assert plan == {"state": "active", "until_key": "T2", "ended_at": None}
    (event,) = rows.all("SELECT type, plan_id, epoch, payload FROM events")
    assert event == {"type": "plan.active", "plan_id": plan_id, "epoch": 1, "payload": {"tasks": 2}}
    assert await store.last_batch() == 1


@pytest.mark.parametrize("missed", ["task", "attempt", "plan"])
async def test_a_guard_that_misses_leaves_no_trace(
    store: PostgresSchedulerStore, rows: Rows, missed: str
) -> None:
    plan_id, (first, second) = rows.plan(2)
    await store.commit(1, [lease(7, plan_id=plan_id, task_id=first), save(first)])
    wrong = {
        "task": save(second, expected=3, version=4),
        "attempt": end(99),
        "plan": SavePlan(plan_id=plan_id + 1, state=PlanState.ACTIVE, until_task=0, budget_micros=0),
    }[missed]
    batch = [
        save(first, expected=1, version=2, state=TaskState.DONE),
        end(7),
        lease(8, plan_id=plan_id, task_id=second),
        record("task.done", plan_id=plan_id),
        wrong,
    ]
    with pytest.raises(InvariantViolation, match="Batch 2"):
        await store.commit(2, batch)
    assert rows.attempts() == {7: "leased"}
    assert rows.column("SELECT version FROM task_states ORDER BY task_id") == [1, 0]
    assert rows.column("SELECT token FROM leases") == [7]
    assert rows.column("SELECT count(*) FROM events") == [0]
    assert await store.last_batch() == 1
    await store.commit(2, batch[:-1])  # and the connection is as good as ever
    assert rows.attempts() == {7: "lost", 8: "leased"}
    assert rows.column("SELECT token FROM leases") == [8]


async def test_two_writes_of_one_task_in_a_batch_fold_into_one(
    store: PostgresSchedulerStore, rows: Rows
) -> None:
    _, (task_id,) = rows.plan(1)
    await store.commit(
        1,
        [
            save(task_id),
            save(task_id, expected=1, version=2, state=TaskState.RUNNING),
            save(task_id, expected=2, version=3, state=TaskState.DONE, reason="last"),
        ],
    )
    assert rows.all("SELECT state, reason, version FROM task_states") == [
        {"state": "done", "reason": "last", "version": 3}
    ]


async def test_the_database_refuses_a_second_live_attempt_of_a_task(
    store: PostgresSchedulerStore, rows: Rows
) -> None:
    plan_id, (task_id,) = rows.plan(1)
    await store.commit(1, [lease(7, plan_id=plan_id, task_id=task_id)])
    with pytest.raises(InvariantViolation, match="uq_leases_task_id"):
        await store.commit(2, [save(task_id), lease(8, plan_id=plan_id, task_id=task_id, number=2)])
    assert rows.attempts() == {7: "leased"}
    assert rows.column("SELECT version FROM task_states") == [0]
    await store.commit(2, [end(7, AttemptState.LOST), lease(8, plan_id=plan_id, task_id=task_id, number=2)])
    assert rows.attempts() == {7: "lost", 8: "leased"}


async def test_an_attempt_is_to_be_cancelled_and_ends(store: PostgresSchedulerStore, rows: Rows) -> None:
    plan_id, (task_id,) = rows.plan(1)
    await store.commit(1, [lease(7, plan_id=plan_id, task_id=task_id)])
    await store.commit(2, [AskCancel(token=7, reason="by request")])
    assert rows.column("SELECT cancel_reason FROM leases") == ["by request"]
    await store.commit(3, [end(7, AttemptState.TIMED_OUT, end_reason="timed out", kept_micros=5)])
    (attempt,) = rows.all("SELECT * FROM attempts")
    told = {name: attempt[name] for name in ("state", "end_reason", "failure_class", "reserved_micros")}
    assert told == {
        "state": "timed_out",
        "end_reason": "timed out",
        "failure_class": "timeout",
        "reserved_micros": 5,
    }
    assert attempt["ended_at"] is not None
    assert rows.column("SELECT count(*) FROM leases") == [0]


async def test_events_of_several_plans_in_one_batch_are_numbered_without_a_gap(
    store: PostgresSchedulerStore, rows: Rows
) -> None:
    first, second = (rows.plan(1)[0] for _ in range(2))
    told = [
        record(f"e{n}", plan_id=plan_id, text=f'"{n}", {{é}}')
        for n, plan_id in enumerate((first, second, first, 0))
    ]
    await store.commit(1, told)
    await store.commit(2, [record("last", plan_id=second)])
    seen = rows.all("SELECT seq, plan_id, type, payload FROM events ORDER BY seq")
    assert [(row["seq"], row["plan_id"], row["type"]) for row in seen] == [
        (1, first, "e0"),
        (2, first, "e2"),
        (3, second, "e1"),
        (4, None, "e3"),
        (5, second, "last"),
    ]
    assert seen[2]["payload"] == {"text": '"1", {é}'}


async def test_seq_order_is_commit_order_and_each_batch_notifies_once(
    store: PostgresSchedulerStore, rows: Rows, database: DatabaseUrls
) -> None:
    plan_id, _ = rows.plan(1)
    with psycopg.connect(database.service, autocommit=True) as listener:
        listener.execute("LISTEN orchestrator_events")
        for batch in (1, 2, 3):
            await store.commit(
                batch, [record(f"e{batch}.{n}", plan_id=plan_id) for n in range(5)] if batch != 2 else []
            )
        notes = [int(note.payload) for note in listener.notifies(timeout=60, stop_after=2)]
        assert list(listener.notifies(timeout=0)) == []
    events = rows.all("SELECT seq, type FROM events ORDER BY seq")
    assert [event["type"] for event in events] == [f"e{batch}.{n}" for batch in (1, 3) for n in range(5)]
    assert notes == [1, 3]  # the batches that had something to tell


async def test_it_writes_as_a_role_that_is_no_superuser(store: PostgresSchedulerStore, rows: Rows) -> None:
    who = rows.all(
        "SELECT usename, rolsuper FROM pg_stat_activity JOIN pg_roles ON rolname = usename "
        "WHERE application_name LIKE 'orchestrator-committer%%'"
    )
    assert who == [{"usename": "orchestrator_service", "rolsuper": False}]


async def test_tokens_come_in_blocks_that_do_not_overlap(store: PostgresSchedulerStore) -> None:
    blocks = [await store.reserve_tokens() for _ in range(3)]
    assert all(count == TOKEN_BLOCK for _, count in blocks)
    starts = [first for first, _ in blocks]
    assert starts == [starts[0], starts[0] + TOKEN_BLOCK, starts[0] + 2 * TOKEN_BLOCK]


# --- the term


async def test_a_stolen_epoch_fences_and_writes_nothing(
    store: PostgresSchedulerStore, rows: Rows, database: DatabaseUrls
) -> None:
    _, (task_id,) = rows.plan(1)
    thief = make_store(database.direct)
    term = await thief.take_term(incarnation="i2", is_starting=True, patience_s=60)  # same cluster: at once
    assert term.epoch == 2
    for batch in (1, 2):
        with pytest.raises(Fenced, match="Epoch 1"):
            await store.commit(batch, [save(task_id)])
    with pytest.raises(Fenced):
        await store.last_batch()
    assert rows.column("SELECT version FROM task_states") == [0]
    await thief.commit(1, [save(task_id)])
    assert rows.column("SELECT version FROM task_states") == [1]
    await thief.close()


async def test_a_stolen_epoch_fences_also_who_would_lease_what_is_leased(
    store: PostgresSchedulerStore, rows: Rows, database: DatabaseUrls
) -> None:
    plan_id, (task_id,) = rows.plan(1)
    newer = make_store(database.direct)
    await newer.take_term(incarnation="i2", is_starting=True, patience_s=5)
    await newer.commit(1, [lease(8, plan_id=plan_id, task_id=task_id)])
    with pytest.raises(Fenced):
        await store.commit(1, [lease(7, plan_id=plan_id, task_id=task_id, number=2)])
    assert rows.column("SELECT token FROM attempts") == [8]
    with pytest.raises(InvariantViolation):  # of whoever holds the term it is a defect
        await newer.commit(2, [lease(9, plan_id=plan_id, task_id=task_id, number=2)])
    await newer.close()


async def test_the_fenced_one_does_not_take_the_term_back_while_it_is_renewed(
    store: PostgresSchedulerStore, database: DatabaseUrls
) -> None:
    thief = make_store(database.direct)
    await thief.take_term(incarnation="i2", is_starting=True, patience_s=60)
    back = asyncio.create_task(store.take_term(incarnation="i1", is_starting=False, patience_s=3.0))
    for batch in range(1, 15):  # renewed for longer than its patience, which outlasts a slow commit
        await thief.commit(batch, [])
        await asyncio.wait({back}, timeout=0.25)
        assert not back.done()
    assert (await asyncio.wait_for(back, 60)).epoch == 3  # the thief fell silent
    await thief.close()


async def test_another_cluster_waits_until_the_term_stands_still(
    store: PostgresSchedulerStore, database: DatabaseUrls
) -> None:
    other = make_store(database.direct, cluster_id="c2")
    began = asyncio.get_running_loop().time()
    term = await other.take_term(incarnation="i2", is_starting=True, patience_s=0.5)
    assert asyncio.get_running_loop().time() - began >= 0.5
    assert term.epoch == 2
    await other.close()


async def test_a_term_given_back_is_taken_at_once_and_a_term_of_ours_too(
    store: PostgresSchedulerStore, database: DatabaseUrls
) -> None:
    again = await store.take_term(incarnation="i1", is_starting=False, patience_s=60)
    assert again.epoch == 2
    await store.release_term()
    with pytest.raises(Fenced):
        await store.commit(1, [])
    other = make_store(database.direct, cluster_id="c2")
    async with asyncio.timeout(60):
        term = await other.take_term(incarnation="i2", is_starting=False, patience_s=900)
    assert term.epoch == 3
    await other.close()


async def test_of_many_that_start_at_once_each_epoch_has_one_holder(database: DatabaseUrls) -> None:
    stores = [make_store(database.direct) for _ in range(5)]
    terms = await asyncio.gather(
        *(s.take_term(incarnation=f"i{n}", is_starting=True, patience_s=60) for n, s in enumerate(stores))
    )
    assert sorted(term.epoch for term in terms) == [1, 2, 3, 4, 5]
    for one in stores:
        await one.close()


# --- connections that break


@pytest.mark.parametrize(("cut", "written"), [(Fate.AFTER, 1), (Fate.BEFORE, 0)])
async def test_the_outcome_of_a_cut_commit_can_be_looked_up(
    database: DatabaseUrls, rows: Rows, cut: Fate, written: int
) -> None:
    _, (task_id,) = rows.plan(1)
    with commit_proxy(database.direct) as proxy:
        store = make_store(proxy.through(database.direct))
        await store.take_term(incarnation="i1", is_starting=True, patience_s=5)
        proxy.next_fate = cut
        with pytest.raises(DatabaseUnavailable):
            await store.commit(1, [save(task_id)])
        assert proxy.counts[cut] == 1
        assert await store.last_batch() == written
        assert rows.column("SELECT version FROM task_states") == [written]
        await store.close()


@pytest.mark.parametrize("cut", [Fate.AFTER, Fate.BEFORE])
async def test_a_scheduler_whose_commit_was_cut_writes_once_and_goes_on(
    database: DatabaseUrls, rows: Rows, cut: Fate
) -> None:
    plan_id, (task_id,) = rows.plan(1)
    executors = MemoryExecutors()
    with commit_proxy(database.direct) as proxy:
        store = make_store(proxy.through(database.direct))
        term = await store.take_term(incarnation="i1", is_starting=True, patience_s=5)
        clock = Clock()
        clock.start(term.now_ms)
        driver = Driver(state=SchedulerState(policy=Policy()), store=store, executors=executors, clock=clock)
        first, count = await store.reserve_tokens()
        driver.post(e.TokensReserved(first=first, count=count))
        run = asyncio.create_task(driver.run())
        await driver.load_plan(plan_id)
        proxy.next_fate = cut
        driver.post(e.ExecutorJoined(executor="x1", agent_type="coder", slots=1))
        await executors.signal.until(executors.started)
        assert (proxy.counts[cut], driver.unknown_commits) == (1, 1)
        assert rows.attempts() == {first: "leased"}
        assert executors.started() == [first]
        assert rows.column("SELECT type FROM events WHERE token = %s", first) == ["attempt.leased"]
        answer = await driver.request("cancel_task", {"plan_id": plan_id, "task_id": task_id})
        assert answer == {"cancelled": 0, "cancelling": 1}
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run
        await store.close()


async def test_looking_up_the_last_batch_waits_for_a_commit_in_flight(
    store: PostgresSchedulerStore, rows: Rows, database: DatabaseUrls
) -> None:
    with psycopg.connect(database.direct) as in_flight:  # what the server still works on for a cut connection
        in_flight.execute("UPDATE scheduler_term SET batch = 5")
        look_up = asyncio.create_task(store.last_batch())
        await somebody_waits_for_a_lock(rows)
        assert not look_up.done()
        in_flight.commit()
        assert await look_up == 5


async def test_a_connection_that_the_server_ends_is_opened_again(
    store: PostgresSchedulerStore, rows: Rows
) -> None:
    _, (task_id,) = rows.plan(1)
    rows.all(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name LIKE 'orchestrator-committer%%' AND datname = current_database()"
    )
    with pytest.raises(DatabaseUnavailable):
        await store.commit(1, [save(task_id)])
    assert await store.last_batch() == 0
    await store.commit(1, [save(task_id)])
    assert rows.column("SELECT version FROM task_states") == [1]


async def test_a_server_that_says_nothing_is_away_and_then_back(rows: Rows, database: DatabaseUrls) -> None:
    hot = HotConnection(database.direct, name="hot", patience_s=0.5)
    async with hot.use() as connection:
        await connection.execute("SELECT 1")
    with frozen(rows, "hot"), pytest.raises(DatabaseUnavailable):
        async with hot.use() as connection:
            await connection.execute("SELECT 1")
    with pytest.raises(DatabaseUnavailable):
        async with hot.use() as connection, connection.pipeline():
            await connection.execute("SELECT pg_sleep(60)")
    async with hot.use() as connection:
        await connection.execute("SELECT 1")
    await hot.close()


async def test_a_commit_that_is_given_up_leaves_nothing_half_done(
    store: PostgresSchedulerStore, rows: Rows, database: DatabaseUrls
) -> None:
    _, (task_id,) = rows.plan(1)
    with psycopg.connect(database.direct) as other:
        other.execute("SELECT 1 FROM task_states FOR UPDATE")
        commit = asyncio.create_task(store.commit(1, [save(task_id)]))
        await somebody_waits_for_a_lock(rows)
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
    assert await store.last_batch() == 0
    await store.commit(1, [save(task_id)])
    assert rows.column("SELECT version FROM task_states") == [1]


async def test_no_server_is_database_unavailable(database: DatabaseUrls) -> None:
    with commit_proxy(database.direct) as proxy:
        url = proxy.through(database.direct)
    store = make_store(url)
    with pytest.raises(DatabaseUnavailable):
        await store.take_term(incarnation="i1", is_starting=True, patience_s=1)
    with pytest.raises(DatabaseUnavailable):
        await store.unfinished_plans()
