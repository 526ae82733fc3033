"""What chat completions accept: checks a body as strictly as OpenAI's own service does.

`problem_of` returns the message of the 400 that the service would answer, or None. It is on purpose not built
from the SDK's types: it must be able to catch what the SDK lets through.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

FIELDS = {
    "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "stream", "stream_options",
    "max_completion_tokens", "max_tokens", "reasoning_effort", "response_format", "stop", "seed", "user", "n",
    "temperature", "top_p", "frequency_penalty", "presence_penalty", "metadata", "store", "service_tier",
    "prompt_cache_key", "verbosity",
}  # fmt: skip
EFFORTS = {"none", "minimal", "low", "medium", "high", "xhigh", "max"}
MESSAGE_FIELDS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "refusal", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")

Body = dict[str, Any]


def problem_of(body: object, *, refused: Collection[str] = ()) -> str | None:
    """Return what is wrong with a request body, in the order in which the service looks.

    Args:
        refused: fields that this endpoint does not know.
    """
    if not isinstance(body, dict):
        return "We could not parse the JSON body of your request."
    return next(_problems(body, FIELDS - set(refused)), None)


def _problems(body: Body, fields: Collection[str]) -> Iterator[str]:
    yield from (f"Unrecognized request argument supplied: {name}" for name in sorted(set(body) - set(fields)))
    if not isinstance(body.get("model"), str) or not body["model"]:
        yield "you must provide a model parameter"
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        yield "Invalid 'messages': empty array. Expected an array with minimum length 1"
    if "stream_options" in body and not body.get("stream"):
        yield "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    if "max_tokens" in body and "max_completion_tokens" in fields:
        yield "Unsupported parameter: 'max_tokens' is not supported: use 'max_completion_tokens'."
    if body.get("reasoning_effort", "none") not in EFFORTS:
        yield f"Invalid value: {body['reasoning_effort']!r} for 'reasoning_effort'"
    if "tool_choice" in body and not body.get("tools"):
        yield "'tool_choice' is only allowed when 'tools' are specified."
    yield from _tools(body.get("tools"))
    yield from _messages(body["messages"])


def _tools(tools: object) -> Iterator[str]:
    if tools is None:
        return
    if not isinstance(tools, list) or not tools:
        yield "Invalid 'tools': empty array. Expected an array with minimum length 1"
        return
    for number, tool in enumerate(tools):
        function = tool.get("function", {})
        if tool.get("type") != "function" or set(tool) != {"type", "function"}:
            yield f"Invalid value for 'tools[{number}]': a function is expected"
        if extra := set(function) - {"name", "description", "parameters", "strict"}:
            yield f"Unknown parameter: 'tools[{number}].function.{min(extra)}'"
        if not NAME.fullmatch(function.get("name", "")):
            yield f"Invalid 'tools[{number}].function.name': string does not match pattern"
        if function.get("parameters", {}).get("type") != "object":
            yield f"Invalid schema for function {function.get('name')!r}: schema must be of type object"


def _messages(messages: list[Body]) -> Iterator[str]:
    open_calls: list[str] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = message.get("role")
        if role not in MESSAGE_FIELDS:
            yield f"Invalid value: {role!r} for '{where}.role'"
            return
        if extra := set(message) - MESSAGE_FIELDS[role]:
            yield f"Unknown parameter: '{where}.{min(extra)}'"
        if role == "tool":
            if message.get("tool_call_id") not in open_calls:
                yield f"{where}: messages with role 'tool' must be a response to a message with 'tool_calls'"
            else:
                open_calls.remove(message["tool_call_id"])
        elif open_calls:
            yield (
                f"{where}: An assistant message with 'tool_calls' must be followed by tool messages; "
                f"missing: {open_calls}"
            )
        yield from _content(where, message)
        open_calls += [call["id"] for call in message.get("tool_calls", ())]
    if open_calls:
        yield f"tool_call_ids did not have response messages: {open_calls}"


def _content(where: str, message: Body) -> Iterator[str]:
    calls = message.get("tool_calls")
    if calls is not None and not calls:
        yield f"Invalid '{where}.tool_calls': empty array"
    if message.get("content") is None and not calls:
        yield f"Invalid value for '{where}.content': expected a string, got null"
    for call in calls or ():
        function = call.get("function", {})
        if set(call) != {"id", "type", "function"} or call["type"] != "function":
            yield f"Invalid '{where}.tool_calls': id, type and function are expected"
        if not NAME.fullmatch(function.get("name", "")):
            yield f"Invalid '{where}.tool_calls.function.name': string does not match pattern"
        if not isinstance(function.get("arguments"), str):
            yield f"Invalid type for '{where}.tool_calls.function.arguments': expected a string"
