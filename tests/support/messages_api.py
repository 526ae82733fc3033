"""A local server that speaks the Messages API, whole and streamed, and refuses what the real service refuses.

    with MessagesApi(script(Reply([call("write_file", path="a", content="b")]), Reply([done()]))) as api:
        ... base_url=api.base_url, api_key=api.api_key ... api.requests[0].body

It holds threads and clears old tool results like the real one (tests/support/messages_memory.py).
A scenario is a function from the request to the reply. `python -m tests.support.messages_api --port 0` serves
`write_files`: one `write_file` call per line `write FILE: TEXT` of the task, then a report; it prints its
address and ends at SIGTERM or SIGINT.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.messages_memory import ThreadRefused, Threads, cleared, tokens_of
from tests.support.messages_schema import blocks_of, problem_of

API_KEY = "sk-ant-test-0000"
PIECE_CHARS = 7  # deltas cut words and JSON anywhere

Block = dict[str, Any]
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it came in."""

    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def turn(self) -> int:
        """How many answers the conversation has already."""
        return sum(message["role"] == "assistant" for message in self.body["messages"])

    @property
    def task(self) -> str:
        """The text of the first message."""
        return _text_of(self.body["messages"][0])

    @property
    def last(self) -> str:
        """The text of the last message, tool results included."""
        return _text_of(self.body["messages"][-1])

    @property
    def results(self) -> list[Block]:
        """The tool results of the last message."""
        return [block for block in blocks_of(self.body["messages"][-1]) if block["type"] == "tool_result"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer.

    Attributes:
        content: blocks; see `text`, `thinking`, `call` and `done`.
        stop_reason: empty means what fits the content.
        status, error_type: of an error instead.
        headers: beside those of every response, such as `rate_limits(...)` or `retry-after`.
        delay_s: before the first byte.
        events_max: the connection is cut after so many events of the stream.
        stream_error: type of an error event in mid-stream, after the first block.
        extra: further fields of the message, such as `stop_details`.
    """

    content: Sequence[Block] = ()
    stop_reason: str = ""
    status: int = 200
    error_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    events_max: int | None = None
    stream_error: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


Scenario = Callable[[Request], Reply]


def text(words: str) -> Block:
    """A block of text."""
    return {"type": "text", "text": words}


def thinking(words: str) -> Block:
    """A block of thought with its signature."""
    return {"type": "thinking", "thinking": words, "signature": f"signed-{next(_numbers)}"}


def call(name: str, **arguments: Any) -> Block:
    """A tool call."""
    return {"type": "tool_use", "id": f"toolu_{next(_numbers):08}", "name": name, "input": arguments}


def done(summary: str = "All done.", **more: Any) -> Block:
    """A call of `report` that says done."""
    return call("report", **{"status": "done", "summary": summary, **more})


def rate_limits(*, remaining: int, reset: str = "2026-11-21T00:00:00Z", **limits: int) -> dict[str, str]:
    """Return the headers that tell limits a minute, by kind: `requests`, `input_tokens`, `output_tokens`."""
    headers = {}
    for kind, limit in limits.items():
        name = f"anthropic-ratelimit-{kind.replace('_', '-')}"
        headers |= {f"{name}-limit": str(limit), f"{name}-remaining": str(remaining), f"{name}-reset": reset}
    return headers


def script(*replies: Reply) -> Scenario:
    """Give these replies one after the other, the last one again and again."""
    left = list(replies)
    lock = threading.Lock()

    def next_reply(request: Request) -> Reply:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return next_reply


def by_text(rules: Mapping[str, Scenario], default: Scenario | None = None) -> Scenario:
    """Choose by the first regular expression found in the task or in the last message."""

    def choose(request: Request) -> Reply:
        for pattern, scenario in rules.items():
            if re.search(pattern, request.task) or re.search(pattern, request.last):
                return scenario(request)
        return (default or write_files)(request)

    return choose


def write_files(request: Request) -> Reply:
    """Write what lines `write FILE: TEXT` of the task ask for, then report."""
    wanted = re.findall(r"^\W*write (\S+): (.*)$", request.task, re.MULTILINE)
    if request.turn == 0 and wanted:
        calls = [call("write_file", path=path, content=f"{words}\n") for path, words in wanted]
        return Reply([text("I write the files."), *calls])
    failed = [result["content"] for result in request.results if result.get("is_error")]
    if failed:
        return Reply([call("report", status="failed", summary=f"A tool failed: {failed[0]}")])
    return Reply([done(f"Wrote {len(wanted)} files.", files=[path for path, _ in wanted])])


class MessagesApi:
    """The server; a context manager. Listens on a free loopback port.

    Args:
        scenario: what to answer.
        api_key: the one key that is let in, as bearer token or as x-api-key.
        port: 0 takes a free one.

    Attributes:
        path: where it is asked.
    """

    path = "/v1/messages"

    def __init__(self, scenario: Scenario = write_files, *, api_key: str = API_KEY, port: int = 0) -> None:
        self.scenario = scenario
        self.api_key = api_key
        self.requests: list[Request] = []
        self.problems: list[str] = []
        self.threads = Threads()
        self._cached: set[str] = set()
        self._stopping = threading.Event()
        self._server = _Server(self, port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        """The address to give to the client."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> MessagesApi:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, headers: Mapping[str, str], raw: bytes) -> tuple[Reply, dict[str, Any]]:
        """Return the reply to a request and the body that it was read from."""
        refused = self._refusal(headers)
        if refused:
            return refused, {}
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        try:
            body = self.threads.whole(body) if isinstance(body, dict) else None
        except ThreadRefused as why:
            return error(why.status, why.error_type, str(why), error_code=why.code), {}
        problem = self.problem(body, betas=_betas(headers))
        if problem:
            self.problems.append(problem)
            return error(400, "invalid_request_error", problem), {}
        request = self.request_of(headers, body)
        self.requests.append(request)
        reply = self.scenario(request)
        self.wait(reply)
        return reply, body

    def wait(self, reply: Reply) -> None:
        """Wait before the first byte, as the reply says, or until the server ends."""
        self._stopping.wait(reply.delay_s)

    def problem(self, body: object, *, betas: Collection[str]) -> str | None:
        """Return what is wrong with a request body; see messages_schema."""
        return problem_of(body, betas=betas)

    def request_of(self, headers: Mapping[str, str], body: dict[str, Any]) -> Request:
        """Return a request as scenarios see it."""
        return Request(headers=headers, body=body)

    def error_of(self, reply: Reply) -> dict[str, Any]:
        """Return the body of an answer that is an error."""
        error = {"type": reply.error_type, "message": reply.error_type, **reply.extra}
        return {"type": "error", "error": error}

    def stream_of(self, reply: Reply, body: dict[str, Any]) -> Iterator[bytes]:
        """Yield the events of a streamed answer as they are sent."""
        for event in events_of(reply, _message(self, reply, body)):
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()

    def _refusal(self, headers: Mapping[str, str]) -> Reply | None:
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if key != self.api_key:
            return error(401, "authentication_error", "invalid x-api-key")
        if not headers.get("anthropic-version"):
            return error(400, "invalid_request_error", "anthropic-version: header is required")
        return None

    def usage(self, body: dict[str, Any], content: Sequence[Block]) -> dict[str, int]:
        """Count as the service does: what came before in the same words is read from the cache."""
        prefix = json.dumps([body.get("system"), body.get("tools")])
        is_cached = prefix in self._cached
        self._cached.add(prefix)
        prefix_tokens = tokens_of(prefix)
        return {
            "input_tokens": tokens_of(cleared(body)[0]),
            "cache_creation_input_tokens": 0 if is_cached else prefix_tokens,
            "cache_read_input_tokens": prefix_tokens if is_cached else 0,
            "output_tokens": tokens_of(list(content)),
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1_024  # many sessions begin at once

    def __init__(self, api: MessagesApi, port: int) -> None:
        self.api = api
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in mid-answer is what cancels are made of."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def error(status: int, error_type: str, message: str, *, error_code: str = "") -> Reply:
    """Return the reply that refuses a request."""
    details = {"details": {"error_code": error_code}} if error_code else {}
    return Reply(status=status, error_type=error_type, extra={"message": message, **details})


def _betas(headers: Mapping[str, str]) -> set[str]:
    return {name.strip() for name in headers.get("anthropic-beta", "").split(",")}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the first event waits for 40 ms
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.path.partition("?")[0] != self.server.api.path:
            self._send_error(error(404, "not_found_error", f"no such path: {self.path}"))
            return
        reply, body = self.server.api.answer(headers, raw)
        if reply.status != 200:
            self._send_error(reply)
        elif body.get("stream"):
            self._stream(reply, body)
        else:
            self._send(200, _message(self.server.api, reply, body), **reply.headers)

    def _send_error(self, reply: Reply) -> None:
        self._send(reply.status, self.server.api.error_of(reply), **reply.headers)

    def _send(self, status: int, body: object, **headers: str) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, reply: Reply, body: dict[str, Any]) -> None:
        self.send_response(200)
        headers = {"content-type": "text/event-stream", "transfer-encoding": "chunked", **reply.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for number, raw in enumerate(self.server.api.stream_of(reply, body)):
            if number == reply.events_max:
                self.close_connection = True
                return
            self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


def _message(api: MessagesApi, reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
    has_calls = any(block["type"] == "tool_use" for block in reply.content)
    message = {
        "id": f"msg_{next(_numbers):08}",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": list(reply.content),
        "stop_reason": reply.stop_reason or ("tool_use" if has_calls else "end_turn"),
        "stop_sequence": None,
        "usage": api.usage(body, reply.content),
        **reply.extra,
    }
    if "context_management" in body:
        message["context_management"] = {"applied_edits": cleared(body)[1]}
    api.threads.keep(body, message)
    return message


def events_of(reply: Reply, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Take a message apart into the events of a stream."""
    usage = message["usage"]
    start = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    start.pop("context_management", None)  # known at the end only
    yield {"type": "message_start", "message": start}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        empty, deltas = _deltas(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
        if reply.stream_error:
            yield {"type": "error", "error": {"type": reply.stream_error, "message": "in mid-stream"}}
            return
    ending = {name: message.get(name) for name in ("stop_reason", "stop_sequence", "stop_details")}
    edits = {name: message[name] for name in ("context_management",) if name in message}
    total = {"output_tokens": usage["output_tokens"]}
    yield {"type": "message_delta", "delta": ending, "usage": total, **edits}
    yield {"type": "message_stop"}


def _deltas(block: Block) -> tuple[Block, list[Block]]:
    """Return the block as it starts, and the pieces that fill it."""
    match block["type"]:
        case "text":
            return {**block, "text": ""}, [
                {"type": "text_delta", "text": p} for p in pieces_of(block["text"])
            ]
        case "thinking":
            pieces = [{"type": "thinking_delta", "thinking": piece} for piece in pieces_of(block["thinking"])]
            signature = {"type": "signature_delta", "signature": block["signature"]}
            return {**block, "thinking": "", "signature": ""}, [*pieces, signature]
        case _:
            pieces = pieces_of(json.dumps(block["input"]))
            return {**block, "input": {}}, [
                {"type": "input_json_delta", "partial_json": p} for p in ["", *pieces]
            ]


def pieces_of(words: str) -> list[str]:
    """Cut a text as a stream does."""
    return [words[start : start + PIECE_CHARS] for start in range(0, len(words), PIECE_CHARS)]


def _text_of(message: dict[str, Any]) -> str:
    return "\n".join(str(block.get("text") or block.get("content") or "") for block in blocks_of(message))


def main() -> None:
    """Serve `write_files` until a signal."""
    parser = argparse.ArgumentParser(description="Serve the Messages API on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key", default=API_KEY)
    options = parser.parse_args()
    endings = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)  # before the threads, so that only sigwait sees them
    with MessagesApi(port=options.port, api_key=options.api_key) as api:
        print(api.base_url, flush=True)
        signal.sigwait(endings)


if __name__ == "__main__":
    main()
