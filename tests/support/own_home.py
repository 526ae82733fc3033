"""A home of a test's own, that nothing outlives."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

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
        ending = [process.pid for process in living_processes() if _names(process.pid, str(home))]
        left = _wait_for(ending)
        purge(home)
        shutil.rmtree(home, ignore_errors=True)
    assert left == [], left


def _wait_for(pids: list[int]) -> list[str]:
    """Give processes the time to end; return the command lines of those that do not."""
    found = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(found, timeout=30)
    return [" ".join(process.cmdline()) for process in alive]


def _names(pid: int, text: str) -> bool:
    try:
        return text in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
