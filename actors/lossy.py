"""Streams for logs: a full disk must not end a process that only wanted to tell something."""

from __future__ import annotations

import contextlib
from typing import Any, TextIO


class Lossy:
    """A stream whose writes may fail without a word."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write if it can be written."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if it can be flushed."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
