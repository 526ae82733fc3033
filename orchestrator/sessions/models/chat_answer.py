"""One answer of a chat completion, put together from the chunks of its stream, as blocks like Claude's.

Endpoints differ: some send a call whole and some in pieces, some leave out its id or its index, some never
tell what they used. What is not told is made up here: ids are numbered, tokens are estimated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.ports import Usage
from orchestrator.sessions.models.answer import CHARS_PER_TOKEN, Answer, Block, input_of

#: Why an answer ended, in the words of the Messages API. Any other reason is that of an answer that is whole:
#: what it calls is carried out, and one that calls nothing is told to report.
_STOP_REASONS = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_WHOLE = "end_turn"

_FILTERED = "the content filter of the provider stopped the answer"


@dataclass(slots=True)
class _Call:
    """A tool call while it comes."""

    id: str
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class ChatAnswer(Answer):
    """What has come of one answer.

    Args:
        request: from whose size its tokens are estimated if nobody tells them.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        super().__init__()
        self._request = request
        self._has_begun = False
        self._said: list[str] = []
        self._thought: list[str] = []
        self._refused: list[str] = []
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    @property
    def has_begun(self) -> bool:
        """Whether the service took the request, so that it costs something."""
        return self._has_begun

    @property
    def tokens(self) -> Usage:
        """What it used; estimated if it broke off, or if the endpoint does not tell."""
        if self._usage:
            return super().tokens
        sent = len(json.dumps(self._request, ensure_ascii=False))
        return Usage(input_tokens=sent // CHARS_PER_TOKEN, output_tokens=self._chars // CHARS_PER_TOKEN)

    def add(self, event: Mapping[str, Any]) -> Sequence[Block]:
        """Take the next chunk; returns the blocks that it completes."""
        self._has_begun = True
        if usage := event.get("usage"):
            self._count_chat(usage)
        for choice in (event.get("choices") or ())[:1]:
            self._take(choice.get("delta") or {})
            if reason := choice.get("finish_reason"):
                return self._finish(reason)
        return ()

    def _take(self, delta: Mapping[str, Any]) -> None:
        pieces = (
            (self._thought, delta.get("reasoning_content") or delta.get("reasoning")),
            (self._said, delta.get("content")),
            (self._refused, delta.get("refusal")),
        )
        for parts, piece in pieces:
            if isinstance(piece, str) and piece:
                parts.append(piece)
                self._chars += len(piece)
        for piece in delta.get("tool_calls") or ():
            self._take_call(piece)

    def _take_call(self, piece: Mapping[str, Any]) -> None:
        told, function = piece.get("id") or "", piece.get("function") or {}
        name, index = function.get("name") or "", piece.get("index") or 0
        call = self._by_index.get(index)
        is_new = call is None or (told != call.id if told else bool(name and call.name))
        if call is None or is_new:  # some number all their calls 0
            call = self._by_index[index] = _Call(told or f"call_{len(self._calls) + 1}")
            self._calls.append(call)
        call.name = call.name or name
        if arguments := function.get("arguments"):
            call.arguments.append(arguments)
            self._chars += len(arguments)

    def _finish(self, reason: str) -> Sequence[Block]:
        """The answer is whole, but for what it used: that follows."""
        self.stop_reason = _STOP_REASONS.get(reason, _WHOLE)
        if self._refused:
            self.stop_reason, self.refusal = "refusal", "".join(self._refused)
        elif self.stop_reason == "refusal":
            self.refusal = _FILTERED
        said = "".join(self._said)
        if said.strip():
            self.blocks.append({"type": "text", "text": said})
        for call in self._calls:
            arguments = input_of("".join(call.arguments))
            self.blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": arguments})
        thoughts = "".join(self._thought)  # told, and not sent back: the service wants none
        return [*([{"type": "thinking", "thinking": thoughts}] if thoughts else ()), *self.blocks]

    def _count_chat(self, usage: Mapping[str, Any]) -> None:
        """Of the tokens of a request, those read from a cache and written to one have prices of their own."""
        details = usage.get("prompt_tokens_details") or {}
        read, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
        self._count(
            {
                "input_tokens": max(0, (usage.get("prompt_tokens") or 0) - read - written),
                "cache_read_input_tokens": read,
                "cache_creation_input_tokens": written,
                "output_tokens": usage.get("completion_tokens") or 0,
            }
        )
