"""Journals of conversations: written by token, read by the next attempt, deleted when nobody needs them.

An entry is zlib over what the session wrote, then encrypted. One is stored only while its attempt is live:
its row is locked FOR KEY SHARE, against which `fate` in store/scheduler.py takes it FOR UPDATE, so nothing is
added to the journal of an attempt that was declared lost. The committer is never waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from orchestrator.core.words import CUT_SHORT, LIVE, SETTLED
from orchestrator.errors import DatabaseUnavailable, EnvironmentFault, InvariantViolation
from orchestrator.journal_ports import CutSession, JournalEntry
from orchestrator.store.arrays import array, words
from orchestrator.store.crypto import KEYS_FILE, FieldKeys
from orchestrator.store.hot import PLAN_ONCE, HotConnection

log = structlog.get_logger(__name__)

#: Longest time that an entry waits for others, if nobody waits for it.
GATHER_S = 1.0

#: Pause before the database is asked again.
RETRY_S = 0.5

#: Journals that one statement deletes.
SWEPT_MAX = 200

#: Bytes that are compressed and encrypted on the loop; more would hold it up.
_SEALED_AT_ONCE_MAX = 50_000

_INSERT_SQL = """
WITH locked AS (
    SELECT token, tenant_id, state FROM attempts WHERE token = ANY(%(tokens)s::bigint[]) FOR KEY SHARE
)
INSERT INTO journal_entries (token, seq, tenant_id, key_id, bytes)
SELECT u.token, u.seq, l.tenant_id, u.key_id, u.bytes
FROM unnest(%(tokens)s::bigint[], %(seqs)s::int[], %(key_ids)s::text[], %(bytes)s::bytea[])
    AS u(token, seq, key_id, bytes)
    JOIN locked AS l USING (token)
