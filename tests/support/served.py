"""An ORCHESTRATOR_HOME in which the real HTTP front end is up, on a real database, in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from orchestrator.stack import remove_stack
from orchestrator.store.urls import DatabaseUrls
from tests.support.http_server import TOKEN, serving
from tests.support.own_stack import write_own_stack
from tests.support.service import RememberingScheduler


@contextlib.contextmanager
def served_home(urls: DatabaseUrls, home: Path, *, scheduler: RememberingScheduler) -> Iterator[Path]:
    """Serve until the block ends; the stack file names this process."""
    home.mkdir(parents=True, exist_ok=True)
    with serving(urls, home, scheduler=scheduler) as url:
        write_own_stack(home, url=url, token=TOKEN)
        try:
            yield home
        finally:
            remove_stack(home)
