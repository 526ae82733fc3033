"""How a piece of a transcript is stored: zlib over JSON lines `[offset_ms, stream, text]`, then encrypted."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence

from orchestrator.ports import TranscriptChunk, TranscriptLine
from orchestrator.store.crypto import FieldKeys


def fold(chunks: Sequence[TranscriptChunk], *, keys: FieldKeys) -> list[tuple[str | None, bytes]]:
    """Return for each chunk the id of its key and the bytes to store."""
    return [keys.seal(zlib.compress(_written(chunk.lines), level=1)) for chunk in chunks]


def unfold(key_id: str | None, stored: bytes, *, keys: FieldKeys) -> Iterator[TranscriptLine]:
    """Yield the lines of a chunk, or one note in their place when its key is not among ours."""
    packed = keys.unseal(key_id, stored)
    if packed is None:
        yield 0, "note", f"[this part cannot be read: its key {key_id} is lost, or it was changed]\n"
        return
    for line in zlib.decompress(packed).splitlines():
        offset_ms, stream, text = json.loads(line)
        yield offset_ms, stream, text


def _written(lines: Sequence[TranscriptLine]) -> bytes:
    return "\n".join(json.dumps(line) for line in lines).encode()
