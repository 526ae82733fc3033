"""The server for the children of an executor, where its handler fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest
from structlog.testing import capture_logs

from orchestrator.sessions.claude_code.loopback_http import Exchange, LoopbackServer


async def answer(exchange: Exchange) -> None:
    """Fail before the answer, or in the middle of it, if the target says so."""
    if exchange.target == "/fails":
        raise ZeroDivisionError
    await exchange.begin(200, [("content-length", "9")])
    if exchange.target == "/breaks":
        raise ZeroDivisionError
    await exchange.send(b"all of it")
    await exchange.end()


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    server = LoopbackServer(answer)
    await server.start()
    async with asyncio.timeout(60), httpx2.AsyncClient(base_url=server.url, verify=False) as made:
        yield made
    await server.close()


async def test_a_request_that_we_fail_to_answer_is_logged_and_gets_a_500(client: httpx2.AsyncClient) -> None:
    with capture_logs() as logs:
        assert (await client.get("/fails")).status_code == 500
    assert [(entry["log_level"], entry["target"]) for entry in logs] == [("error", "/fails")]
    assert (await client.get("/works")).text == "all of it"  # on the same connection


async def test_an_answer_in_which_we_fail_is_logged_and_cut_off(client: httpx2.AsyncClient) -> None:
    with capture_logs() as logs, pytest.raises(httpx2.RemoteProtocolError):
        await client.get("/breaks")
    assert [(entry["log_level"], entry["target"]) for entry in logs] == [("error", "/breaks")]
