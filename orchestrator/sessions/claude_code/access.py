"""What one attempt may ask of the Messages API through the proxy, and what has become of it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

import anthropic
import httpx2

from orchestrator.errors import Overloaded
from orchestrator.grant_ports import GovernedRequest
from orchestrator.ports import Usage
from orchestrator.sessions.meter import Meter
from orchestrator.sessions.models.answer import json_object, usage_of
from orchestrator.sessions.watch import Clocks


class Access:
    """One attempt's way to the API.

    Args:
        meter: counts what its requests use.
        cost_micros_max: once the meter is there, nothing more is asked.
        clocks: of the session; an answer sets them back, and they stand still while it waits for leave.

    Attributes:
        key: what its process presents in place of the real key; good for nothing but this attempt.
        turn: held while a request is under way, so that spend exceeds its cap by one answer at most.
        was_refused: a request came after the cap was reached.
        failure: what became of the last request, if it failed.
        answer: what the last answer said of itself.
    """

    def __init__(self, meter: Meter, *, cost_micros_max: int, clocks: Clocks) -> None:
        self.key = f"sk-attempt-{secrets.token_hex(24)}"
        self.turn = asyncio.Lock()
        self.was_refused = False
        self.failure: anthropic.APIError | httpx2.HTTPError | Overloaded | None = None
        self.answer = AnswerReader()
        self.meter = meter
        self.clocks = clocks
        self._cost_micros_max = cost_micros_max

    @property
    def is_spent(self) -> bool:
        """Whether the cap is reached."""
        return self.meter.usage.cost_micros >= self._cost_micros_max

    def begin(self) -> None:
        """A request is sent: what became of the one before does not count any more."""
        self.failure, self.answer = None, AnswerReader()

    def end(self, leave: GovernedRequest) -> None:
        """The request is over, however it ended: count what it used."""
        tokens = self.answer.tokens
        if tokens is not None:
            self.meter.add(tokens)
            taken = tokens.input_tokens + tokens.cache_write_tokens
            leave.used(input_tokens=taken, output_tokens=tokens.output_tokens)


class AnswerReader:
    """Reads along in one answer that is passed on, streamed or whole.

    Attributes:
        stop_reason, stop_details: of the message; empty until it is whole.
        error: the event that broke a stream off.
    """

    def __init__(self) -> None:
        self.stop_reason = ""
        self.stop_details: Mapping[str, Any] = {}
        self.error: Mapping[str, Any] | None = None
        self._counts: dict[str, int] = {}
        self._chars = 0
        self._unread = b""

    @property
    def tokens(self) -> Usage | None:
        """What the answer used; None if the service did not take the request."""
        if not self._counts:
            return None
        return usage_of(self._counts, broken_off_chars=0 if self.stop_reason else self._chars)

    def read_stream(self, chunk: bytes) -> None:
        """Take the next piece of a stream of events. Raises httpx2.RemoteProtocolError: it is none."""
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._take(json_object(line[len(b"data:") :]))

    def read_whole(self, body: bytes) -> None:
        """Take an answer that was not streamed. Raises httpx2.RemoteProtocolError: it is no JSON object."""
        message = json_object(body)
        if message.get("type") == "message":
            self._end(message, message.get("usage"))

    def _take(self, event: Mapping[str, Any]) -> None:
        match event.get("type"):
            case "message_start":
                self._count(event["message"].get("usage"))
            case "content_block_delta":
                self._chars += max(len(piece) for piece in event["delta"].values() if isinstance(piece, str))
            case "message_delta":
                self._end(event["delta"], event.get("usage"))
            case "error":
                self.error = event

    def _end(self, ending: Mapping[str, Any], usage: Mapping[str, Any] | None) -> None:
        self.stop_reason = ending.get("stop_reason") or ""
        self.stop_details = ending.get("stop_details") or {}
        self._count(usage)

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        """Counts are totals of the answer: later ones replace what came before."""
        self._counts.update({name: n for name, n in (usage or {}).items() if isinstance(n, int)})
