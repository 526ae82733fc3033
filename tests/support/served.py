"""An ORCHESTRATOR_HOME in which the real HTTP front end is up, on a real database, in this process."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import uvicorn

from orchestrator import __version__
from orchestrator.runtime.service import Service
from orchestrator.settings import Http
from orchestrator.stack import TOKEN_FILE, Stack, process_start_time, remove_stack, write_stack
from orchestrator.store.urls import DatabaseUrls
from serve_app.app import create_app
from tests.support.service import RememberingScheduler, open_service

TOKEN = "t0ken"


@contextlib.contextmanager
def served_home(urls: DatabaseUrls, home: Path, *, scheduler: RememberingScheduler) -> Iterator[Path]:
    """Serve until the block ends; the stack file names this process."""
    home.mkdir(parents=True, exist_ok=True)

    def open_one() -> AbstractAsyncContextManager[Service]:
        return open_service(urls, home, scheduler=scheduler)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = create_app(open_one, token=TOKEN, http=Http())
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            (home / TOKEN_FILE).write_text(TOKEN + "\n")
            write_stack(home, _stack(listener.getsockname()[1]))
            yield home
        finally:
            remove_stack(home)
            server.should_exit = True
            thread.join()


def _stack(port: int) -> Stack:
    start_time = process_start_time(os.getpid())
    assert start_time is not None
    return Stack(
        pid=os.getpid(),
        start_time=start_time,
        version=__version__,
        mode="up",
        url=f"http://127.0.0.1:{port}",
        state="ready",
    )
