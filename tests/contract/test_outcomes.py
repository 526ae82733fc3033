"""Aggregated outcomes on a real PostgreSQL: each counted once, whoever dies when, as the role `service`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from actors.metrics import Metrics
from actors.options import ActorConfig
from orchestrator.errors import DatabaseUnavailable
from orchestrator.runtime.outcomes import Aggregator, fold_outcomes
from orchestrator.settings import Settings
from orchestrator.store.affinity import PostgresOutcomes
from orchestrator.store.crypto import NO_KEYS
from orchestrator.store.urls import DatabaseUrls
from tests.support.rows import APPEND_EVENT, Rows

TIMEOUT_S = 20.0


class History:
    """Writes what the scheduler writes when attempts end."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        self._connection = connection
        self._tokens = itertools.count(1)
        self._numbers = itertools.count(1)
        self.plan_id = self._value("INSERT INTO plans (name, source_digest) VALUES ('p', '') RETURNING id")

    def _value(self, statement: str, *values: object) -> Any:
        row = self._connection.execute(statement.encode(), values).fetchone()
        assert row is not None
        return next(iter(row.values()))

    def task(self, *, task_type: str = "test", verify: str = "[]") -> int:
        number = next(self._numbers)
        return int(
            self._value(
                "INSERT INTO tasks (plan_id, key, ordinal, kind, title, task_type, domain, verify) "
                "VALUES (%s, %s, %s, 'leaf', '', %s, 'backend', %s) RETURNING id",
                self.plan_id, str(number), number, task_type, verify,
            )
        )  # fmt: skip

    def ended(
        self, task_id: int, state: str = "succeeded", failure: str | None = None, *,
        kind: str = "work", agent_type: str = "a", seconds: int = 2, event: str = "attempt.ended",
    ) -> int:  # fmt: skip
        """Store an ended attempt and its event in one transaction, as the committer does."""
        token = next(self._tokens)
        with self._connection.transaction():
            self._connection.execute(
                "INSERT INTO attempts (token, plan_id, task_id, number, kind, agent_type, backend, executor, "
                "cluster_id, epoch, state, failure_class, input_tokens, output_tokens, cost_micros, "
                "started_at, ended_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, 'command', 'e', 'c', 1, %s, %s, 3, 4, 5, now(), "
                "now() + make_interval(secs => %s))",
                (token, self.plan_id, task_id, token, kind, agent_type, state, failure, seconds),
            )
            self.event(event, task_id=task_id, token=token)
        return token

    def event(self, kind: str, *, task_id: int | None = None, token: int | None = None) -> None:
        event = {"type": kind, "plan": self.plan_id, "task": task_id or 0, "token": token or 0}
        with self._connection.transaction():
            self._connection.execute(APPEND_EVENT, event)
            self._connection.execute("NOTIFY orchestrator_events")

    def affinity(self) -> list[dict[str, Any]]:
        return self._connection.execute(
            "SELECT * FROM agent_task_affinity ORDER BY agent_type, task_type"
        ).fetchall()

    def last_seq(self) -> int:
        return int(self._value("SELECT coalesce(max(seq), 0) FROM events"))

    def end_backends(self) -> None:
        """Cut the connections of the aggregator."""
        self._connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'orchestrator-%' AND pid <> pg_backend_pid()"
        )


@pytest.fixture
def history(database: DatabaseUrls) -> Iterator[History]:
    with psycopg.connect(database.service, autocommit=True, row_factory=dict_row) as connection:
        yield History(connection)


@pytest.fixture
async def store(database: DatabaseUrls) -> Any:
    store = PostgresOutcomes(database.direct)
    yield store
    await store.close()


async def catch_up(store: PostgresOutcomes) -> int:
    return await Aggregator(store, ema_alpha=0.3).catch_up()


async def test_outcomes_become_averages(history: History, store: PostgresOutcomes) -> None:
    history.ended(history.task(), seconds=10)
    history.ended(history.task(), "failed", "agent", seconds=20)
    history.ended(history.task(task_type="document"), agent_type="b")
    history.event("plan.active")

    assert await catch_up(store) == 4

    first, second = history.affinity()
    assert (first["agent_type"], first["task_type"], first["domain"]) == ("a", "test", "backend")
    assert (first["attempts"], first["successes"]) == (2, 1)
    assert first["success"] == pytest.approx(0.7)
    assert first["duration_ms"] == pytest.approx(10_000 * 0.7 + 20_000 * 0.3)
    assert (first["tokens"], first["cost_micros"]) == (pytest.approx(7), pytest.approx(5))
    assert (second["agent_type"], second["task_type"], second["attempts"]) == ("b", "document", 1)
    assert await store.last_seq() == history.last_seq()


