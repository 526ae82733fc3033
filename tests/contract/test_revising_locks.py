"""A revision is stored while the committer writes rows of the same plan, and neither waits in a circle.

The committer's transaction is stopped after each of its tables; there a revision is begun, and once that has
ended or waits, the committer goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from orchestrator.core.commands import RowCommand, SaveDependency, SavePlan
from orchestrator.core.words import DependencyDecision, PlanState
from orchestrator.errors import Fenced
from orchestrator.store.batches import COMMIT, rows_by_kind
from orchestrator.store.revising import take_revision
from orchestrator.store.urls import DatabaseUrls
from orchestrator.views import ReviseRequest, SubmitRequest
from tests.support.rows import lease, save
from tests.support.service import RememberingScheduler, execute, open_service

pytestmark = pytest.mark.postgres

PLAN = """\
# Shop

- [ ] **A.1** Design it
- [ ] **A.2** Build it
  - depends: A.1
- [ ] Write the words
- [ ] Buy a domain
"""
#: Renames a task, changes another, removes one, adds one, and changes a dependency.
EDITED = """\
# Shop

- [ ] **A.0** Think
- [ ] **A.1** Design it well
- [ ] **A.3** Build it
  - depends: A.0, A.1
- [ ] Write the words
"""
EPOCH = 1


@pytest.fixture
async def plan(database: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A plan with a revision that nobody has taken; the ids of its tasks by key."""
    monkeypatch.setattr("orchestrator.runtime.revision._PATIENCE_S", 0.0)
    async with open_service(database, tmp_path, scheduler=RememberingScheduler()) as service:
        await service.submit(SubmitRequest(text=PLAN, backend="simulated"))
        revised = await service.revise("Shop", ReviseRequest(text=EDITED), is_applied=True)
        assert revised.state == "submitted"
    execute(database, "INSERT INTO scheduler_term (epoch, is_released) VALUES (%s, false)", EPOCH)
    return {str(key): int(str(task_id)) for key, task_id in execute(database, "SELECT key, id FROM tasks")}


def batch(ids: dict[str, int]) -> list[list[str | None]]:
    """What the committer may write of such a plan, in its order: a call for each table and each lease."""
    changed, removed = ids["A.1"], ids["buy-a-domain"]
    plan = SavePlan(plan_id=1, state=PlanState.ACTIVE, until_task=0, budget_micros=0)
    decision = SaveDependency(
        tenant_id="local",
        plan_id=1,
        task_id=ids["A.2"],
        on_task_id=ids["A.1"],
        decision=DependencyDecision.DROPPED,
    )
    leases = [
        lease(token, plan_id=1, task_id=task_id)
        for token, task_id in enumerate((changed, ids["A.2"], removed), start=1)
    ]
    saves = [save(task_id) for task_id in ids.values()]
    return [_call([]), _call(saves), *(_call([each]) for each in leases), _call([plan]), _call([decision])]


def _call(rows: list[RowCommand]) -> list[str | None]:
    by_kind = rows_by_kind(rows)
    return COMMIT.arguments(by_kind, batch=1, epoch=EPOCH, cluster_id="c", channel="events", events=0)


@pytest.fixture
async def connections(
    database: DatabaseUrls,
) -> AsyncIterator[tuple[psycopg.AsyncConnection[Any], psycopg.AsyncConnection[Any]]]:
    async with (
        await psycopg.AsyncConnection.connect(database.direct) as committer,
        await psycopg.AsyncConnection.connect(database.direct, row_factory=dict_row) as side,
    ):
        await committer.execute(COMMIT.function.encode())
        await committer.commit()
        yield committer, side


async def test_no_order_of_their_statements_closes_a_circle(
    database: DatabaseUrls,
    plan: dict[str, int],
    connections: tuple[psycopg.AsyncConnection[Any], psycopg.AsyncConnection[Any]],
) -> None:
    committer, side = connections
    ordered = batch(plan)
    assert len(ordered) == 7
    waited = []
    for stop in range(len(ordered) + 1):
        for arguments in ordered[:stop]:
            await psycopg.AsyncRawCursor(committer).execute(COMMIT.sql, arguments)
        async with taking_a_revision(side) as taking:
            waited.append(await waits(database, side, taking))
            if not waited[-1]:
                await side.rollback()
            async with asyncio.timeout(30):
                for arguments in ordered[stop:]:
                    await psycopg.AsyncRawCursor(committer).execute(COMMIT.sql, arguments)
                await committer.rollback()
                assert await taking
    assert waited == [False, *[True] * len(ordered)]


async def test_what_is_written_before_the_term_is_locked_holds_up_no_lease(
    database: DatabaseUrls,
    plan: dict[str, int],
    connections: tuple[psycopg.AsyncConnection[Any], psycopg.AsyncConnection[Any]],
) -> None:
    committer, side = connections
    await committer.execute("SELECT FROM scheduler_term FOR UPDATE")
    async with taking_a_revision(side) as taking:
        assert await waits(database, side, taking)
        async with asyncio.timeout(30):
            for arguments in batch(plan)[2:5]:
                await psycopg.AsyncRawCursor(committer).execute(COMMIT.sql, arguments)
        await committer.rollback()
        assert await taking


async def test_a_scheduler_without_the_term_stores_no_revision(
    database: DatabaseUrls,
    plan: dict[str, int],
    connections: tuple[psycopg.AsyncConnection[Any], psycopg.AsyncConnection[Any]],
) -> None:
    _, side = connections
    with pytest.raises(Fenced):
        await take_revision(side, 1, epoch=EPOCH - 1)
    await side.rollback()
    assert execute(database, "SELECT state FROM plan_revisions") == [("submitted",)]
    assert plan.keys() >= {"A.1", "A.2"}


@asynccontextmanager
async def taking_a_revision(side: psycopg.AsyncConnection[Any]) -> AsyncIterator[asyncio.Task[bool]]:
    """A revision that is being stored on this connection; at the end nothing of it is left."""
    taking = asyncio.create_task(take_revision(side, 1, epoch=EPOCH))
    try:
        yield taking
    finally:
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await side.rollback()


async def waits(
    database: DatabaseUrls, side: psycopg.AsyncConnection[Any], taking: asyncio.Task[bool]
) -> bool:
    """Return once the revision has been written (False), or waits for a lock (True)."""
    look = "SELECT pid FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    async with asyncio.timeout(30):
        while not taking.done():
            if execute(database, look, side.info.backend_pid):
                return True
            await asyncio.sleep(0.02)
    return False
