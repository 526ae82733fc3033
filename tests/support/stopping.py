"""Freezing processes, as a machine does that swaps, migrates or is cut off for a while."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Freeze processes; at the end thaw those that still live."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it ended since it was looked for
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        _thaw(pids)


def _thaw(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
