"""The proxy between a child and the Messages API: real sockets, with a client in place of the child."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx2
import pytest

from orchestrator.sessions.api_access import Access
from orchestrator.sessions.api_proxy import ApiProxy
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.loopback_http import Exchange, LoopbackServer
from orchestrator.sessions.meter import Meter
from tests.support.messages_api import API_KEY, MessagesApi, Reply, script, text
from tests.support.sessions import MODEL, PRICES

BODY = {"model": MODEL, "max_tokens": 10, "messages": [{"role": "user", "content": "Hello."}]}
STREAMED = {**BODY, "stream": True}
DEADLINE_S = 20


def proxy_to(base_url: str) -> ApiProxy:
    config = SessionConfig(api_key=API_KEY, base_url=base_url, model=MODEL, prices=PRICES)
    return ApiProxy(config, httpx2.create_ssl_context())


def access(*, cost_micros_max: int = 1_000_000, touch: Callable[[], None] = lambda: None) -> Access:
    meter = Meter(MODEL, SessionConfig(prices=PRICES))
    return Access(meter, cost_micros_max=cost_micros_max, touch=touch)


@asynccontextmanager
async def child(proxy: ApiProxy, given: Access) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with what a child is given."""
    async with (
        proxy.admit(given) as base_url,
        httpx2.AsyncClient(base_url=base_url, timeout=DEADLINE_S) as client,
    ):
        client.headers.update({"x-api-key": given.key, "anthropic-version": "2023-06-01"})
        yield client


async def ask(client: httpx2.AsyncClient, body: dict[str, Any] = STREAMED) -> httpx2.Response:
    return await client.post("/v1/messages?beta=true", json=body)


async def test_the_real_key_is_added_and_the_rest_is_passed_on() -> None:
    with MessagesApi(script(Reply([text("Good day.")]))) as api:
        given = access()
        async with child(proxy_to(api.base_url), given) as client:
            answer = await client.post("/v1/messages", json=STREAMED, headers={"x-of-the-child": "kept"})
            assert "Good " in answer.text
            assert "message_stop" in answer.text
            bearer = {"x-api-key": "", "authorization": f"Bearer {given.key}"}
            assert (await client.post("/v1/messages", json=BODY, headers=bearer)).json()["type"] == "message"
    for request in api.requests:
        assert request.headers["x-api-key"] == API_KEY
        assert given.key not in str(request.headers)
    assert api.requests[0].headers["x-of-the-child"] == "kept"
    assert api.requests[0].body == STREAMED
    assert given.failure is None


async def test_a_key_is_good_for_its_attempt_alone() -> None:
    with MessagesApi() as api:
        proxy, first, second = proxy_to(api.base_url), access(), access()
        async with child(proxy, first) as client:
            async with child(proxy, second) as other:
                assert other.base_url == client.base_url  # one proxy for all attempts of an executor
            for key in ("", "sk-attempt-guessed", second.key, API_KEY):
                refused = await client.post("/v1/messages", json=BODY, headers={"x-api-key": key})
                assert (refused.status_code, refused.json()["error"]["type"]) == (
                    401, "authentication_error",
                )  # fmt: skip
        with pytest.raises(httpx2.ConnectError):
            await httpx2.AsyncClient().post(f"{client.base_url}/v1/messages", json=BODY)
    assert api.requests == []


async def test_only_messages_can_be_asked() -> None:
    with MessagesApi() as api:
        async with child(proxy_to(api.base_url), access()) as client:
            assert (await client.post("/v1/files", json={})).status_code == 404
            assert (await client.get("/v1/messages")).status_code == 404
    assert api.requests == []


async def test_what_an_answer_used_is_counted_streamed_or_whole() -> None:
    with MessagesApi(script(Reply([text("x" * 400)]))) as api:
        given = access()
        async with child(proxy_to(api.base_url), given) as client:
            await ask(client)
            streamed = given.meter.usage
            whole = (await ask(client, BODY)).json()["usage"]
    assert streamed.requests == 1
    assert min(streamed.input_tokens, streamed.output_tokens, streamed.cache_write_tokens) > 0
    assert given.meter.usage.requests == 2
    assert given.meter.usage.output_tokens - streamed.output_tokens == whole["output_tokens"]
    assert given.meter.usage.cache_read_tokens == whole["cache_read_input_tokens"]
    assert given.meter.usage.cost_micros > streamed.cost_micros > 0


async def test_an_answer_that_breaks_off_is_counted_and_breaks_off_for_the_child() -> None:
    with MessagesApi(script(Reply([text("x" * 4_000)], events_max=400))) as api:
        given = access()
        async with child(proxy_to(api.base_url), given) as client:
            with pytest.raises(httpx2.RemoteProtocolError):
                await ask(client)
    assert isinstance(given.failure, httpx2.RemoteProtocolError)
    assert given.meter.usage.requests == 1
    assert given.meter.usage.output_tokens > 600  # 397 pieces of 7 characters, 4 to a token


