"""What the Messages API (version 2026-10-21) accepts: checks a body as strictly as the real service.

`problem_of` returns the message of the 400 that the service would answer, or None. It is on purpose not built
from the SDK's types: it must be able to catch what the SDK lets through.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

FIELDS = {
    "model", "max_tokens", "messages", "system", "tools", "tool_choice", "stream", "metadata",
    "stop_sequences", "thinking", "output_config", "cache_control", "service_tier",
}  # fmt: skip
BETA_FIELDS = {
    "context_management": "context-management-2025-06-27",
    "thread": "message-threads-2026-08-12",
}
GONE = {"temperature", "top_p", "top_k"}
EFFORTS = {"low", "medium", "high", "xhigh", "max"}
THINKING = {"adaptive", "enabled", "disabled", "between_tools"}
BLOCKS = {
    "user": {
        "text": {"type", "text", "cache_control"},
        "tool_result": {"type", "tool_use_id", "content", "is_error", "cache_control"},
    },
    "assistant": {
        "text": {"type", "text", "citations", "cache_control"},
        "tool_use": {"type", "id", "name", "input", "caller", "cache_control"},
        "thinking": {"type", "thinking", "signature"},
    },
}
BREAKPOINTS_MAX = 4

Body = dict[str, Any]


def problem_of(body: object, *, betas: Collection[str] = ()) -> str | None:
    """Return what is wrong with a request body, in the order in which the service looks.

    Args:
        betas: features that the caller named; their fields are unknown to all others.
    """
    if not isinstance(body, dict):
        return "the body must be a JSON object"
    named = {field for field, beta in BETA_FIELDS.items() if beta in betas}
    return next(_problems(body, FIELDS | named), None)


def _problems(body: Body, fields: Collection[str]) -> Iterator[str]:
    yield from (f"{name}: sampling parameters are not supported" for name in sorted(GONE & set(body)))
    yield from (f"{name}: Extra inputs are not permitted" for name in sorted(set(body) - set(fields)))
    yield from (f"{name}: Field required" for name in ("model", "max_tokens", "messages") if name not in body)
    if not isinstance(body["max_tokens"], int) or body["max_tokens"] < 1:
        yield "max_tokens: Input should be a positive integer"
    yield from _configuration(body)
    yield from _tools(body.get("tools", ()))
    yield from _system(body.get("system", ()))
    yield from _messages(body["messages"], known={tool["name"] for tool in body.get("tools", ())})
    marks = list(_cache_marks(body))
    yield from (
        f"cache_control: {mark!r} is not ephemeral" for mark in marks if mark != {"type": "ephemeral"}
    )
    if len(marks) > BREAKPOINTS_MAX:
        yield f"A maximum of {BREAKPOINTS_MAX} blocks with cache_control may be provided. Found {len(marks)}."


def _configuration(body: Body) -> Iterator[str]:
    effort = body.get("output_config", {}).get("effort")
    if effort is not None and effort not in EFFORTS:
        yield f"output_config.effort: {effort!r} is not one of {sorted(EFFORTS)}"
    thinking = body.get("thinking", {}).get("type", "adaptive")
    if thinking not in THINKING:
        yield f"thinking.type: {thinking!r} is not one of {sorted(THINKING)}"
    if body.get("tool_choice", {}).get("type", "auto") not in ("auto", "none"):
        yield "tool_choice: forced tool use is not supported by this model"


def _tools(tools: Sequence[Body]) -> Iterator[str]:
    for number, tool in enumerate(tools):
        if extra := set(tool) - {"name", "description", "input_schema", "cache_control", "type", "strict"}:
            yield f"tools.{number}.{min(extra)}: Extra inputs are not permitted"
        if not tool.get("name"):
            yield f"tools.{number}.name: Field required"
        if tool.get("input_schema", {}).get("type") != "object":
            yield f"tools.{number}.input_schema.type: Field required"
    if len({tool["name"] for tool in tools}) != len(tools):
        yield "tools: Tool names must be unique."


def _system(system: object) -> Iterator[str]:
    if isinstance(system, str):
        return
    for number, block in enumerate(system):  # type: ignore[arg-type]
        if block.get("type") != "text" or not block.get("text"):
            yield f"system.{number}: text content blocks must be non-empty"


def _messages(messages: object, *, known: set[str]) -> Iterator[str]:
    if not isinstance(messages, list) or not messages:
        yield "messages: at least one message is required"
        return
    if messages[0].get("role") != "user":
        yield "messages: first message must use the user role"
    open_calls: list[str] = []
    for number, message in enumerate(messages):
        where = f"messages.{number}"
        if set(message) != {"role", "content"} or message["role"] not in BLOCKS:
            yield f"{where}: a message is an object of role and content"
            return
        if number and messages[number - 1]["role"] == message["role"]:
            yield f"{where}: roles must alternate"
        blocks = blocks_of(message)
        yield from _blocks(where, message["role"], blocks, known=known)
        yield from _answers(where, blocks, open_calls)
        open_calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
    if open_calls:
        yield f"messages: tool_use ids without tool_result: {open_calls}"


def _blocks(where: str, role: str, blocks: list[Body], *, known: set[str]) -> Iterator[str]:
    if not blocks:
        yield f"{where}.content: at least one content block is required"
    for number, block in enumerate(blocks):
        here = f"{where}.content.{number}"
        fields = BLOCKS[role].get(block.get("type", ""))
        if fields is None:
            yield f"{here}: {block.get('type')!r} blocks are not permitted in a message of the {role}"
            return
        if extra := set(block) - fields:
            yield f"{here}.{min(extra)}: Extra inputs are not permitted"
        if block["type"] == "text" and not str(block.get("text", "")).strip():
            yield f"{here}: text content blocks must contain non-whitespace text"
        if block["type"] == "thinking" and not block.get("signature"):
            yield f"{here}.signature: Field required"
        if block["type"] == "tool_use" and (
            block["name"] not in known or not isinstance(block["input"], dict)
        ):
            yield f"{here}: tool_use of an unknown tool, or without an input object"


def _answers(where: str, blocks: list[Body], open_calls: list[str]) -> Iterator[str]:
    """Every call of the message before is answered here, at the beginning, and nothing else is."""
    answered = [block["tool_use_id"] for block in blocks if block.get("type") == "tool_result"]
    if sorted(answered) != sorted(open_calls):
        yield f"{where}: tool_result for {answered}, but the tool_use before were {open_calls}"
    if any(block.get("type") != "tool_result" for block in blocks[: len(answered)]):
        yield f"{where}: tool_result blocks must come first"


def blocks_of(message: Body) -> list[Body]:
    """Return the content blocks of a message; a string is one text block."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _cache_marks(part: object) -> Iterator[object]:
    if isinstance(part, dict):
        if "cache_control" in part:
            yield part["cache_control"]
        for name, value in part.items():
            if name not in ("cache_control", "input", "input_schema"):
                yield from _cache_marks(value)
    elif isinstance(part, list):
        for item in part:
            yield from _cache_marks(item)
