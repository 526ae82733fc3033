"""An ORCHESTRATOR_HOME in which the real HTTP front end is up, on a real database, in this process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from orchestrator import __version__
from orchestrator.stack import TOKEN_FILE, Stack, process_start_time, remove_stack, write_stack
from orchestrator.store.urls import DatabaseUrls
from tests.support.http_server import TOKEN, serving
from tests.support.service import RememberingScheduler


@contextlib.contextmanager
def served_home(urls: DatabaseUrls, home: Path, *, scheduler: RememberingScheduler) -> Iterator[Path]:
    """Serve until the block ends; the stack file names this process."""
    home.mkdir(parents=True, exist_ok=True)
    with serving(urls, home, scheduler=scheduler) as url:
        (home / TOKEN_FILE).write_text(TOKEN + "\n")
        write_stack(home, _stack(url))
        try:
            yield home
        finally:
            remove_stack(home)


def _stack(url: str) -> Stack:
    start_time = process_start_time(os.getpid())
    assert start_time is not None
    return Stack(
        pid=os.getpid(), start_time=start_time, version=__version__, mode="up", url=url, state="ready"
    )
