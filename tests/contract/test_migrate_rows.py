"""Two plans at work in a database that an older release left: the upgrade finds everything its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from alembic import command
from psycopg.types.json import Jsonb

from orchestrator.core.events import AttemptEnded, AttemptStarted
from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.ports import Outcome, SessionLimits
from orchestrator.store import migrate, roles
from orchestrator.store.address import Address
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.urls import DatabaseUrls
from tests.support.history import check_history
from tests.support.postgres import own_database
from tests.support.rows import Rows, end, make_store, record, save

pytestmark = pytest.mark.postgres

#: What the database is at: the last one with tables of starts and results, and a row for each event.
OLD = "0010"

EPOCH = 4
BEGAN = datetime(2026, 1, 2, 3, tzinfo=UTC)

Row = dict[str, Any]


def at(second: int) -> datetime:
    return BEGAN + timedelta(seconds=second)


def attempt(token: int, task_id: int, *, state: str, **more: Any) -> Row:
    """An attempt that was leased in the second of its token."""
    base = {"token": token, "plan_id": 2 if task_id == 8 else 1, "task_id": task_id, "state": state}
    base |= {"number": 1, "kind": "work", "agent_type": "coder", "backend": "command", "executor": "x1"}
    return base | {"cluster_id": "c1", "epoch": EPOCH, "leased_at": at(token), "reserved_micros": 70} | more


def reported(state: str, second: int) -> Row:
    """What an attempt says of its end, and its stored result as well."""
    words = {"state": state, "summary": f"ended as {state}", "detail": "so it goes", "exit_code": 3}
    usage = {"input_tokens": 5, "output_tokens": 6, "cache_read_tokens": 7, "cache_write_tokens": 8}
    report = {"report": {"files": ["a.txt"]}, "failure_class": None}
    return words | usage | report | {"cost_micros": 42, "requests": 9, "at": at(second)}


def taken(result: Row) -> Row:
    """The columns of an attempt whose result the scheduler has taken."""
    end = {"end_reason": "reported", "ended_at": result["at"], "reserved_micros": 0}
    return {name: value for name, value in result.items() if name != "at"} | end


#: By token. For 16 the executor named no class; of the starts of 14 and 17 the scheduler has not heard.
RESULTS: Mapping[int, Row] = {
    12: reported("succeeded", 30),
    16: reported("failed", 35),
    17: reported("timed_out", 36),
    19: reported("succeeded", 20),
    20: reported("succeeded", 22),
}
STARTS = {token: f"i{token}" for token in (11, 12, 14, 15, 16, 17, 18, 19, 20)}

ATTEMPTS: Sequence[Row] = (
    attempt(
        11, 1, state="lost", end_reason="executor lost", failure_class="infrastructure", started_at=at(11),
        ended_at=at(12), reserved_micros=50,
    ),
    attempt(12, 1, number=2, started_at=at(13), **taken(RESULTS[12])),
    attempt(13, 2, state="leased"),
    attempt(14, 3, state="leased"),
    attempt(15, 4, state="started", started_at=at(16)),
    attempt(16, 5, state="started", started_at=at(17)),
    attempt(17, 6, state="leased"),
    attempt(18, 7, state="lost", end_reason="node lost", started_at=at(19), ended_at=at(40)),
    attempt(19, 8, started_at=at(20), **taken(RESULTS[19])),
    attempt(20, 8, kind="gate", started_at=at(21), **taken(RESULTS[20])),
)  # fmt: skip

#: What the columns of an attempt say of which nothing is known.
UNTOLD: Row = {
    "tenant_id": "local",
    **dict.fromkeys(("started_at", "ended_at", "failure_class", "exit_code", "report")),
    **dict.fromkeys(("incarnation", "node_id", "end_reason", "summary", "detail"), ""),
    **dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"), 0),
    **dict.fromkeys(("cost_micros", "requests"), 0),
}

#: Attempts with a lease: live ones, those whose end the scheduler has not taken, and one that is fenced.
LEASED = (13, 14, 15, 16, 17, 18)

#: (plan, task, token, type, payload) in their order, the plans mixed.
EVENTS: Sequence[tuple[int | None, int | None, int | None, str, Row]] = (
    (None, None, None, "limits.changed", {"sessions_max": 9}),
    (1, None, None, "plan.taken", {}),
    (1, 1, None, "task.ready", {}),
    (1, 1, 11, "attempt.leased", {"executor": "x1"}),
    (2, 8, 19, "attempt.leased", {}),
    (1, 1, 11, "attempt.started", {}),
    (1, 1, 11, "attempt.lost", {"state": "lost"}),
    (2, 8, 19, "attempt.started", {}),
    (2, 8, 19, "attempt.ended", {"state": "succeeded", "words": 'it\'s "done" — ✓'}),
    (1, 1, None, "task.ready", {}),
    (1, 1, 12, "attempt.leased", {}),
    (2, 8, None, "task.verifying", {}),
    (2, 8, 20, "attempt.leased", {}),
    (2, 8, 20, "attempt.ended", {"state": "succeeded"}),
    (2, 8, None, "task.done", {}),
    (1, 1, 12, "attempt.ended", {"state": "succeeded"}),
    (1, 1, None, "task.done", {}),
    *((1, token - 11, token, "attempt.leased", {}) for token in LEASED),
    (1, 4, 15, "attempt.started", {}),
    (1, 5, 16, "attempt.started", {}),
    (1, 7, 18, "attempt.started", {}),
    (2, None, None, "plan.done", {}),
)


def events() -> list[Row]:
    """The events as they were stored: their numbers have gaps."""
    names = ("plan_id", "task_id", "token", "type", "payload")
    base = {"tenant_id": "local", "epoch": EPOCH}
    return [
        base | {"seq": 3 * n, "at": at(n)} | dict(zip(names, said, strict=True))
        for n, said in enumerate(EVENTS, start=1)
    ]


def insert(connection: psycopg.Connection[Any], table: str, rows: Sequence[Row]) -> None:
    for row in rows:
        marks = ", ".join(["%s"] * len(row))
        statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})"
        values = [Jsonb(value) if isinstance(value, dict) else value for value in row.values()]
        connection.execute(statement.encode(), values)


def upgrade(urls: DatabaseUrls, revision: str) -> None:
    """Bring an empty database to a revision."""
    roles.make_roles(urls)
    with migrate._transaction(urls.owner) as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def fill(connection: psycopg.Connection[Any]) -> None:
    """Write what an older release wrote of two plans."""
    plans = {1: ("active", 7), 2: ("done", 1)}
    insert(
        connection,
        "plans",
        [
            {"id": plan, "name": f"plan {plan}", "source_digest": "", "state": state, "tasks_total": count}
            for plan, (state, count) in plans.items()
        ],
    )
    for task_id in range(1, 9):
        place: Row = {"plan_id": 2 if task_id == 8 else 1}
        task = {"id": task_id, "key": f"T.{task_id}", "ordinal": task_id, "kind": "leaf", "title": "Task"}
        insert(connection, "tasks", [task | place])
        state = "done" if task_id in {1, 8} else "running"
        insert(connection, "task_states", [{"task_id": task_id, "state": state} | place])
    insert(connection, "attempts", ATTEMPTS)
    tasks = {row["token"]: row["task_id"] for row in ATTEMPTS}
    wishes = {15: "by request"}
    insert(
        connection,
        "leases",
        [{"token": t, "task_id": tasks[t], "beat": t, "cancel_reason": wishes.get(t)} for t in LEASED],
    )
    starts = [
        {"token": token, "incarnation": name, "node_id": f"node of {name}", "at": at(token + 1)}
        for token, name in STARTS.items()
    ]
    insert(connection, "starts", starts)
    insert(connection, "results", [{"token": token} | row for token, row in RESULTS.items()])
    insert(connection, "scheduler_term", [{"epoch": EPOCH, "cluster_id": "c1", "batch": 77}])
    insert(connection, "events", events())


@pytest.fixture
def urls(migrated: Address) -> Iterator[DatabaseUrls]:
    """A database that this release has brought up to date."""
    with own_database(migrated) as address:
        upgrade(address.urls(), OLD)
        with psycopg.connect(address.urls().owner) as connection:
            fill(connection)
        migrate.prepare(address.urls())
        yield address.urls()


def test_every_attempt_has_its_start_and_its_result(urls: DatabaseUrls) -> None:
    assert migrate.check(urls) == ()
    expected = {row["token"]: dict(row) for row in ATTEMPTS}
    for token, name in STARTS.items():
        expected[token] |= {"incarnation": name, "node_id": f"node of {name}"}
    expected[14] |= {"state": "started", "started_at": at(15)}
    expected[16] |= taken(RESULTS[16]) | {"failure_class": "agent"}
    expected[17] |= taken(RESULTS[17]) | {"failure_class": "timeout", "started_at": at(18)}
    found = {row["token"]: row for row in Rows(urls).all("SELECT * FROM attempts")}
    assert found == {token: UNTOLD | row for token, row in expected.items()}
    leases = Rows(urls).all("SELECT token, beat, cancel_reason FROM leases ORDER BY token")
    assert [(row["token"], row["beat"]) for row in leases] == [(token, token) for token in LEASED]
    assert {row["cancel_reason"] for row in leases if row["token"] == 15} == {"by request"}


def test_every_event_is_told_as_before(urls: DatabaseUrls) -> None:
    columns = "seq, tenant_id, plan_id, task_id, token, epoch, type, payload, at"
    assert Rows(urls).all(f"SELECT {columns} FROM events ORDER BY seq") == events()


async def test_scheduler_and_executors_go_on(urls: DatabaseUrls) -> None:
    store = make_store(urls.direct)
    x1 = ExecutorStore(urls.service, executor="x1", incarnation="i15", node_id="n", limits=SessionLimits())
    try:
        term = await store.take_term(incarnation="s1", is_starting=True, patience_s=60.0)
        assert term.epoch == EPOCH + 1
        assert await store.unfinished_plans() == [1]
        (part,) = [part async for part in store.load_plan(1)]
        assert [(live.token, live.state) for live in part.attempts] == [
            (13, "leased"), (14, "started"), (15, "started"),
            (16, "started"), (17, "started"), (18, "lost"),
        ]  # fmt: skip
        assert part.plan.spent_micros == 50 + 42
        reports = await store.reports()
        assert {report.token for report in reports if isinstance(report, AttemptStarted)} == {14, 15}
        ended = {report.token: report for report in reports if isinstance(report, AttemptEnded)}
        assert {token: report.failure_class for token, report in ended.items()} == {
            16: FailureClass.AGENT,
            17: FailureClass.TIMEOUT,
        }
        assert [assignment.token for assignment in await x1.start([13, 14])] == [13]
        done = Outcome(state=AttemptState.SUCCEEDED)
        assert await x1.save_results([(15, done), (18, done)]) == {15}
        await store.commit(1, [end(18), save(7), record("task.ready", plan_id=1)])
        assert Rows(urls).column("SELECT max(seq) FROM events") == [3 * len(EVENTS) + 1]
        history = check_history(urls.service)
        assert (history.starts, history.results.keys()) == ({*STARTS, 13}, {*RESULTS, 15})
    finally:
        await store.close()
        await x1.close()
