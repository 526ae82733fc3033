"""The proxy between a child and the Messages API: real sockets, with a client in place of the child."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx2
import pytest

from orchestrator.errors import Overloaded
from orchestrator.grant_ports import Grant, GrantDemand
from orchestrator.ports import SessionLimits
from orchestrator.sessions.claude_code.access import Access
from orchestrator.sessions.claude_code.loopback_http import Exchange, LoopbackServer
from orchestrator.sessions.claude_code.proxy import ApiProxy
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.grants import ExecutorGrants, GrantSettings
from orchestrator.sessions.meter import Meter
from orchestrator.sessions.watch import Clocks, watched
from tests.support.messages_api import API_KEY, MessagesApi, Reply, script, text
from tests.support.sessions import MODEL, PRICES

BODY = {"model": MODEL, "max_tokens": 10, "messages": [{"role": "user", "content": "Hello."}]}
STREAMED = {**BODY, "stream": True}
LIMITS = SessionLimits()
DEADLINE_S = 60


class Governor:
    """The far end of an executor's grants: pauses once, then lets everybody send; hears of refusals."""

    def __init__(self, *, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self.demands: list[GrantDemand] = []

    async def grant(self, demand: GrantDemand) -> Grant:
        self.demands.append(demand)
        pause_s, self.pause_s = self.pause_s, 0.0
        return Grant(requests=0 if pause_s else 9, good_s=5.0, again_s=pause_s or 0.1, pause_s=pause_s)


def proxy_to(base_url: str, governor: Governor | None = None) -> ApiProxy:
    config = SessionConfig(api_key=API_KEY, base_url=base_url, model=MODEL, prices=PRICES)
    settings = GrantSettings(wait_max_s=30)
    if governor is None:
        return ApiProxy(config, httpx2.create_ssl_context())
    grants = ExecutorGrants(executor="e1", governor=governor, settings=settings)
    return ApiProxy(config, httpx2.create_ssl_context(), grants=grants)


def access(*, cost_micros_max: int = 1_000_000) -> Access:
    meter = Meter(MODEL, SessionConfig(prices=PRICES))
    return Access(meter, cost_micros_max=cost_micros_max, clocks=Clocks(SessionLimits()))


@asynccontextmanager
async def child(
    proxy: ApiProxy, given: Access, limits: SessionLimits = LIMITS
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with what a child is given; the clocks of its session run."""
    async with (
        watched(limits) as given.clocks,
        proxy.admit(given) as base_url,
        httpx2.AsyncClient(base_url=base_url, timeout=DEADLINE_S, verify=False) as client,  # no TLS here
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


async def test_what_is_no_answer_of_the_api_is_a_fault_of_the_way_there() -> None:
    async def tell(exchange: Exchange) -> None:
        if json.loads(exchange.body).get("stream"):
            await exchange.begin(200, [("content-type", "text/event-stream")])
            await exchange.send(event("message_start", message={"usage": {"input_tokens": 10}}))
            await exchange.send(b"data: Busy.\n\n")
            await exchange.end()
        else:
            await exchange.answer(200, [("content-type", "text/html")], b"<p>Busy.</p>")

    gateway, given = LoopbackServer(tell), access()
    await gateway.start()
    async with child(proxy_to(gateway.url), given) as client, asyncio.timeout(DEADLINE_S):
        answer = await ask(client, BODY)
        assert (answer.status_code, answer.headers["x-should-retry"]) == (502, "true")
        assert isinstance(given.failure, httpx2.RemoteProtocolError)
        with pytest.raises(httpx2.RemoteProtocolError):
            await ask(client)
        assert isinstance(given.failure, httpx2.RemoteProtocolError)
    await gateway.close()
    assert given.meter.usage.requests == 1


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
    given = access()
    async with child(proxy_to(upstream.server.url), given) as client, asyncio.timeout(DEADLINE_S):
        silent_until_s = given.clocks.silence.when() or 0.0
        async with client.stream("POST", "/v1/messages", json=STREAMED) as answer:
            chunks = answer.aiter_bytes()
            assert b"message_start" in await anext(chunks)  # the rest is not even written yet
            assert (given.clocks.silence.when() or 0.0) > silent_until_s  # a sign of life
            upstream.go_on.set()
            assert b"message_delta" in await anext(chunks)


async def test_when_the_child_hangs_up_the_question_is_dropped_and_counted(upstream: SlowUpstream) -> None:
    given = access()
    async with child(proxy_to(upstream.server.url), given) as client, asyncio.timeout(DEADLINE_S):
        async with client.stream("POST", "/v1/messages", json=STREAMED) as answer:
            await anext(answer.aiter_bytes())
        await upstream.ended.wait()
    assert not upstream.go_on.is_set()
    assert (given.meter.usage.requests, given.meter.usage.input_tokens) == (1, 10)


async def test_an_attempt_that_leaves_waits_until_its_last_answer_is_counted(upstream: SlowUpstream) -> None:
    given, proxy = access(), proxy_to(upstream.server.url)
    others = proxy.admit(access())  # so that the proxy goes on
    async with asyncio.timeout(DEADLINE_S), watched(LIMITS) as given.clocks, others:
        async with proxy.admit(given) as base_url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
            body = json.dumps(STREAMED).encode()
            head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: {given.key}\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            await reader.readuntil(b"message_start")
            writer.close()
        assert given.meter.usage.requests == 1


async def test_a_hundred_attempts_ask_side_by_side_and_each_is_counted_for_itself() -> None:
    with MessagesApi(lambda request: Reply([text("x" * int(request.task))])) as api:
        proxy = proxy_to(api.base_url)
        given = [access() for _ in range(100)]

        async def attempt(number: int) -> None:
            async with child(proxy, given[number]) as client:
                words = {"messages": [{"role": "user", "content": str(100 * number)}]}
                assert "message_stop" in (await ask(client, STREAMED | words)).text

        await asyncio.gather(*(attempt(number) for number in range(100)))
    assert len(api.requests) == 100
    assert {one.meter.usage.requests for one in given} == {1}
    spent = [one.meter.usage.output_tokens for one in given]
    assert spent == sorted(spent)
    assert spent[99] > spent[1] > 0


async def test_a_body_of_twenty_megabytes_is_passed_on_whole() -> None:
    long = "word " * 4_000_000
    with MessagesApi(script(Reply([text("Read.")]))) as api:
        async with child(proxy_to(api.base_url), access()) as client:
            answer = await ask(client, {**BODY, "messages": [{"role": "user", "content": long}]})
            assert answer.status_code == 200
    [request] = api.requests
    assert request.body["messages"][0]["content"] == long


async def test_what_is_no_http_is_hung_up_on() -> None:
    with MessagesApi() as api:
        async with proxy_to(api.base_url).admit(access()) as base_url, asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(base_url.rpartition(":")[2]))
            writer.write(b"\x16\x03\x01 hello\r\n\r\n")
            assert await reader.read() == b""
            writer.close()


async def test_a_refusal_waits_for_leave_and_the_child_does_not_see_it() -> None:
    refusals = [Reply(status=429, error_type="rate_limit_error", headers={"retry-after-ms": "100"})] * 2
    governor = Governor()
    with MessagesApi(script(*refusals, Reply([text("Now.")]))) as api:
        given = access()
        async with child(proxy_to(api.base_url, governor), given) as client:
            assert "message_stop" in (await ask(client)).text
    assert len(api.requests) == 3
    assert given.failure is None
    assert sum(demand.refused for demand in governor.demands) == 2
    assert {demand.model for demand in governor.demands} == {MODEL}


async def test_the_clocks_of_a_session_stand_still_while_it_waits_for_leave() -> None:
    with MessagesApi(script(Reply([text("Now.")]))) as api:
        given, limits = access(), SessionLimits(total_timeout_s=5.0, idle_timeout_s=5.0)
        async with child(proxy_to(api.base_url, Governor(pause_s=6.0)), given, limits) as client:
            assert (await ask(client)).status_code == 200
    assert given.clocks.waited_s > 5.0


async def test_too_long_a_wait_is_told_to_the_child_and_remembered() -> None:
    with MessagesApi() as api:
        given = access()
        async with child(proxy_to(api.base_url, Governor(pause_s=99.0)), given) as client:
            answer = await ask(client)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false")
    assert isinstance(given.failure, Overloaded)
    assert api.requests == []
