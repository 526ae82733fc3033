"""Transcripts in a real PostgreSQL: encrypted, read back, encrypted anew, and nowhere in its files."""

from __future__ import annotations

import asyncio
import json
import shutil
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from cluster.encryption import main as rotate_keys
from cluster.preflight import CheckState, check_encryption
from orchestrator.ports import SessionLimits, TranscriptChunk, TranscriptLine
from orchestrator.settings import Settings
from orchestrator.store.crypto import KEYS_FILE, NO_KEYS, FieldKeys, known_keys, new_key
from orchestrator.store.embedded import EmbeddedPostgres, purge
from orchestrator.store.engine import make_engine, tenant_transaction
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.rotation import reencrypt
from orchestrator.store.transcripts import task_logs
from orchestrator.store.urls import DatabaseUrls
from tests.support.postgres import private_home
from tests.support.rows import Rows, lease, make_store

pytestmark = pytest.mark.postgres

SAID: list[TranscriptLine] = [(1, "stdout", "the planted words 7f3a9c\n")]
PLAIN: list[TranscriptLine] = [(1, "stdout", "this one is plain, to see that the search works")]


async def leased_task(urls: DatabaseUrls, token: int = 7) -> int:
    """Have a task with a live attempt; return its id."""
    plan_id, (task_id,) = Rows(urls).plan(1, state="active")
    scheduler = make_store(urls.direct)
    await scheduler.take_term(incarnation="i1", is_starting=True, patience_s=5)
    await scheduler.commit(1, [lease(token, plan_id=plan_id, task_id=task_id)])
    await scheduler.close()
    return task_id


@asynccontextmanager
async def executor(urls: DatabaseUrls, keys: FieldKeys) -> AsyncIterator[ExecutorStore]:
    limits = SessionLimits()
    store = ExecutorStore(
        urls.service, executor="x1", incarnation="i1", node_id="n1", limits=limits, keys=keys
    )
    yield store
    await store.close()


async def save(urls: DatabaseUrls, keys: FieldKeys, *seqs: int, lines: Sequence[TranscriptLine] = ()) -> None:
    async with executor(urls, keys) as store:
        await store.save_chunks([TranscriptChunk(token=7, seq=seq, lines=lines or SAID) for seq in seqs])


async def read(
    urls: DatabaseUrls, task_id: int, keys: FieldKeys, *, tenant: str = "local"
) -> list[TranscriptLine]:
    engine = make_engine(urls.api)
    async with tenant_transaction(engine, tenant) as connection:
        logs = await task_logs(connection, task_id, token=None, keys=keys)
    await engine.dispose()
    return [(log.offset_ms, log.stream, log.text) for log in logs]


async def test_pieces_are_encrypted_and_old_plain_ones_stay_readable(database: DatabaseUrls) -> None:
    task_id, keys = await leased_task(database), FieldKeys([new_key()])
    await save(database, NO_KEYS, 1)
    await save(database, keys, 2)
    plain, encrypted = Rows(database).all("SELECT key_id, bytes FROM transcript_chunks ORDER BY seq")
    assert (plain["key_id"], encrypted["key_id"]) == (None, keys.newest_id)
    assert json.loads(zlib.decompress(plain["bytes"])) == [*SAID[0]]
    with pytest.raises(zlib.error):
        zlib.decompress(encrypted["bytes"])
    assert await read(database, task_id, keys) == SAID * 2


