"""A local server that speaks chat completions, and refuses what the real service refuses.

Scenarios and replies are those of tests/support/messages_api.py, told here in the words of chat completions:

    with OpenAIApi(script(Reply([call("write_file", path="a", content="b")]), Reply([done()]))) as api: ...

`stop_reason` of a reply is a `finish_reason` here; `error_type` is the code of an error.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tests.support.messages_api import (
    API_KEY,
    Block,
    MessagesApi,
    Reply,
    Request,
    Scenario,
    error,
    pieces_of,
    write_files,
)
from tests.support.messages_memory import tokens_of
from tests.support.openai_schema import problem_of

_numbers = itertools.count(1)


class ChatRequest(Request):
    """One request as it came in."""

    @property
    def _said(self) -> list[dict[str, Any]]:
        return [
            message for message in self.body["messages"] if message["role"] not in ("system", "developer")
        ]

    @property
    def task(self) -> str:
        """The text of the first message."""
        return str(self._said[0]["content"])

    @property
    def last(self) -> str:
        """What was said since the last answer, tool results included."""
        return "\n".join(str(message["content"]) for message in self._since())

    @property
    def results(self) -> list[Block]:
        """The tool results since the last answer."""
        return [
            {"content": message["content"], "is_error": message["content"].startswith("Error: ")}
            for message in self._since()
            if message["role"] == "tool"
        ]

    def _since(self) -> list[dict[str, Any]]:
        others = itertools.takewhile(lambda message: message["role"] != "assistant", reversed(self._said))
        return list(others)[::-1]


class OpenAIApi(MessagesApi):
    """Serves chat completions.

    Args:
        refused: fields of a request that this endpoint does not know.
        tells_usage: whether it says what an answer used, where it is asked to.
        sends_calls_whole: each call in one chunk, without an id, all with the number 0.
        reasons_with_tools: whether it takes tools together with a reasoning effort.
    """

    path = "/v1/chat/completions"

    def __init__(
        self,
        scenario: Scenario = write_files,
        *,
        api_key: str = API_KEY,
        refused: Collection[str] = (),
        tells_usage: bool = True,
        sends_calls_whole: bool = False,
        reasons_with_tools: bool = True,
    ) -> None:
        super().__init__(scenario, api_key=api_key)
        self._refused = refused
        self._tells_usage = tells_usage
        self._sends_calls_whole = sends_calls_whole
        self._reasons_with_tools = reasons_with_tools

    @property
    def base_url(self) -> str:
        """The address to give to the client."""
        return f"{super().base_url}/v1"

    def answer(self, headers: Mapping[str, str], raw: bytes) -> tuple[Reply, dict[str, Any]]:
        """Return the reply to a request and the body that it was read from."""
        if headers.get("authorization") != f"Bearer {self.api_key}":
            return error(401, "invalid_api_key", "Incorrect API key provided."), {}
        body = json.loads(raw)
        if refusal := self._refusal_of_feature(body):
            return error(400, "unsupported_parameter", refusal), {}
        if problem := problem_of(body, refused=self._refused):
            self.problems.append(problem)
            return error(400, "", problem), {}
        if not body.get("stream"):
            self.problems.append("not streamed")
        request = self.request_of(headers, body)
        self.requests.append(request)
        reply = self.scenario(request)
        self.wait(reply)
        return reply, body

    def _refusal_of_feature(self, body: dict[str, Any]) -> str:
        """Return why this endpoint does not take what others do; that is no fault of the caller."""
        if unknown := sorted(set(self._refused) & set(body)):
            return f"Unrecognized request argument supplied: {unknown[0]}"
        if not self._reasons_with_tools and "tools" in body and body.get("reasoning_effort") != "none":
            return (
                "Function tools with reasoning_effort are not supported here: set reasoning_effort to 'none'."
            )
        return ""

    def request_of(self, headers: Mapping[str, str], body: dict[str, Any]) -> Request:
        """Return a request as scenarios see it."""
        return ChatRequest(headers=headers, body=body)

    def error_of(self, reply: Reply) -> dict[str, Any]:
        """Return the body of an answer that is an error."""
        told = {"message": reply.error_type, "type": "invalid_request_error", "param": None, **reply.extra}
        return {"error": {**told, "code": reply.error_type or None}}

    def usage(self, body: dict[str, Any], content: Sequence[Block]) -> dict[str, Any]:
        """Count as the service does: the tokens read from the cache are among those of the prompt."""
        prefix = [body["messages"][0], body.get("tools")]
        known = json.dumps(prefix)
        is_cached = known in self._cached
        self._cached.add(known)
        prompt, completion = tokens_of([body["messages"], body.get("tools")]), tokens_of(list(content))
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": tokens_of(prefix) if is_cached else 0},
        }

    def stream_of(self, reply: Reply, body: dict[str, Any]) -> Iterator[bytes]:
        """Yield the chunks of a streamed answer as they are sent."""
        head = {
            "id": f"chatcmpl-{next(_numbers):08}",
            "object": "chat.completion.chunk",
            "created": 1_790_000_000,
            "model": body["model"],
        }
        for choice in self._choices(reply):
            yield _sent({**head, "choices": [{"index": 0, "logprobs": None, **choice}]})
            if reply.stream_error and choice["delta"].get("content"):
                code = {"code": reply.stream_error, "type": "server_error", "message": "in mid-stream"}
                yield _sent({"error": code})
                return
        if self._tells_usage and body.get("stream_options", {}).get("include_usage"):
            yield _sent({**head, "choices": [], "usage": self.usage(body, reply.content)})
        yield b"data: [DONE]\n\n"

    def _choices(self, reply: Reply) -> Iterator[dict[str, Any]]:
        deltas = itertools.chain([{"role": "assistant", "content": ""}], self._deltas(reply.content))
        refusal = reply.extra.get("refusal")
        if refusal:
            deltas = itertools.chain(deltas, ({"refusal": piece} for piece in pieces_of(refusal)))
        yield from ({"delta": delta, "finish_reason": None} for delta in deltas)
        calls = any(block["type"] == "tool_use" for block in reply.content)
        yield {"delta": {}, "finish_reason": reply.stop_reason or ("tool_calls" if calls else "stop")}

    def _deltas(self, content: Sequence[Block]) -> Iterator[dict[str, Any]]:
        index = 0
        for block in content:
            match block["type"]:
                case "text":
                    yield from ({"content": piece} for piece in pieces_of(block["text"]))
                case "thinking":
                    yield from ({"reasoning_content": piece} for piece in pieces_of(block["thinking"]))
                case "tool_use" if self._sends_calls_whole:
                    function = {"name": block["name"], "arguments": json.dumps(block["input"])}
                    yield {"tool_calls": [{"index": 0, "function": function}]}
                case "tool_use":
                    yield from _call_deltas(block, index)
                    index += 1


def _call_deltas(block: Block, index: int) -> Iterator[dict[str, Any]]:
    begun = {"name": block["name"], "arguments": ""}
    yield {"tool_calls": [{"index": index, "id": block["id"], "type": "function", "function": begun}]}
    for piece in pieces_of(json.dumps(block["input"])):
        yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _sent(chunk: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(chunk)}\n\n".encode()
