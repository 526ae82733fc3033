"""What the Messages API does with a conversation on its side: it holds threads, and clears old tool results.

Threads (beta): a request that creates one says everything; one that continues it names the answer before and
says only what is new. Clearing (beta): results of old tool calls leave the prompt, not the caller's history.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from tests.support.messages_schema import blocks_of

CHARS_PER_TOKEN = 4
CLEARED = "[cleared]"

#: What must stay the same in a thread, and what a thread cannot have.
FINGERPRINT = ("model", "system", "tools")
NOT_IN_THREADS = ("cache_control", "context_management")

Body = dict[str, Any]


class ThreadRefused(Exception):
    """Raised for a request that no thread can take; `code` is the service's own word for why."""

    def __init__(self, code: str) -> None:
        super().__init__(f"thread: {code.replace('_', ' ')}")
        self.code = code
        self.status, self.error_type = (
            (404, "not_found_error") if code == "thread_not_found" else (400, "invalid_request_error")
        )


class Threads:
    """The conversations that are held, by the id of their last answer."""

    def __init__(self) -> None:
        self._held: dict[str, Body] = {}
        self._continued: set[str] = set()

    def whole(self, body: Body) -> Body:
        """Return a request with all that was said before. Raises ThreadRefused."""
        thread = body.get("thread")
        if thread is None:
            return body
        if any(name in body for name in NOT_IN_THREADS):
            raise ThreadRefused("thread_unsupported_request")
        if thread["type"] == "create":
            return body
        before = thread["previous_message_id"]
        if before in self._continued:
            raise ThreadRefused("thread_already_continued")
        if before not in self._held:
            raise ThreadRefused("thread_not_found")
        held = self._held[before]
        if any(name in body and body[name] != held.get(name) for name in FINGERPRINT):
            raise ThreadRefused("thread_fingerprint_mismatch")
        self._continued.add(before)
        return {**held, **body, "messages": [*held["messages"], *body["messages"]]}

    def keep(self, body: Body, message: Body) -> None:
        """Hold the conversation up to this answer, if it is a thread."""
        if "thread" in body:
            answered = [*body["messages"], {"role": "assistant", "content": message["content"]}]
            self._held[message["id"]] = {**body, "messages": answered}

    def forget(self) -> None:
        """Lose every conversation."""
        self._held.clear()


def tokens_of(part: object) -> int:
    """Return about how many tokens a part of a request has."""
    return len(json.dumps(part)) // CHARS_PER_TOKEN


def cleared(body: Body) -> tuple[list[Body], list[Body]]:
    """Return the messages as the model gets them, and which edits were applied."""
    messages = body["messages"]
    for edit in body.get("context_management", {}).get("edits", ()):
        if edit["type"] != "clear_tool_uses_20250919" or tokens_of(messages) <= edit["trigger"]["value"]:
            continue
        shorter = copy.deepcopy(messages)
        results = [
            block for message in shorter for block in blocks_of(message) if block["type"] == "tool_result"
        ]
        old = results[: -edit["keep"]["value"]]
        for block in old:
            block["content"] = CLEARED
        saved = tokens_of(messages) - tokens_of(shorter)
        if old and saved >= edit.get("clear_at_least", {"value": 0})["value"]:
            applied = {"type": edit["type"], "cleared_tool_uses": len(old), "cleared_input_tokens": saved}
            return shorter, [applied]
    return messages, []
