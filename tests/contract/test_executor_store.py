"""What is PostgreSQL's own in the executors' stores: columns, encodings, roles; see contract/stores."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.errors import DatabaseUnavailable
from orchestrator.ports import Outcome, SessionLimits, TranscriptChunk, Usage
from orchestrator.runtime.executing import TranscriptBuffer, storable_outcome
from orchestrator.runtime.redaction import Redaction
from orchestrator.store.crypto import NO_KEYS
from orchestrator.store.executors import Beats, ExecutorStore
from orchestrator.store.transcript_chunks import unfold
from orchestrator.store.urls import DatabaseUrls
from tests.support.commit_proxy import Fate, commit_proxy
from tests.support.rows import Rows, end, frozen, lease, make_store

pytestmark = pytest.mark.postgres

LIMITS = SessionLimits(total_timeout_s=100)
DONE = Outcome(state=AttemptState.SUCCEEDED, summary="did it")


class Stage:
    """Executors on a database, and a scheduler that leases attempts to them."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self.urls = urls
        self.rows = Rows(urls)
        self.scheduler = make_store(urls.direct)
        self.x1 = self.executor()
        self._batches = itertools.count(1)

    def executor(self, name: str = "x1", incarnation: str = "i1", *, url: str = "") -> ExecutorStore:
        return ExecutorStore(
            url or self.urls.service,
            executor=name,
            incarnation=incarnation,
            node_id="n1",
            limits=LIMITS,
        )

    async def commit(self, *rows: object) -> None:
        await self.scheduler.commit(next(self._batches), list(rows))

    async def leased(self, *tokens: int, options: dict[str, str] | None = None) -> tuple[int, list[int]]:
        """Have a task for each token, leased; return plan and tasks."""
        plan_id, ids = self.rows.plan(len(tokens), state="active", options=options)
        await self.commit(
            *(lease(token, plan_id=plan_id, task_id=i) for token, i in zip(tokens, ids, strict=True))
        )
        return plan_id, ids


@pytest.fixture
async def stage(database: DatabaseUrls) -> AsyncIterator[Stage]:
    made = Stage(database)
    await made.scheduler.take_term(incarnation="i1", is_starting=True, patience_s=5)
    yield made
    await made.scheduler.close()
    await made.x1.close()


async def test_a_start_gives_what_is_to_be_done(stage: Stage) -> None:
    plan_id, (task_id,) = await stage.leased(7, options={"timeout": "2m", "simulate": "1s"})
    (assignment,) = await stage.x1.start([7])
    assert (assignment.token, assignment.number, assignment.kind) == (7, 1, AttemptKind.WORK)
    assert (assignment.plan_id, assignment.task_id, assignment.key) == (plan_id, task_id, "T1")
    assert (assignment.run, assignment.verify, assignment.feedback) == (("true",), (), "")
    assert assignment.options["simulate"] == "1s"
    assert assignment.limits.total_timeout_s == 120
    assert stage.rows.all("SELECT token, incarnation FROM attempts") == [{"token": 7, "incarnation": "i1"}]


async def test_a_task_without_a_timeout_has_that_of_the_settings(stage: Stage) -> None:
    await stage.leased(7)
    (assignment,) = await stage.x1.start([7])
    assert assignment.limits == LIMITS


async def test_a_task_may_set_each_of_its_times(stage: Stage) -> None:
    await stage.leased(7, options={"timeout": "1 min", "idle timeout": "500 ms", "grace": "0 s"})
    (assignment,) = await stage.x1.start([7])
    limits = assignment.limits
    assert (limits.total_timeout_s, limits.idle_timeout_s, limits.grace_s) == (60, 0.5, 0)


async def test_only_tokens_that_are_leased_to_this_executor_start(stage: Stage) -> None:
    await stage.leased(1, 2, 3, 4)
    await stage.scheduler.fate(2, may_fence=False, reason="start timeout")
    stage.rows.all("UPDATE attempts SET executor = 'x2' WHERE token = 3")
    await stage.commit(end(4))
    assert [a.token for a in await stage.x1.start([1, 2, 3, 4, 99])] == [1]
    assert stage.rows.column("SELECT token FROM attempts WHERE incarnation <> ''") == [1]


