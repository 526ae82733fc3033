"""What attempts left in repositories, and what later ones begin with, on a real PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import psycopg
import pytest

from orchestrator.core.words import AttemptState
from orchestrator.ports import Outcome, Repository, SessionLimits
from orchestrator.repository_ports import AttemptCommits, EarlierWork
from orchestrator.store.commit_book import PostgresCommitBook
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.urls import DatabaseUrls
from tests.support.rows import Rows, lease, make_store

pytestmark = pytest.mark.postgres


class Stage:
    """Attempts that a scheduler leases, an executor starts and ends, and a book keeps."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self.urls = urls
        self.rows = Rows(urls)
        self.book = PostgresCommitBook(urls.service, name="book")
        self.scheduler = make_store(urls.direct)
        self.executor = ExecutorStore(
            urls.service, executor="x1", incarnation="i1", node_id="n1", limits=SessionLimits()
        )
        self._batches = itertools.count(1)

    def execute(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.urls.service) as connection:
            connection.execute(statement.encode(), values)

    async def attempt(
        self, token: int, plan_id: int, task_id: int, *, number: int = 1, state: AttemptState | None = None
    ) -> None:
        """Lease and start an attempt; with a `state` it ends so, and leaves a commit of its token."""
        leased = lease(token, plan_id=plan_id, task_id=task_id, number=number)
        await self.scheduler.commit(next(self._batches), [leased])
        await self.executor.start([token])
        if state is not None:
            await self.book.save(commits(token))
            await self.executor.save_results([(token, Outcome(state=state))])
            self.execute("DELETE FROM leases WHERE token = %s", token)


def commits(token: int, *, head_sha: str = "") -> AttemptCommits:
    return AttemptCommits(
        token=token,
        base_sha="base",
        head_sha=head_sha or f"head-{token}",
        branch=f"b/{token}",
        files=(("a", 1, 2), ("image", None, None)),
    )


@pytest.fixture
async def stage(database: DatabaseUrls) -> AsyncIterator[Stage]:
    made = Stage(database)
    await made.scheduler.take_term(incarnation="i1", is_starting=True, patience_s=5)
    yield made
    await made.scheduler.close()
    await made.executor.close()
    await made.book.close()


async def test_the_repository_of_a_plan_reaches_who_works_on_it(stage: Stage) -> None:
    plan_id, (task_id,) = stage.rows.plan(1, state="active")
    fields = '{"url": "/code", "branch": "main", "include": [".env"], "setup": ["make"]}'
    stage.execute("UPDATE plans SET repository = %s WHERE id = %s", fields, plan_id)
    await stage.scheduler.commit(1, [lease(7, plan_id=plan_id, task_id=task_id)])
    (assignment,) = await stage.executor.start([7])
    assert assignment.repository == Repository(url="/code", branch="main", include=(".env",), setup=("make",))


async def test_the_first_word_on_an_attempt_counts(stage: Stage) -> None:
    plan_id, (task_id,) = stage.rows.plan(1, state="active")
    await stage.attempt(7, plan_id, task_id)
    await stage.book.save(commits(7))
    await stage.book.save(commits(7, head_sha="other"))
    await stage.book.save(commits(8))  # of no attempt
    (row,) = stage.rows.all("SELECT token, head_sha, branch, files FROM attempt_commits")
    assert row == {
        "token": 7,
        "head_sha": "head-7",
        "branch": "b/7",
        "files": [["a", 1, 2], ["image", None, None]],
    }


async def test_a_task_begins_with_what_it_waited_for_and_with_its_own_last_attempt(stage: Stage) -> None:
    done, failed = AttemptState.SUCCEEDED, AttemptState.FAILED
    plan_id, (needed, other, mine) = stage.rows.plan(3, state="active", edges=[(2, 0)])
    await stage.attempt(1, plan_id, needed, state=done)
    await stage.attempt(2, plan_id, needed, number=2, state=done)
    await stage.attempt(3, plan_id, needed, number=3, state=failed)
    await stage.attempt(4, plan_id, other, state=done)
    await stage.attempt(5, plan_id, mine, state=failed)
    await stage.attempt(6, plan_id, mine, number=2)
    assert await stage.book.earlier(6) == [
        EarlierWork(token=2, key="T1", head_sha="head-2", is_own=False),
        EarlierWork(token=5, key="T3", head_sha="head-5", is_own=True),
    ]
    stage.execute("UPDATE attempts SET kind = 'gate' WHERE token = 6")
    assert [work.token for work in await stage.book.earlier(6)] == [5]


async def test_a_task_begins_with_all_that_its_container_waited_for(stage: Stage) -> None:
    plan_id, (box, inner, around, mine) = stage.rows.plan(4, state="active", edges=[(2, 0)])
    for container, leaf in ((box, inner), (around, mine)):
        stage.execute("UPDATE tasks SET kind = 'container' WHERE id = %s", container)
        stage.execute("UPDATE tasks SET parent_id = %s WHERE id = %s", container, leaf)
    await stage.attempt(1, plan_id, inner, state=AttemptState.SUCCEEDED)
    await stage.attempt(2, plan_id, mine)
    assert [work.token for work in await stage.book.earlier(2)] == [1]
