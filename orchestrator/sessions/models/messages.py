"""The Messages API: conversations as it wants them, and one client for all sessions of a process."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
from anthropic import APIStatusError, AsyncAnthropic, AsyncStream, BadRequestError, DefaultAsyncHttpxClient

from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.models.answer import Answer, json_object
from orchestrator.sessions.models.api import Frame, Message, ModelApi, Request, Responding
from orchestrator.sessions.models.judging import Judgement
from orchestrator.sessions.models.messages_errors import API_ERRORS, judgement_of
from orchestrator.sessions.tools.toolbox import tool_definitions
from orchestrator.settings import ANTHROPIC

_CACHED = {"type": "ephemeral"}

#: Tool calls that stay when the service clears old ones.
_CALLS_KEPT = 6

#: Name of the feature by which it does so, and how a refusal of it reads.
_CLEARING = "context-management-2025-06-27"
_CLEARING_REFUSED = re.compile("context[-_]management")


class MessagesApi(ModelApi):
    """Implements ModelApi with the Messages API.

    Sends neither sampling parameters nor a forced tool choice: current models refuse both.
    """

    provider = ANTHROPIC
    errors: tuple[type[Exception], ...] = API_ERRORS

    def __init__(self, config: SessionConfig) -> None:
        super().__init__(config)
        self._can_clear = True

    def _connect(self) -> AsyncAnthropic:
        return AsyncAnthropic(
            api_key=self.config.api_key,
            base_url=self.config.base_url or None,
            max_retries=0,
            http_client=DefaultAsyncHttpxClient(verify=self._ssl_context),
        )

    def request(
        self, frame: Frame, messages: Sequence[Message], *, may_call: bool = True, is_long: bool = False
    ) -> Request:
        """Return what to send; see ModelApi."""
        request: dict[str, Any] = {
            "model": frame.model,
            "max_tokens": self.config.max_output_tokens,
            "system": [{"type": "text", "text": frame.role, "cache_control": _CACHED}],
            "tools": tool_definitions(frame.tools),
            "cache_control": _CACHED,  # the conversation so far, so that each turn pays for what is new
            "messages": messages,
        }
        if self.config.effort:
            request["output_config"] = {"effort": self.config.effort}
        if self.config.thinking:
            request["thinking"] = {"type": self.config.thinking}
        if not may_call:
            request["tool_choice"] = {"type": "none"}
        elif is_long and self._can_clear:
            request |= _clearing(self.config.conversation_tokens)
        return request

    def forgo(self, request: Request, refusal: Exception) -> str:
        """Clear no more old tool results: the hand-over alone bounds a conversation then."""
        is_about_it = isinstance(refusal, BadRequestError) and _CLEARING_REFUSED.search(str(refusal))
        if not is_about_it or "extra_body" not in request:
            return ""
        self._can_clear = False
        return "Old tool results are not cleared"

    def send(self, request: Request) -> AbstractAsyncContextManager[Responding]:
        """Begin a streamed request."""
        return self._client.messages.with_streaming_response.create(stream=True, **request)  # type: ignore[no-any-return]

    async def events(self, response: httpx2.Response) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the events of a stream. Raises APIStatusError: one of them is an error."""
        async for event in AsyncStream.raw_events(response):
            if event.event == "error":
                raise APIStatusError(event.data, response=response, body=_json_of(event.data))
            if event.data:
                yield json_object(event.data)

    def new_answer(self, request: Request) -> Answer:
        """Return an empty answer."""
        return Answer()

    def judgement_of(self, error: Exception, *, has_begun: bool) -> Judgement:
        """Judge an error."""
        assert isinstance(error, API_ERRORS)
        return judgement_of(error, has_begun=has_begun)


def _clearing(tokens_max: int) -> dict[str, Any]:
    """Return what asks the service to clear old tool results, at least a fifth, so that it pays to do so."""
    edit = {
        "type": "clear_tool_uses_20250919",
        "trigger": {"type": "input_tokens", "value": tokens_max},
        "keep": {"type": "tool_uses", "value": _CALLS_KEPT},
        "clear_at_least": {"type": "input_tokens", "value": tokens_max // 5},
    }
    return {
        "extra_headers": {"anthropic-beta": _CLEARING},
        "extra_body": {"context_management": {"edits": [edit]}},
    }


def _json_of(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
