"""A home of a test's own, that nothing outlives."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.store.embedded import purge
from orchestrator.workspace.launcher_main import living_processes
from tests.support.postgres import private_home


@contextmanager
def own_home() -> Iterator[Path]:
    """A folder for a stack; no process whose command line names it is left at the end."""
    home = private_home()
    try:
        yield home
    finally:
        left = [process.pid for process in living_processes() if _names(process.pid, str(home))]
        purge(home)
        shutil.rmtree(home, ignore_errors=True)
    assert left == []


def _names(pid: int, text: str) -> bool:
    try:
        return text in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