async def test_looking_again_changes_nothing(history: History, store: PostgresOutcomes) -> None:
    history.ended(history.task())
    await catch_up(store)
    before = history.affinity()

    assert await catch_up(store) == 0
    await store.close()  # as after a restart
    assert await catch_up(store) == 0
    assert history.affinity() == before


async def test_a_gate_decides_about_the_work_before_it(history: History, store: PostgresOutcomes) -> None:
    task = history.task(verify='["true"]')
    history.ended(task, seconds=8)
    await catch_up(store)
    assert history.affinity() == []  # the gate has not spoken

    history.ended(task, "failed", "gate", kind="gate", agent_type="gate", seconds=1)
    history.ended(task, seconds=4)
    history.ended(task, kind="gate", agent_type="gate", seconds=1)
    await catch_up(store)

    (row,) = history.affinity()
    assert (row["agent_type"], row["attempts"], row["successes"]) == ("a", 2, 1)
    assert row["duration_ms"] == pytest.approx(8_000 * 0.7 + 4_000 * 0.3)  # of the work, not of the gate


async def test_what_says_nothing_about_the_agent_is_passed_over(
    history: History, store: PostgresOutcomes
) -> None:
    for state, failure in [("failed", "infrastructure"), ("failed", "rate_limited"), ("cancelled", None)]:
        history.ended(history.task(), state, failure)
    history.ended(history.task(), "lost", "infrastructure", event="attempt.lost")

    assert await catch_up(store) == 4
    assert history.affinity() == []
    assert await store.last_seq() == history.last_seq()


async def test_a_failure_between_fold_and_commit_leaves_nothing(
    history: History, store: PostgresOutcomes
) -> None:
    history.ended(history.task())

    def break_off(*_: object) -> Any:
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        await store.take(break_off, events_max=10)
    assert history.affinity() == []

    await catch_up(store)
    assert [row["attempts"] for row in history.affinity()] == [1]


async def test_two_at_once_count_each_outcome_once(database: DatabaseUrls, history: History) -> None:
    for _ in range(120):
        history.ended(history.task())
    stores = [PostgresOutcomes(database.direct) for _ in range(3)]

    async def take_all(store: PostgresOutcomes) -> None:
        while await store.take(lambda *given: fold_outcomes(*given, alpha=0.3), events_max=7):
            pass

    await asyncio.gather(*(take_all(store) for store in stores))
    for store in stores:
        await store.close()
    assert [row["attempts"] for row in history.affinity()] == [120]


async def test_tenants_learn_apart(history: History, store: PostgresOutcomes, database: DatabaseUrls) -> None:
    token = history.ended(history.task())
    history.ended(history.task())
    with psycopg.connect(database.service) as connection:
        connection.execute("UPDATE attempts SET tenant_id = 'other' WHERE token = %s", (token,))
    await catch_up(store)
    assert sorted((row["tenant_id"], row["attempts"]) for row in history.affinity()) == [
        ("local", 1),
        ("other", 1),
    ]


async def test_a_wrong_url_is_a_database_that_does_not_answer(database: DatabaseUrls) -> None:
    store = PostgresOutcomes(database.direct.replace(":5", ":9", 1) + "_missing")
    with pytest.raises(DatabaseUnavailable):
        await store.last_seq()


async def until(metrics: Metrics, *, events: int) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while (await metrics.report())["events"] != events:  # noqa: ASYNC110  asked like a remote actor
            await asyncio.sleep(0.02)


async def test_the_actor_takes_outcomes_as_they_come_sweeps_journals_and_outlives_its_connections(
    database: DatabaseUrls, history: History, tmp_path: Path
) -> None:
    config = ActorConfig(
        settings=Settings(home=tmp_path, metrics={"period_s": 0.01}),
        service_url=database.service,
        direct_url=database.direct,
        api_url=database.api,
        cluster_id="test",
        records=tmp_path,
        workspaces=tmp_path,
        keys=NO_KEYS,
    )
    metrics = Metrics(config)
    try:
        assert (await metrics.ping())["state"] == "starting"
        history.ended(history.task())
        await until(metrics, events=1)
        assert (await metrics.ping())["state"] == "ready"

        rows = Rows(database)
        rows.all("INSERT INTO journal_entries (token, seq, bytes) VALUES (99, 1, '')")  # of no attempt
        history.ended(history.task())  # long before the idle wait is over: the notification wakes it
        await until(metrics, events=2)

        history.end_backends()
        history.ended(history.task())
        await until(metrics, events=3)
        async with asyncio.timeout(TIMEOUT_S):
            while rows.column("SELECT count(*) FROM journal_entries") != [0]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert [row["attempts"] for row in history.affinity()] == [3]
        assert repr(metrics) == "Metrics()"
    finally:
        await metrics.stop()
