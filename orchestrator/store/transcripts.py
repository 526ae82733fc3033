"""Transcripts: what sessions said while they ran, kept as compressed chunks of JSON lines.

A chunk is zlib over lines `[offset_ms, stream, text]`; executors write them, readers unfold them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import select, true

from orchestrator.store.engine import Connection
from orchestrator.store.tables import attempts, transcript_chunks
from orchestrator.views import LogView


async def task_logs(connection: Connection, task_id: int, *, token: int | None) -> tuple[LogView, ...]:
    """Return what the attempts of a task said, oldest first; `token` keeps one attempt."""
    a, c = attempts.c, transcript_chunks.c
    query = (
        select(a.token, a.number, a.kind, c.bytes)
        .join(transcript_chunks, c.token == a.token)
        .where(a.task_id == task_id, a.token == token if token is not None else true())
        .where(c.key_id.is_(None))  # an encrypted chunk is not for this reader
        .order_by(a.token, c.seq)
    )
    rows = await connection.execute(query)
    return tuple(
        LogView(token=attempt, number=number, kind=kind, **line)
        for attempt, number, kind, chunk in rows
        for line in _lines(chunk)
    )


def _lines(chunk: bytes) -> Iterator[dict[str, Any]]:
    for line in zlib.decompress(chunk).splitlines():
        yield dict(zip(("offset_ms", "stream", "text"), json.loads(line), strict=True))