async def test_a_transcript_is_read_by_its_tenant_alone(database: DatabaseUrls) -> None:
    task_id, keys = await leased_task(database), FieldKeys([new_key()])
    await save(database, keys, 1)
    assert await read(database, task_id, keys) == SAID
    for other in ("other", ""):
        assert await read(database, task_id, keys, tenant=other) == []
    with psycopg.connect(database.api) as connection:
        assert connection.execute("SELECT * FROM transcript_chunks").fetchall() == []
        for statement in ("UPDATE transcript_chunks SET bytes = ''", "DELETE FROM transcript_chunks"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(statement)


async def test_a_piece_whose_key_is_lost_says_so_and_the_others_are_read(database: DatabaseUrls) -> None:
    task_id, lost, keys = await leased_task(database), FieldKeys([new_key()]), FieldKeys([new_key()])
    await save(database, lost, 1)
    await save(database, keys, 2)
    (note, said) = await read(database, task_id, keys)
    assert said == SAID[0]
    assert note[1] == "note"
    assert str(lost.newest_id) in note[2]


async def test_much_is_encrypted_beside_the_loop_and_little_on_it(database: DatabaseUrls) -> None:
    await leased_task(database)
    async with executor(database, FieldKeys([new_key()])) as store:

        async def leaves_the_loop_free(chars: int) -> bool:
            others = asyncio.Event()
            asyncio.get_running_loop().call_soon(others.set)
            await store._folded([TranscriptChunk(token=7, seq=1, lines=[(0, "stdout", "x" * chars)])])
            return others.is_set()

        assert not await leaves_the_loop_free(1_000)
        assert await leaves_the_loop_free(2_000_000)


async def test_a_rotation_that_was_interrupted_goes_on_with_what_is_left(database: DatabaseUrls) -> None:
    task_id, old, lost, new = await leased_task(database), new_key(), new_key(), new_key()
    await save(database, NO_KEYS, 1)
    await save(database, FieldKeys([old]), 2, 3, 4)
    await save(database, FieldKeys([lost]), 5)
    keys = FieldKeys([new, old])
    first = next(reencrypt(database.service, keys, rows_max=2))  # and no further: it was interrupted
    assert (first.encrypted, first.unreadable) == (2, 0)
    under = Rows(database).column("SELECT key_id FROM transcript_chunks ORDER BY seq")
    assert under == [keys.ids[0], keys.ids[0], keys.ids[1], keys.ids[1], FieldKeys([lost]).newest_id]
    assert (await read(database, task_id, keys))[:4] == SAID * 4  # both keys are in use meanwhile
    rest = list(reencrypt(database.service, keys, rows_max=2))
    assert [(batch.encrypted, batch.unreadable) for batch in rest] == [(2, 0), (0, 1)]
    assert (await read(database, task_id, FieldKeys([new])))[:4] == SAID * 4
    assert (await read(database, task_id, FieldKeys([lost])))[4:] == SAID


@pytest.fixture
def own_home() -> Iterator[Path]:
    """A home with a server of its own, which is not running."""
    home = private_home()
    yield home
    purge(home)
    shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def server_of(home: Path) -> AsyncIterator[DatabaseUrls]:
    server = EmbeddedPostgres(home=home, version="18")
    try:
        yield server.start().urls()
    finally:
        server.stop()


def files_with(home: Path, needle: bytes) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and needle in path.read_bytes()]


def packed_as_stored(line: TranscriptLine) -> bytes:
    return zlib.compress(json.dumps(line).encode(), level=1)


def rotated(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> dict[str, object]:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(home))
    assert rotate_keys(["--json"]) == 0
    return json.loads(capsys.readouterr().out)["data"]


async def test_the_command_rotates_and_the_files_of_the_database_hold_nothing_that_was_said(
    own_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=own_home)
    rotated(own_home, capsys, monkeypatch)  # makes database and key
    before = known_keys(settings)
    async with server_of(own_home) as urls:
        task_id = await leased_task(urls)
        await save(urls, before, 1)
        await save(urls, NO_KEYS, 2, lines=PLAIN)
        assert {check.state for check in check_encryption(settings)} == {CheckState.OK}
        lost = FieldKeys([new_key()])
        await save(urls, lost, 3)
        assert any(
            str(lost.newest_id) in check.what
            for check in check_encryption(settings)
            if check.state is CheckState.WARN
        )
    assert files_with(own_home, packed_as_stored(PLAIN[0]))
    assert files_with(own_home, packed_as_stored(SAID[0])) == files_with(own_home, b"planted words") == []

    answer = rotated(own_home, capsys, monkeypatch)
    after = known_keys(settings)
    assert len(after.ids) == 1
    assert answer == {
        "key_id": after.newest_id,
        "encrypted": 2,
        "unreadable": 1,
        "retired": [before.newest_id],
        "is_given": False,
    }
    async with server_of(own_home) as urls:
        assert (await read(urls, task_id, after))[0] == SAID[0]
        assert (await read(urls, task_id, before))[0][1] == "note"
    assert (own_home / KEYS_FILE).stat().st_mode & 0o777 == 0o600
