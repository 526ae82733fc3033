"""Transcripts as front ends read them: what sessions said while they ran, attempt by attempt."""

from __future__ import annotations

from sqlalchemy import select, true

from orchestrator.store.crypto import FieldKeys
from orchestrator.store.engine import Connection
from orchestrator.store.tables import attempts, transcript_chunks
from orchestrator.store.transcript_chunks import unfold
from orchestrator.views import LogView


async def task_logs(
    connection: Connection, task_id: int, *, token: int | None, after: int = 0, keys: FieldKeys
) -> tuple[LogView, ...]:
    """Return what the attempts of a task said, oldest first; `token` keeps one attempt,
    `after` the pieces behind one that was read before.

    In the place of a chunk whose key is not among `keys` stands a note that says so.
    """
    a, c = attempts.c, transcript_chunks.c
    query = (
        select(a.token, a.number, a.kind, c.seq, c.key_id, c.bytes)
        .join(transcript_chunks, c.token == a.token)
        .where(a.task_id == task_id, a.token == token if token is not None else true(), c.seq > after)
        .order_by(a.token, c.seq)
    )
    rows = await connection.execute(query)
    return tuple(
        LogView(
            token=attempt, number=number, kind=kind, seq=seq, offset_ms=offset_ms, stream=stream, text=text
        )
        for attempt, number, kind, seq, key_id, stored in rows
        for offset_ms, stream, text in unfold(key_id, stored, keys=keys)
    )
