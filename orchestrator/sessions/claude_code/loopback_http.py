"""A small HTTP/1.1 server on 127.0.0.1 for the children of this process.

A request is read whole, its answer is sent piece by piece as it comes. Rules: when the child hangs up, the
work on its answer ends at once; when ours fails, it is logged and the child hears of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

import h11
import structlog

log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
_READ_BYTES = 65_536

Headers = Iterable[tuple[str, str]]


class CutOff(Exception):
    """Raised by a handler whose answer cannot be finished: the connection is closed in the middle of it."""


class Exchange:
    """One request, and the answer to it.

    Attributes:
        method, target: `POST` and `/v1/messages?beta=true`.
        headers: by lower-case name; the last one of a name counts.
        body: whole.
        has_begun: something of the answer was sent.
    """

    def __init__(
        self, http: h11.Connection, writer: asyncio.StreamWriter, *, request: h11.Request, body: bytes
    ) -> None:
        self._http = http
        self._writer = writer
        self.method = request.method.decode()
        self.target = request.target.decode()
        self.headers: Mapping[str, str] = {
            name.decode(): value.decode("latin-1") for name, value in request.headers
        }
        self.body = body
        self.has_begun = False

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the head of the answer."""
        self.has_begun = True
        named = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        await self._send(h11.Response(status_code=status, headers=named))

    async def send(self, data: bytes) -> None:
        """Send a piece of the body, and wait until little of it is left unread."""
        await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """Say that the body is whole."""
        await self._send(h11.EndOfMessage())

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        await self.begin(status, [*headers, ("content-length", str(len(body)))])
        await self.send(body)
        await self.end()

    async def _send(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()


Handler = Callable[[Exchange], Coroutine[Any, Any, None]]


class LoopbackServer:
    """Answers on a free port of 127.0.0.1 from `start` to `close`.

    Args:
        handle: answers one exchange; may raise CutOff.
    """

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address for clients; only while it listens."""
        assert self._server is not None
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        """Listen from now on."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)

    async def close(self) -> None:
        """Stop listening and end what is being answered."""
        assert self._server is not None
        self._server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._serve(reader, writer), name="loopback connection")
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        try:
            while exchange := await _next_exchange(http, reader, writer):
                await _unless_hung_up(self._answer(exchange), reader, http)
                if http.our_state is not h11.DONE:
                    break
                http.start_next_cycle()
        except (CutOff, ConnectionError, h11.ProtocolError):
            pass  # nothing more can be said on this connection
        finally:
            writer.close()

    async def _answer(self, exchange: Exchange) -> None:
        """Have it answered; a defect of ours is answered with 500, or cuts off what has begun."""
        try:
            await self._handle(exchange)
        except (CutOff, ConnectionError):
            raise
        except Exception:
            log.exception("a request of a child could not be answered", target=exchange.target)
            if exchange.has_begun:
                raise CutOff from None
            await exchange.answer(500, [("content-type", "text/plain")], b"The orchestrator's proxy failed.")


async def _next_exchange(
    http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Exchange | None:
    """Read the next request whole; None at the end of the connection."""
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            return Exchange(http, writer, request=request, body=bytes(body))
        else:
            return None


async def _unless_hung_up(
    answering: Coroutine[Any, Any, None], reader: asyncio.StreamReader, http: h11.Connection
) -> None:
    """Answer, unless the other side hangs up before. Raises ConnectionResetError if it does."""
    tasks = [asyncio.create_task(answering), asyncio.create_task(_hang_up(reader, http))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ConnectionResetError("the other side hung up")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    tasks[0].result()


async def _hang_up(reader: asyncio.StreamReader, http: h11.Connection) -> None:
    """Wait for the end of the connection; what comes before is kept for the next request."""
    while data := await reader.read(_READ_BYTES):
        http.receive_data(data)
