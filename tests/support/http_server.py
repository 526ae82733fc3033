"""The HTTP front end on a loopback port, under plain uvicorn in a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from orchestrator.settings import Http
from orchestrator.store.urls import DatabaseUrls
from serve_app.app import create_app
from tests.support.service import RememberingScheduler, open_service

TOKEN = "token-of-the-test"


class _Server(uvicorn.Server):
    """Says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


@contextmanager
def serving(
    urls: DatabaseUrls, home: Path, *, scheduler: RememberingScheduler, http: Http | None = None
) -> Iterator[str]:
    """Serve a Service; yields the base URL and stops at the end."""
    app = create_app(lambda: open_service(urls, home, scheduler=scheduler), token=TOKEN, http=http or Http())
    config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=1)
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],), name="uvicorn")
        thread.start()
        try:
            assert server.is_up.wait(60)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()