async def test_an_error_is_passed_on_and_remembered_until_an_answer_comes() -> None:
    refusal = Reply(status=429, error_type="rate_limit_error", headers={"retry-after": "7"})
    with MessagesApi(script(refusal, Reply([text("Now.")]))) as api:
        given = access()
        async with child(proxy_to(api.base_url), given) as client:
            answer = await ask(client)
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
            assert isinstance(given.failure, anthropic.APIStatusError)
            assert (given.failure.status_code, given.failure.type) == (429, "rate_limit_error")
            await ask(client)
    assert given.failure is None
    assert given.meter.usage.requests == 1  # an error costs nothing


async def test_an_error_in_mid_stream_is_remembered() -> None:
    with MessagesApi(script(Reply([text("So far.")], stream_error="overloaded_error"))) as api:
        given = access()
        async with child(proxy_to(api.base_url), given) as client:
            assert "overloaded_error" in (await ask(client)).text
    assert isinstance(given.failure, anthropic.APIStatusError)
    assert given.failure.type == "overloaded_error"
    assert given.meter.usage.requests == 1


async def test_nobody_answers() -> None:
    given = access()
    with MessagesApi() as gone:
        pass
    async with child(proxy_to(gone.base_url), given) as client:
        answer = await ask(client)
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "api_error")
    assert isinstance(given.failure, httpx2.ConnectError)


async def test_nothing_is_asked_once_the_cap_is_reached() -> None:
    with MessagesApi(script(Reply([text("x" * 4_000)]))) as api:
        given = access(cost_micros_max=5_000)
        async with child(proxy_to(api.base_url), given) as client:
            answers = await asyncio.gather(*(ask(client) for _ in range(5)))
            assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400, 400]
    assert given.was_refused
    assert len(api.requests) == given.meter.usage.requests == 1  # one answer in flight at most went over it


class SlowUpstream:
    """Sends the beginning of an answer, and the rest when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.ended = asyncio.Event()
        self.server = LoopbackServer(self._answer)

    async def _answer(self, exchange: Exchange) -> None:
        try:
            await exchange.begin(200, [("content-type", "text/event-stream")])
            await exchange.send(event("message_start", message={"usage": {"input_tokens": 10}}))
            await self.go_on.wait()
            await exchange.send(event("message_delta", delta={"stop_reason": "end_turn"}, usage={}))
            await exchange.end()
        finally:
            self.ended.set()


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


@pytest.fixture
async def upstream() -> AsyncIterator[SlowUpstream]:
    found = SlowUpstream()
    await found.server.start()
    yield found
    await found.server.close()


async def test_a_stream_is_passed_on_as_it_comes(upstream: SlowUpstream) -> None:
    touched: list[None] = []
    given = access(touch=lambda: touched.append(None))
    async with (
        child(proxy_to(upstream.server.url), given) as client,
        asyncio.timeout(DEADLINE_S),
        client.stream("POST", "/v1/messages", json=STREAMED) as answer,
    ):
        chunks = answer.aiter_bytes()
        assert b"message_start" in await anext(chunks)  # the rest is not even written yet
        seen = len(touched)
        upstream.go_on.set()
        assert b"message_delta" in await anext(chunks)
    assert len(touched) > seen > 0


async def test_when_the_child_hangs_up_the_question_is_dropped_and_counted(upstream: SlowUpstream) -> None:
    given = access()
    async with child(proxy_to(upstream.server.url), given) as client, asyncio.timeout(DEADLINE_S):
        async with client.stream("POST", "/v1/messages", json=STREAMED) as answer:
            await anext(answer.aiter_bytes())
        await upstream.ended.wait()
    assert not upstream.go_on.is_set()
    assert (given.meter.usage.requests, given.meter.usage.input_tokens) == (1, 10)


async def test_an_attempt_that_leaves_waits_until_its_last_answer_is_counted(upstream: SlowUpstream) -> None:
    given = access()
    async with asyncio.timeout(DEADLINE_S):
        async with proxy_to(upstream.server.url).admit(given) as base_url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
            body = json.dumps(STREAMED).encode()
            head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {given.key}\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            while b"message_start" not in await reader.readline():
                pass
            writer.close()
        assert given.meter.usage.requests == 1


async def test_what_is_no_http_is_hung_up_on() -> None:
    with MessagesApi() as api:
        given = access()
        async with proxy_to(api.base_url).admit(given) as base_url, asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
            writer.write(b"\x16\x03\x01 hello\r\n\r\n")
            assert await reader.read() == b""
            writer.close()
