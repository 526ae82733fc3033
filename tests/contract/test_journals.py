"""Journals in a real PostgreSQL: exact, encrypted, fenced, and gone once nobody can go on from them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from orchestrator.core.words import AttemptState, TaskState
from orchestrator.errors import EnvironmentFault, InvariantViolation
from orchestrator.journal_ports import CutSession, JournalEntry
from orchestrator.store.crypto import NO_KEYS, FieldKeys, new_key
from orchestrator.store.journals import SWEPT_MAX, PostgresJournals
from orchestrator.store.roles import connect
from orchestrator.store.rotation import key_ids_in_use, reencrypt
from orchestrator.store.urls import DatabaseUrls
from tests.support.commit_proxy import Fate as CommitFate
from tests.support.commit_proxy import commit_proxy
from tests.support.desk import Desk

pytestmark = pytest.mark.postgres

KEYS = FieldKeys([new_key()])
WORDS = b"the planted words 5c1e77"


@pytest.fixture
async def desk(database: DatabaseUrls) -> AsyncIterator[Desk]:
    made = Desk(database)
    await made.lease(1)
    yield made
    await made.close()


@asynccontextmanager
async def journals_at(url: str, keys: FieldKeys = KEYS) -> AsyncIterator[PostgresJournals]:
    journals = PostgresJournals(url, name="journals", keys=keys)
    yield journals
    await journals.close()


@pytest.fixture
async def journals(desk: Desk) -> AsyncIterator[PostgresJournals]:
    async with journals_at(desk.urls.service) as made:
        yield made


def entry(seq: int = 1, content: bytes = WORDS, *, token: int = 1) -> JournalEntry:
    return JournalEntry(token=token, seq=seq, content=content)


async def test_what_goes_in_comes_out_byte_by_byte_and_is_not_what_is_stored(
    desk: Desk, journals: PostgresJournals
) -> None:
    contents = (b"", WORDS, bytes(range(256)), os.urandom(300_000), b"x" * 3_000_000)
    for seq, content in enumerate(contents, start=1):
        await journals.store(entry(seq, content))
    assert not any(WORDS in found for found in desk.rows.column("SELECT bytes FROM journal_entries"))
    await desk.lose(1)
    await desk.lease(2)
    assert await journals.cut_before(2) == CutSession(number=1, entries=contents)


async def test_what_nobody_waits_for_is_stored_within_a_second_with_what_others_wrote(
    desk: Desk, journals: PostgresJournals
) -> None:
    journals.write(entry(1))
    await journals.store(entry(2))
    assert desk.stored() == [(1, 1), (1, 2)]  # in this order: a gap could not be told from the end
    journals.write(entry(3))
    async with asyncio.timeout(30):
        while len(desk.stored()) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_session_that_is_cancelled_while_it_waits_spoils_nothing_for_the_others(
    desk: Desk, journals: PostgresJournals
) -> None:
    waiting = [asyncio.create_task(journals.store(entry(seq))) for seq in (1, 2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await waiting[1]
    assert desk.stored() == [(1, 1), (1, 2)]


@pytest.mark.parametrize("fate", [CommitFate.BEFORE, CommitFate.AFTER])
async def test_a_broken_connection_is_waited_out_and_stores_nothing_twice(
    desk: Desk, fate: CommitFate
) -> None:
    with commit_proxy(desk.urls.service) as proxy:
        async with journals_at(proxy.through(desk.urls.service)) as journals:
            proxy.next_fate = fate
            await journals.store(entry(1))
            await journals.store(entry(2))
        assert proxy.counts[fate] == 1
    assert desk.stored() == [(1, 1), (1, 2)]


async def test_a_statement_that_is_refused_fails_who_waits_for_it_and_nobody_after(
    desk: Desk, journals: PostgresJournals
) -> None:
    with connect(desk.urls.owner) as owner:
        owner.execute("ALTER TABLE journal_entries RENAME COLUMN bytes TO others")
        with pytest.raises(InvariantViolation):
            await journals.store(entry(1))
        owner.execute("ALTER TABLE journal_entries RENAME COLUMN others TO bytes")
    await journals.store(entry(1))
    assert desk.stored() == [(1, 1)]


async def test_nothing_is_added_once_the_attempt_was_declared_lost(
    desk: Desk, journals: PostgresJournals
) -> None:
    await journals.store(entry(1))
    await desk.lose(1)
    await journals.store(entry(2))  # its executor has not noticed yet
    assert desk.stored() == [(1, 1)]


async def test_the_next_attempt_reads_the_newest_journal_of_those_cut_before_it(
    desk: Desk, journals: PostgresJournals
) -> None:
    assert await journals.cut_before(1) is None
    await journals.store(entry(1))
    await desk.lose(1)
    await desk.lease(2)
    await desk.lose(2)  # before it had written anything
    await desk.lease(3)
    assert await journals.cut_before(3) == CutSession(number=1, entries=(WORDS,))
    await journals.store(entry(1, b"later", token=3))
    await desk.lose(3)
    await desk.lease(4)
    assert await journals.cut_before(4) == CutSession(number=3, entries=(b"later",))


async def test_the_next_attempt_reads_the_journal_of_one_whose_executor_was_stopped(
    desk: Desk, journals: PostgresJournals
) -> None:
    await journals.store(entry(1))
    await desk.end(1, AttemptState.INTERRUPTED)
    desk.move(TaskState.READY)
    assert await journals.sweep() == 0
    await desk.lease(2)
    assert await journals.cut_before(2) == CutSession(number=1, entries=(WORDS,))


async def test_a_lost_attempt_without_a_journal_is_told_of(desk: Desk, journals: PostgresJournals) -> None:
    await desk.lose(1)
    await desk.lease(2)
    assert await journals.cut_before(2) == CutSession(number=1, entries=())


async def test_a_session_that_was_not_cut_short_is_not_continued(
    desk: Desk, journals: PostgresJournals
) -> None:
    await journals.store(entry(1))
    await desk.lose(1)
    await desk.lease(2)
    await journals.store(entry(1, token=2))
    await desk.end(2, AttemptState.FAILED)
    await desk.lease(3)
    assert await journals.cut_before(3) is None  # neither the failed one nor the lost one before it


@pytest.mark.parametrize("trouble", ["another key", "no key", "changed", "changed and plain"])
async def test_a_journal_that_cannot_be_read_says_which_and_why(desk: Desk, trouble: str) -> None:
    async with journals_at(desk.urls.service, NO_KEYS if "plain" in trouble else KEYS) as journals:
        await journals.store(entry(1))
    if trouble.startswith("changed"):
        desk.rows.all("UPDATE journal_entries SET bytes = substr(bytes, 2)")
    await desk.lose(1)
    await desk.lease(2)
    keys = {"another key": FieldKeys([new_key()]), "no key": NO_KEYS}.get(trouble, KEYS)
    async with journals_at(desk.urls.service, keys) as journals:
        with pytest.raises(EnvironmentFault, match=r"journal of attempt 1 cannot be read.*encryption"):
            await journals.cut_before(2)


async def test_a_rotation_takes_journals_along(desk: Desk, journals: PostgresJournals) -> None:
    await journals.store(entry(1))
    newer = FieldKeys([new_key(), *KEYS.keys])
    assert sum(batch.encrypted for batch in reencrypt(desk.urls.service, newer)) == 1
    with connect(desk.urls.service) as connection:
        assert key_ids_in_use(connection) == (newer.newest_id,)
    await desk.lose(1)
    await desk.lease(2)
    async with journals_at(desk.urls.service, FieldKeys(newer.keys[:1])) as later:
        assert await later.cut_before(2) == CutSession(number=1, entries=(WORDS,))


# -- the sweep: nothing but rows decides, whichever process has died -----------------------------------------


@pytest.mark.parametrize("state", [TaskState.READY, TaskState.HELD, TaskState.WAITING, TaskState.VERIFYING])
async def test_a_journal_outlives_the_loss_of_its_attempt(
    desk: Desk, journals: PostgresJournals, state: TaskState
) -> None:
    await journals.store(entry(1))
    assert await journals.sweep() == 0  # at work
    await desk.lose(1)
    desk.move(state)
    assert await journals.sweep() == 0
    await desk.lease(2)
    desk.move(TaskState.RUNNING)
    assert await journals.sweep() == 0  # the next has not written anything: it may be lost as well
    assert desk.stored() == [(1, 1)]
    await journals.store(entry(1, token=2))
    assert await journals.sweep() == 1
    assert desk.stored() == [(2, 1)]


@pytest.mark.parametrize("state", [TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED])
async def test_the_journal_of_a_lost_attempt_goes_when_its_task_is_settled(
    desk: Desk, journals: PostgresJournals, state: TaskState
) -> None:
    await journals.store(entry(1))
    await journals.store(entry(2))
    await desk.lose(1)
    desk.move(state)
    assert await journals.sweep() == 1
    assert desk.stored() == []


@pytest.mark.parametrize(
    "state", [AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.TIMED_OUT, AttemptState.CANCELLED]
)
async def test_a_journal_goes_when_its_attempt_ends_otherwise_whatever_becomes_of_the_task(
    desk: Desk, journals: PostgresJournals, state: AttemptState
) -> None:
    await journals.store(entry(1))
    await desk.lose(1)
    await desk.lease(2)
    await journals.store(entry(1, token=2))
    await desk.end(2, state)
    desk.move(TaskState.READY)
    assert await journals.sweep() == 2  # that of the lost attempt before it as well
    assert desk.stored() == []


async def test_the_journals_of_a_plan_that_is_deleted_go(desk: Desk, journals: PostgresJournals) -> None:
    await journals.store(entry(1))
    desk.rows.all("DELETE FROM plans")
    assert await journals.sweep() == 1
    assert desk.stored() == []


async def test_more_than_one_statement_deletes_are_deleted(desk: Desk, journals: PostgresJournals) -> None:
    desk.rows.all(
        "INSERT INTO journal_entries (token, seq, bytes)"
        " SELECT 1000 + n, seq, '' FROM generate_series(1, %s) AS n, generate_series(1, 2) AS seq",
        2 * SWEPT_MAX + 1,
    )
    assert await journals.sweep() == 2 * SWEPT_MAX + 1
    assert desk.stored() == []
