"""One answer of the Messages API, put together from the events of its stream.

The SDK checks every event against a model of it, builds another for every piece, and parses the input of a
tool anew with each of them, which takes time in proportion to the square of what a model writes into a file.
This only joins the pieces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from orchestrator.ports import Usage

Block = dict[str, Any]

#: Estimate for an answer of which nobody says how long it was.
CHARS_PER_TOKEN = 4

#: Kind of a piece → the field of its block that it belongs to.
_FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}


class Answer:
    """What has come of one answer.

    Attributes:
        blocks: what is complete of it, as it is to be sent back.
        stop_reason: empty until the answer is whole.
        refusal: why it was refused; empty if it was not, or nobody says.
        cleared_tokens: what the service left out of the conversation to make room.
    """

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.stop_reason = ""
        self.refusal = ""
        self.cleared_tokens = 0
        self._open: Block = {}
        self._pieces: dict[str, list[str]] = {}
        self._usage: dict[str, int] = {}
        self._chars = 0

    @property
    def has_begun(self) -> bool:
        """Whether the service took the request, so that it costs something."""
        return bool(self._usage)

    @property
    def tokens(self) -> Usage:
        """What it used; the length of an answer that broke off is estimated."""
        return usage_of(self._usage, broken_off_chars=0 if self.stop_reason else self._chars)

    @property
    def calls(self) -> list[Block]:
        """The tool calls."""
        return [block for block in self.blocks if block["type"] == "tool_use"]

    @property
    def text(self) -> str:
        """What the model said."""
        return "\n".join(block["text"] for block in self.blocks if block["type"] == "text")

    def add(self, event: Mapping[str, Any]) -> Sequence[Block]:
        """Take the next event; returns the blocks that it completes."""
        match event["type"]:
            case "message_start":
                self._count(event["message"]["usage"])
            case "content_block_start":
                self._open, self._pieces = event["content_block"], {}
            case "content_block_delta":
                self._join(event["delta"])
            case "content_block_stop":
                return [self._close()]
            case "message_delta":
                self._end(event)
        return ()

    def _join(self, delta: Mapping[str, Any]) -> None:
        field = _FIELDS.get(delta["type"])
        if field:  # others, such as citations, are of no use to a session
            self._pieces.setdefault(field, []).append(delta[field])
            self._chars += len(delta[field])

    def _close(self) -> Block:
        block, pieces = self._open, self._pieces
        for field, parts in pieces.items():
            if field != "partial_json":
                block[field] = block.get(field, "") + "".join(parts)
        if block["type"] == "tool_use":
            block["input"] = input_of("".join(pieces.get("partial_json", ()))) or block["input"]
        if _can_be_sent_back(block):
            self.blocks.append(block)
        return block

    def _end(self, event: Mapping[str, Any]) -> None:
        delta = event["delta"]
        self.stop_reason = delta.get("stop_reason") or ""
        self.refusal = (delta.get("stop_details") or {}).get("explanation") or ""
        self._count(event["usage"])
        edits = (event.get("context_management") or {}).get("applied_edits", ())
        self.cleared_tokens = sum(edit.get("cleared_input_tokens", 0) for edit in edits)

    def _count(self, usage: Mapping[str, Any]) -> None:
        """Later counts replace earlier ones: they are totals of the answer."""
        self._usage.update({name: count for name, count in usage.items() if count is not None})


def json_object(data: str | bytes) -> dict[str, Any]:
    """Return what came of an API as JSON. Raises httpx2.RemoteProtocolError: it is no JSON object."""
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise httpx2.RemoteProtocolError(f"what came is no JSON object: {data[:100]!r}")
    return found


def usage_of(counts: Mapping[str, Any], *, broken_off_chars: int = 0) -> Usage:
    """Return what the Messages API counts of one answer, in our words.

    Args:
        broken_off_chars: length of an answer that broke off before it was counted: its tokens are estimated.
    """
    return Usage(
        input_tokens=counts.get("input_tokens", 0),
        output_tokens=max(counts.get("output_tokens", 0), broken_off_chars // CHARS_PER_TOKEN),
        cache_read_tokens=counts.get("cache_read_input_tokens", 0),
        cache_write_tokens=counts.get("cache_creation_input_tokens", 0),
    )


def input_of(text: str) -> Block:
    """Return the input of a tool; text that is no JSON object is none, and the model is told what misses."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _can_be_sent_back(block: Block) -> bool:
    """A thought that was cut off has no signature, and empty text is refused."""
    match block["type"]:
        case "text":
            return bool(block["text"].strip())
        case "thinking":
            return bool(block.get("signature"))
    return True
