"""Chat completions, which many providers speak: conversations in their words, one client for all sessions.

Endpoints differ in what they take. What one of them refuses of a request is left out from then on, and the
transcript says so; nothing is tried that is not needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.models.answer import Answer, Block, json_object
from orchestrator.sessions.models.api import Frame, Message, ModelApi, Request, Responding
from orchestrator.sessions.models.chat_answer import ChatAnswer
from orchestrator.sessions.models.chat_errors import ERRORS, judgement_of
from orchestrator.sessions.models.judging import Judgement
from orchestrator.sessions.tools.toolbox import tool_definitions
from orchestrator.settings import OPENAI

#: What a service takes as the name of a function; a model may make up any.
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_NAME_CHARS = 64

#: Newer models call functions over this API only if they do not reason.
_NO_EFFORT = "none"


@dataclass(slots=True)
class _Takes:
    """What a model of an endpoint takes, as far as is known.

    Attributes:
        usage: it tells what an answer used.
        cap: its name for the longest answer.
        efforts: how hard it is to reason: the first counts, the others are left to try; empty = not said.
    """

    efforts: list[str]
    usage: bool = True
    cap: str = "max_completion_tokens"


class ChatApi(ModelApi):
    """Implements ModelApi with chat completions and the SDK of OpenAI."""

    provider = OPENAI
    errors: tuple[type[Exception], ...] = ERRORS

    def __init__(self, config: SessionConfig) -> None:
        super().__init__(config)
        self._takes: dict[str, _Takes] = {}

    def _connect(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            api_key=self.config.api_key,
            base_url=self.config.base_url or None,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(verify=self._ssl_context),
        )

    def request(
        self, frame: Frame, messages: Sequence[Message], *, may_call: bool = True, is_long: bool = False
    ) -> Request:
        """Return what to send; see ModelApi. Old tool results are never left out: nobody does that here."""
        takes = self._takes.get(frame.model)
        if takes is None:
            efforts = list(dict.fromkeys((self.config.effort, _NO_EFFORT, "")))
            takes = self._takes[frame.model] = _Takes(efforts)
        request: dict[str, Any] = {
            "model": frame.model,
            "messages": [{"role": "system", "content": frame.role}, *_in_chat(messages)],
            "tools": _functions(frame),
            takes.cap: self.config.max_output_tokens,
        }
        if takes.usage:
            request["stream_options"] = {"include_usage": True}
        if effort := takes.efforts[0]:
            request["reasoning_effort"] = effort
        if not may_call:
            request["tool_choice"] = "none"
        return request

    def forgo(self, request: Request, refusal: Exception) -> str:
        """Leave out what this endpoint refuses of a request; see ModelApi."""
        if not isinstance(refusal, openai.BadRequestError | openai.UnprocessableEntityError):
            return ""
        takes, said = self._takes[request["model"]], str(refusal)
        if "stream_options" in said and "stream_options" in request:
            takes.usage = False
            return "What answers use is not told, and is estimated"
        if "max_completion_tokens" in said and "max_completion_tokens" in request:
            takes.cap = "max_tokens"
            return "The length of answers is bounded by `max_tokens`"
        if "reasoning_effort" in said and len(takes.efforts) > 1:
            if takes.efforts[0] == request.get("reasoning_effort", ""):  # else another session found it out
                takes.efforts.pop(0)
            return f"The reasoning effort is {takes.efforts[0] or 'not said'}"
        return ""

    def send(self, request: Request) -> AbstractAsyncContextManager[Responding]:
        """Begin a streamed request."""
        return self._client.chat.completions.with_streaming_response.create(stream=True, **request)  # type: ignore[no-any-return]

    async def events(self, response: httpx2.Response) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the chunks of a stream. Raises APIStatusError: one of them is an error."""
        async for line in response.aiter_lines():
            data = line.removeprefix("data:").strip()
            if data == line.strip() or data in ("", "[DONE]"):
                continue  # a comment that keeps the connection alive, or the end
            event = json_object(data)
            if error := event.get("error"):
                raise openai.APIStatusError(str(error), response=response, body=error)
            yield event

    def new_answer(self, request: Request) -> Answer:
        """Return an empty answer."""
        return ChatAnswer(request)

    def judgement_of(self, error: Exception, *, has_begun: bool) -> Judgement:
        """Judge an error."""
        return judgement_of(error, has_begun=has_begun)


def _functions(frame: Frame) -> list[dict[str, Any]]:
    return [
        {
            "type": "function",
            "function": {
                "name": tool["name"],
                "description": tool["description"],
                "parameters": tool["input_schema"],
            },
        }
        for tool in tool_definitions(frame.tools)
    ]


def _in_chat(messages: Iterable[Message]) -> Iterator[dict[str, Any]]:
    """Yield the messages of a conversation in the words of chat completions: a tool result is one."""
    for message in messages:
        if message["role"] == "assistant":
            yield _said(message["content"])
            continue
        words = []
        for block in message["content"]:
            if block["type"] == "tool_result":
                failed = "Error: " if block["is_error"] else ""
                content = f"{failed}{block['content']}"
                yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": content}
            else:
                words.append(block["text"])
        if words:
            yield {"role": "user", "content": "\n\n".join(words)}


def _said(blocks: Sequence[Block]) -> dict[str, Any]:
    text = "\n".join(block["text"] for block in blocks if block["type"] == "text")
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {
                "name": _NO_NAME.sub("_", block["name"])[:_NAME_CHARS] or "_",
                "arguments": json.dumps(block["input"], ensure_ascii=False),
            },
        }
        for block in blocks
        if block["type"] == "tool_use"
    ]
    message: dict[str, Any] = {"role": "assistant"}
    if text or not calls:
        message["content"] = text
    if calls:
        message["tool_calls"] = calls
    return message
