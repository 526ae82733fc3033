"""The local server that speaks the Messages API: it refuses, remembers and limits as the real one does.

The SDK itself is the judge: what it sends is taken, and what it gets it understands.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic, beta_async_tool

from tests.support.messages_api import API_KEY, MessagesApi, Reply, call, rate_limits, script, text
from tests.support.sessions import MODEL

HEADERS = {"x-api-key": API_KEY, "anthropic-version": "2026-10-21"}
QUESTION: dict[str, Any] = {
    "model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "x"}],
}  # fmt: skip
ADDITIONS = (call("add", a=1, b=2), call("add", a=3, b=2))


@pytest.fixture
def api():
    with MessagesApi(script(Reply([text("hi")]))) as found:
        yield found


@pytest.fixture
async def client(api: MessagesApi) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(api_key=API_KEY, base_url=api.base_url, max_retries=0) as found:
        yield found


@beta_async_tool
async def add(a: int, b: int) -> str:
    """Add two numbers."""
    return str(a + b)


async def sum_of(client: AsyncAnthropic, tool: Any = add) -> str:
    runner = client.beta.messages.tool_runner(tools=[tool], **QUESTION)
    return "".join(block.text for block in (await runner.until_done()).content if block.type == "text")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"temperature": 0.5}, "temperature"),
        ({"max_tokens": None}, "max_tokens"),
        ({"tool_choice": {"type": "any"}}, "forced tool use"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "first message must use the user role"),
        ({"messages": [{"role": "user", "content": "x"}] * 2}, "roles must alternate"),
        ({"messages": [{"role": "user", "content": ""}]}, "non-whitespace"),
        ({"context_management": {"edits": []}}, "context_management: Extra inputs"),
        ({"thread": {"type": "create"}}, "thread: Extra inputs"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": ""}]}
                ]
            },
            "tool_result for",
        ),
    ],
)
def test_the_server_refuses_what_the_service_refuses(api, change, words):
    body = {name: value for name, value in {**QUESTION, **change}.items() if value is not None}
    with httpx2.Client(base_url=api.base_url, timeout=60) as client:
        answer = client.post("/v1/messages", json=body, headers=HEADERS)
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]
        assert client.post("/v1/messages", json=QUESTION, headers=HEADERS).json()["content"] == [text("hi")]
        assert client.post("/v1/messages", json=QUESTION, headers={"x-api-key": "no"}).status_code == 401


async def test_limits_are_told_in_both_manners_and_with_every_answer(api, client):
    api.scenario = script(
        Reply([text("hi")], headers=rate_limits(requests=50, input_tokens=30_000, remaining=7)),
        Reply(status=429, error_type="rate_limit_error", headers={"retry-after": "3"}),
        Reply(status=529, error_type="overloaded_error", headers={"retry-after-ms": "1500"}),
    )
    answer = await client.messages.with_raw_response.create(**QUESTION)
    assert answer.headers["anthropic-ratelimit-requests-limit"] == "50"
    assert answer.headers["anthropic-ratelimit-input-tokens-remaining"] == "7"
    with pytest.raises(anthropic.RateLimitError) as limited:
        await client.messages.create(**QUESTION)
    assert limited.value.response.headers["retry-after"] == "3"
    with pytest.raises(anthropic.InternalServerError) as overloaded:
        await client.messages.create(**QUESTION)
    assert (overloaded.value.status_code, overloaded.value.type) == (529, "overloaded_error")


async def test_a_thread_is_held_and_only_what_is_new_is_sent(api, client):
    api.scenario = script(*(Reply([block]) for block in ADDITIONS), Reply([text("five")]))
    assert await sum_of(client) == "five"
    assert [len(request.body["messages"]) for request in api.requests] == [1, 3, 5]
    assert [request.body["thread"]["type"] for request in api.requests] == ["create", "continue", "continue"]
    assert [result["content"] for result in api.requests[2].results] == ["5"]
    assert api.problems == []


async def test_a_thread_that_is_lost_is_begun_again_from_the_whole(api, client):
    api.scenario = script(*(Reply([block]) for block in ADDITIONS), Reply([text("five")]))

    @beta_async_tool(name="add")
    async def add_and_lose(a: int, b: int) -> str:
        """Add two numbers, while the service loses what it holds, once."""
        if len(api.requests) == 1:
            api.threads.forget()
        return str(a + b)

    assert await sum_of(client, add_and_lose) == "five"
    assert [request.body["thread"]["type"] for request in api.requests] == ["create", "create", "continue"]
    assert [len(request.body["messages"]) for request in api.requests] == [1, 3, 5]
    assert api.problems == []


@pytest.mark.parametrize(
    ("thread", "more", "status", "code"),
    [
        ({"type": "continue", "previous_message_id": "msg_never"}, {}, 404, "thread_not_found"),
        ({"type": "create"}, {"cache_control": {"type": "ephemeral"}}, 400, "thread_unsupported_request"),
        ({"type": "continue"}, {"model": "another"}, 400, "thread_fingerprint_mismatch"),
        ({"type": "continue"}, {}, 400, "thread_already_continued"),
    ],
)
async def test_threads_are_refused_with_a_code(client, thread, more, status, code):
    betas = ["message-threads-2026-08-12"]
    begun = await client.beta.messages.create(thread={"type": "create"}, betas=betas, **QUESTION)
    if code == "thread_already_continued":
        again = {"type": "continue", "previous_message_id": begun.id}
        await client.beta.messages.create(thread=again, betas=betas, **QUESTION)
    given = thread if thread["type"] == "create" else {"previous_message_id": begun.id, **thread}
    with pytest.raises(anthropic.APIStatusError) as refused:
        await client.beta.messages.create(thread=given, betas=betas, **{**QUESTION, **more})
    assert (refused.value.status_code, refused.value.error_code) == (status, code)


async def test_old_tool_results_are_cleared_when_asked_and_where_it_pays(api, client):
    turns = [{"role": "user", "content": "x"}]
    for number in range(5):
        called = {"type": "tool_use", "id": f"t{number}", "name": "add", "input": {}}
        found = {"type": "tool_result", "tool_use_id": f"t{number}", "content": "y" * 4_000}
        turns += [{"role": "assistant", "content": [called]}, {"role": "user", "content": [found]}]
    tools = [{"name": "add", "input_schema": {"type": "object"}}]

    async def ask(trigger: int, at_least: int) -> Any:
        edit = {
            "type": "clear_tool_uses_20250919",
            "trigger": {"type": "input_tokens", "value": trigger},
            "keep": {"type": "tool_uses", "value": 2},
            "clear_at_least": {"type": "input_tokens", "value": at_least},
        }
        return await client.beta.messages.create(
            betas=["context-management-2025-06-27"],
            context_management={"edits": [edit]},
            **{**QUESTION, "messages": turns, "tools": tools},
        )

    cleared = await ask(4_000, 1_000)
    [edit] = cleared.context_management.applied_edits
    assert (edit.type, edit.cleared_tool_uses) == ("clear_tool_uses_20250919", 3)
    whole = await ask(9_000, 1_000)
    assert whole.context_management.applied_edits == []
    assert whole.usage.input_tokens - cleared.usage.input_tokens == pytest.approx(
        edit.cleared_input_tokens, abs=1
    )
    assert (await ask(4_000, 4_000)).context_management.applied_edits == []


def test_the_server_runs_by_itself():
    argv = [sys.executable, "-m", "tests.support.messages_api", "--port", "0"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(argv, cwd=root, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address)
        curl = ["curl", "-s", "-d", json.dumps({"model": "m"}), f"{address}/v1/messages"]
        answer = subprocess.run(
            [*curl, "-H", f"x-api-key: {API_KEY}"], capture_output=True, text=True, check=True
        )
        assert "anthropic-version" in answer.stdout
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
