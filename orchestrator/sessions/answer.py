"""One answer of the Messages API, put together from its stream.

The SDK's own snapshot builds a model for every piece and parses the input of a tool anew with each of them,
which takes time in proportion to the square of what a model writes into a file; this only joins the pieces.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from orchestrator.ports import Usage
from orchestrator.sessions.meter import tokens_of

if TYPE_CHECKING:
    from anthropic.types import RawMessageStreamEvent, RefusalStopDetails
    from anthropic.types import Usage as ApiUsage

Block = dict[str, Any]

#: Estimate for an answer that broke off before it said how long it was.
_CHARS_PER_TOKEN = 4

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
        stop_details: why it was refused, if it was.
        cleared_tokens: what the service left out of the conversation to make room.
    """

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.stop_reason = ""
        self.stop_details: RefusalStopDetails | None = None
        self.cleared_tokens = 0
        self._open: Block = {}
        self._pieces: dict[str, list[str]] = {}
        self._usage: ApiUsage | None = None
        self._chars = 0

    @property
    def has_begun(self) -> bool:
        """Whether the service took the request, so that it costs something."""
        return self._usage is not None

    @property
    def tokens(self) -> Usage:
        """What it used; the length of an answer that broke off is estimated."""
        assert self._usage is not None, "the answer has not begun"
        if not self.stop_reason:
            self._usage.output_tokens = max(self._usage.output_tokens, self._chars // _CHARS_PER_TOKEN)
        return tokens_of(self._usage)

    @property
    def calls(self) -> list[Block]:
        """The tool calls."""
        return [block for block in self.blocks if block["type"] == "tool_use"]

    @property
    def text(self) -> str:
        """What the model said."""
        return "\n".join(block["text"] for block in self.blocks if block["type"] == "text")

    def add(self, event: RawMessageStreamEvent) -> Block | None:
        """Take the next event; returns the block that it completes."""
        match event.type:
            case "message_start":
                self._usage = event.message.usage
            case "content_block_start":
                self._open, self._pieces = event.content_block.to_dict(), {}
            case "content_block_delta":
                self._join(event.delta)
            case "content_block_stop":
                return self._close()
            case "message_delta":
                self._end(event)
        return None

    def _join(self, delta: Any) -> None:
        field = _FIELDS.get(delta.type)
        if field:  # others, such as citations, are of no use to a session
            piece = getattr(delta, field)
            self._pieces.setdefault(field, []).append(piece)
            self._chars += len(piece)

    def _close(self) -> Block | None:
        block, pieces = self._open, self._pieces
        for field, parts in pieces.items():
            if field != "partial_json":
                block[field] = block.get(field, "") + "".join(parts)
        if block["type"] == "tool_use":
            block["input"] = _input_of("".join(pieces.get("partial_json", ()))) or block["input"]
        if _can_be_sent_back(block):
            self.blocks.append(block)
        return block

    def _end(self, event: Any) -> None:
        self.stop_reason = event.delta.stop_reason or ""
        self.stop_details = event.delta.stop_details
        assert self._usage is not None
        for name, count in event.usage.to_dict().items():
            if count is not None:
                setattr(self._usage, name, count)  # totals of the answer: they replace what came before
        edits = (event.to_dict().get("context_management") or {}).get("applied_edits", ())
        self.cleared_tokens = sum(edit.get("cleared_input_tokens", 0) for edit in edits)


def _input_of(text: str) -> Block:
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
