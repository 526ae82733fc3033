"""A small HTTP server on loopback whose answers a test writes down beforehand: real sockets, real bytes."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server sends. `is_cut` closes the connection before the length that was announced."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    is_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class Server:
    """A running server: its address, what it was asked, and the answers it still has to give, in order."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    def will_answer(self, *answers: Answer) -> None:
        """Add answers, one for each request to come."""
        self.answers.extend(answers)


def json_answer(data: object, *, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Return an answer of JSON."""
    return Answer(status=status, body=json.dumps(data).encode(), headers=headers or {})


def problem(status: int, code: str, **fields: object) -> Answer:
    """Return a problem+json of the service."""
    headers = {"Retry-After": "0"} if status == 503 else {}
    body = {"type": f"urn:orchestrator:error:{code}", "title": "", "status": status, "detail": "", **fields}
    return Answer(
        status=status,
        body=json.dumps(body).encode(),
        content_type="application/problem+json",
        headers=headers,
    )


def stream(*events: dict[str, object], is_cut: bool = False) -> Answer:
    """Return server-sent events as the service writes them."""
    text = ": events follow\n\n" + "".join(
        f"id: {event['seq']}\nevent: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events
    )
    return Answer(body=text.encode(), content_type="text/event-stream", is_cut=is_cut)


@contextlib.contextmanager
def serving(answer: Callable[[Seen], Answer] | None = None) -> Iterator[Server]:
    """Run a server until the block ends; `answer` decides instead of the list of answers."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server = Server(url=f"http://127.0.0.1:{httpd.server_port}")
    httpd.RequestHandlerClass = _handler(server, answer)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def _handler(server: Server, answer: Callable[[Seen], Answer] | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(method=self.command, path=self.path, headers=headers, body=self.rfile.read(length))
            server.seen.append(seen)
            self._send(answer(seen) if answer else server.answers.pop(0))

        def _send(self, found: Answer) -> None:
            self.send_response(found.status)
            self.send_header("Content-Type", found.content_type)
            self.send_header("Content-Length", str(len(found.body) + found.is_cut))
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(found.body)

        do_GET = do_POST = _serve  # noqa: N815 - names of the base class

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests clean."""

    return Handler
