"""A home of a test's own, that nothing outlives."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.store.embedded import purge
from orchestrator.workspace.launcher_main import living_processes
from tests.support.command_line import GONE_S
from tests.support.postgres import private_home

_POLL_S = 0.1


@contextmanager
def own_home() -> Iterator[Path]:
    """A folder for a stack; no process whose command line names it is left at the end."""
    home = private_home()
    try:
        yield home
    finally:
        left = _left_in(home)
        purge(home)
        shutil.rmtree(home, ignore_errors=True)
    assert not left, left


def _left_in(home: Path) -> list[str]:
    """Give processes the time to end; return the command lines of those that do not."""
    deadline_s = time.monotonic() + GONE_S
    while (left := _command_lines(str(home))) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    return left


def _command_lines(words: str) -> list[str]:
    """Return the command lines, of processes that live, that have these words."""
    found = []
    for process in living_processes():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            line = Path(f"/proc/{process.pid}/cmdline").read_bytes().replace(b"\0", b" ")
            found.append(line.decode(errors="replace"))
    return [line for line in found if words in line]
