"""A TCP proxy in front of PostgreSQL that cuts a connection at a COMMIT, before or after it took place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class CutProxy:
    """Forwards everything; `cut_next` has the next COMMIT cut: `before` or `after` it takes place."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self.url = ""
        self.cut_next = ""
        self.cuts = 0

    async def start(self) -> asyncio.Server:
        """Listen on a free port; `url` leads through the proxy."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        credentials = self._parts.netloc.rpartition("@")[0]
        self.url = urlunsplit(self._parts._replace(netloc=f"{credentials}@127.0.0.1:{port}"))
        return server

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        answers = asyncio.create_task(_copy(server, to_client))
        try:
            while data := await client.read(65536):
                if b"COMMIT" in data and self.cut_next:
                    await self._cut(data, server, to_server, answers)
                    return
                to_server.write(data)
        except ConnectionError:
            pass
        finally:
            answers.cancel()
            for writer in (to_client, to_server):
                writer.close()

    async def _cut(
        self,
        data: bytes,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
        answers: asyncio.Task[None],
    ) -> None:
        how, self.cut_next = self.cut_next, ""
        self.cuts += 1
        answers.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await answers
        if how == "after":
            to_server.write(data)
            await server.read(65536)  # the server has answered: it is done


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)


@asynccontextmanager
async def cut_proxy(url: str) -> AsyncIterator[CutProxy]:
    """A running proxy in front of the server of a libpq URL."""
    proxy = CutProxy(url)
    server = await proxy.start()
    try:
        yield proxy
    finally:
        server.close()