async def test_a_result_is_stored_once_and_whole(stage: Stage) -> None:
    await stage.leased(7)
    await stage.x1.start([7])
    usage = Usage(
        input_tokens=1,
        output_tokens=2,
        cache_read_tokens=3,
        cache_write_tokens=4,
        cost_micros=5_000_000_000,
        requests=6,
    )
    outcome = Outcome(
        state=AttemptState.FAILED,
        failure_class=FailureClass.AGENT,
        summary="no",
        detail="at length",
        exit_code=-9,
        report={"ok": False},
        usage=usage,
    )
    assert await stage.x1.save_results([(7, outcome)]) == {7}
    assert await stage.x1.save_results([(7, DONE)]) == {7}  # the first one stays
    (row,) = stage.rows.all(
        "SELECT state, failure_class, summary, detail, exit_code, report, input_tokens, output_tokens, "
        "cache_read_tokens, cache_write_tokens, cost_micros, requests FROM attempts"
    )
    assert list(row.values()) == [
        "failed", "agent", "no", "at length", -9, {"ok": False}, 1, 2, 3, 4, 5_000_000_000, 6,
    ]  # fmt: skip


async def test_whatever_a_session_says_can_be_stored_and_read(stage: Stage) -> None:
    _, (task_id,) = await stage.leased(7)
    await stage.x1.start([7])
    nasty = "NUL \0, lone \ud800, \udfff, quote ' and \\ and {braces} %s"
    outcome = storable_outcome(
        Outcome(
            state=AttemptState.FAILED,
            failure_class=FailureClass.AGENT,
            summary=nasty,
            detail=nasty,
            report={nasty: [nasty, float("nan"), float("inf"), 10**30]},
        ),
        Redaction(),
    )
    assert await stage.x1.save_results([(7, outcome)]) == {7}
    (report,) = [r for r in await stage.scheduler.reports() if hasattr(r, "summary")]
    assert report.summary == "NUL \ufffd, lone \ufffd, \ufffd, quote ' and \\ and {braces} %s"
    assert stage.rows.column("SELECT detail FROM attempts") == [report.summary]
    assert stage.rows.column("SELECT count(*) FROM tasks WHERE id = %s", task_id) == [1]


async def test_a_piece_of_a_transcript_is_stored_once(stage: Stage) -> None:
    await stage.leased(7)
    buffer = TranscriptBuffer(token=7)
    buffer.write("stdout", "hello \0 \ud800\n")
    chunk = buffer.take()
    assert chunk is not None
    for _ in range(2):
        await stage.x1.save_chunks([chunk, TranscriptChunk(token=99, seq=1, lines=[])])
    (row,) = stage.rows.all("SELECT token, seq, bytes FROM transcript_chunks")
    assert (row["token"], row["seq"]) == (7, 1)
    assert [text for _, _, text in unfold(None, row["bytes"], keys=NO_KEYS)] == ["hello \ufffd \ufffd\n"]


async def test_a_result_whose_commit_was_cut_is_stored_once(stage: Stage) -> None:
    await stage.leased(7)
    await stage.x1.start([7])
    with commit_proxy(stage.urls.service) as proxy:
        through = stage.executor(url=proxy.through(stage.urls.service))
        proxy.next_fate = Fate.AFTER
        with pytest.raises(DatabaseUnavailable):
            await through.save_results([(7, DONE)])
        assert await through.save_results([(7, DONE)]) == {7}
        await through.close()
    assert stage.rows.column("SELECT state FROM attempts") == ["succeeded"]


# --- beats


async def test_beats_that_cannot_be_sent_say_so_and_come_back(stage: Stage) -> None:
    await stage.leased(1)
    beats = Beats(stage.urls.service, name="beats")
    beats.renew([1])
    stage.rows.all("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'beats'")
    with pytest.raises(DatabaseUnavailable):
        beats.renew([1])
    assert beats.renew([1]) == {1: None}
    beats.close()


async def test_beats_to_a_server_that_says_nothing_are_given_up(stage: Stage) -> None:
    await stage.leased(1)
    beats = Beats(stage.urls.service, name="beats", patience_s=0.5)
    beats.renew([1])
    with frozen(stage.rows, "beats"), pytest.raises(DatabaseUnavailable):
        beats.renew([1])
    assert beats.renew([1]) == {1: None}
    beats.close()


async def test_executors_write_as_a_role_that_is_no_superuser(stage: Stage) -> None:
    await stage.x1.start([])
    who = stage.rows.all(
        "SELECT usename, rolsuper FROM pg_stat_activity JOIN pg_roles ON rolname = usename "
        "WHERE application_name = 'orchestrator-x1'"
    )
    assert who == [{"usename": "orchestrator_service", "rolsuper": False}]