WHERE l.state IN ('leased', 'started')
ON CONFLICT (token, seq) DO NOTHING
"""

#: The attempts of the task, of the same kind, that were cut short one after the other until this one.
_CUT_SHORT_SQL = """
WITH mine AS (
    SELECT token, task_id, kind FROM attempts WHERE token = %(token)s
), before AS (
    SELECT a.* FROM mine AS m JOIN attempts AS a ON a.task_id = m.task_id AND a.kind = m.kind
    WHERE a.token < m.token
)
SELECT b.token, b.number, e.key_id, e.bytes FROM before AS b LEFT JOIN journal_entries AS e USING (token)
WHERE b.token > coalesce((SELECT max(token) FROM before WHERE state <> ALL(%(cut_short)s::text[])), 0)
ORDER BY b.token DESC, e.seq
"""

#: One look into the index for each journal. A journal is kept while its attempt is live, and once that
#: is cut short until the task is settled or a later attempt has either a journal of its own or another end.
_SWEEP_SQL = """
WITH RECURSIVE journals AS (
    (SELECT token FROM journal_entries ORDER BY token LIMIT 1)
    UNION ALL
    SELECT (SELECT e.token FROM journal_entries AS e WHERE e.token > j.token ORDER BY e.token LIMIT 1)
    FROM journals AS j WHERE j.token IS NOT NULL
), needless AS (
    SELECT j.token FROM journals AS j
        LEFT JOIN attempts AS a USING (token) LEFT JOIN task_states AS s USING (task_id)
    WHERE j.token IS NOT NULL AND (
        a.token IS NULL OR s.state = ANY(%(settled)s::text[]) OR a.state <> ALL(%(kept)s::text[])
        OR EXISTS (
            SELECT FROM attempts AS b
            WHERE b.task_id = a.task_id AND b.kind = a.kind AND b.token > a.token AND (
                b.state <> ALL(%(kept)s::text[])
                OR EXISTS (SELECT FROM journal_entries AS e WHERE e.token = b.token)
            )
        )
    )
    LIMIT %(max)s
), deleted AS (
    DELETE FROM journal_entries AS e USING needless AS n WHERE e.token = n.token
)
SELECT count(*) FROM needless
"""

_SWEEP_VALUES = {
    "settled": words(sorted(SETTLED)),
    "kept": words(sorted(LIVE | CUT_SHORT)),
    "max": SWEPT_MAX,
}

T = TypeVar("T")


@dataclass(slots=True)
class _Batch:
    """Entries that one statement stores. `hurry` is set when somebody waits for them."""

    entries: list[JournalEntry] = field(default_factory=list)
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    stored: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class PostgresJournals:
    """Implements journal_ports.Journals on one connection of its own, which is opened for the first journal.

    Args:
        url: libpq URL of the service role.
        name: how the server's activity view shows the connection.
        keys: encrypt and decrypt; without any, entries are compressed only.
    """

    def __init__(self, url: str, *, name: str, keys: FieldKeys) -> None:
        self._connection = HotConnection(url, name=name, options=PLAN_ONCE, autocommit=True)
        self._keys = keys
        self._next: _Batch | None = None
        self._writer: asyncio.Task[None] | None = None

    def write(self, entry: JournalEntry) -> None:
        """Add an entry; it is stored within a second, with what others have written."""
        self._add(entry)

    async def store(self, entry: JournalEntry) -> None:
        """Add an entry, and return once it is stored with all before it, or refused: the attempt is over."""
        batch = self._add(entry)
        batch.hurry.set()
        await asyncio.shield(batch.stored)

    async def cut_before(self, token: int) -> CutSession | None:
        """Return what is left of the session before this attempt; see journal_ports.Journals."""
        values = {"token": token, "cut_short": words(sorted(CUT_SHORT))}
        rows = await _patiently(lambda: self._rows(_CUT_SHORT_SQL, values))
        if not rows:
            return None
        token, number = next(((row[0], row[1]) for row in rows if row[3] is not None), rows[0][:2])
        sealed = [row[2:] for row in rows if row[0] == token and row[3] is not None]
        entries = await asyncio.to_thread(self._unsealed, number, sealed)
        return CutSession(number=number, entries=entries)

    async def sweep(self) -> int:
        """Delete journals that nobody needs any more; return their number.

        Raises:
            DatabaseUnavailable: the server does not answer; what was deleted stays so.
        """
        total = 0
        while True:
            ((count,),) = await self._rows(_SWEEP_SQL, _SWEEP_VALUES)
            total += int(count)
            if count < SWEPT_MAX:
                return total

    async def close(self) -> None:
        """Store what waits, and close the connection."""
        if self._writer is not None:
            if self._next is not None:
                self._next.hurry.set()
            await self._writer
        await self._connection.close()

    def _add(self, entry: JournalEntry) -> _Batch:
        batch = self._next = self._next or _Batch()
        batch.entries.append(entry)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all(), name="journals")
        return batch

    async def _write_all(self) -> None:
        """Store batch by batch what gathers while the last one is stored."""
        while (batch := self._next) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await batch.hurry.wait()
            self._next = None
            try:
                await self._insert(batch.entries)
                batch.stored.set_result(None)
            except InvariantViolation as error:  # told to whoever waits; the others go on
                batch.stored.set_exception(error)

    async def _insert(self, entries: Sequence[JournalEntry]) -> None:
        sealed = await self._sealed(entries)
        values = {
            "tokens": array([entry.token for entry in entries]),
            "seqs": array([entry.seq for entry in entries]),
            "key_ids": words([key_id for key_id, _ in sealed]),
            "bytes": [stored for _, stored in sealed],
        }
        await _patiently(lambda: self._rows(_INSERT_SQL, values))

    async def _sealed(self, entries: Sequence[JournalEntry]) -> list[tuple[str | None, bytes]]:
        """Compress and encrypt; what takes longer than a moment is done beside the loop."""
        if sum(len(entry.content) for entry in entries) <= _SEALED_AT_ONCE_MAX:
            return [self._seal(entry) for entry in entries]
        return await asyncio.to_thread(lambda: [self._seal(entry) for entry in entries])

    def _seal(self, entry: JournalEntry) -> tuple[str | None, bytes]:
        return self._keys.seal(zlib.compress(entry.content, level=1))

    def _unsealed(self, number: int, sealed: Sequence[tuple[str | None, bytes]]) -> tuple[bytes, ...]:
        entries = []
        for key_id, stored in sealed:
            entry = self._unseal(key_id, stored)
            if entry is None:
                raise EnvironmentFault(
                    f"The journal of attempt {number} cannot be read: its key {key_id} is lost, or it was"
                    " changed.",
                    remedy=f"Bring back a copy of the file `{KEYS_FILE}`, or the key in `encryption.keys`.",
                )
            entries.append(entry)
        return tuple(entries)

    def _unseal(self, key_id: str | None, stored: bytes) -> bytes | None:
        packed = self._keys.unseal(key_id, stored)
        try:
            return None if packed is None else zlib.decompress(packed)
        except zlib.error:
            return None

    async def _rows(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        async with self._connection.use() as connection:
            cursor = await connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the database answers."""
    while True:
        try:
            return await call()
        except DatabaseUnavailable as error:
            log.warning("a journal waits for the database", reason=str(error))
            await asyncio.sleep(RETRY_S)
