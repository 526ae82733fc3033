"""The proxy between the children of an executor and the Messages API.

A child knows an address on 127.0.0.1 and a key that is good for its attempt alone; the real key is added here
and is seen by no child. Rule: whatever streams is passed on as it comes, and what an answer used is counted
also when it breaks off.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import anthropic
import httpx2

from orchestrator.core.words import FailureClass
from orchestrator.errors import Overloaded
from orchestrator.grant_ports import GovernedRequest, Grants
from orchestrator.sessions.claude_code.access import Access
from orchestrator.sessions.claude_code.loopback_http import CutOff, Exchange, LoopbackServer
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.grants import OVERLOADED, REFUSED, UNGOVERNED
from orchestrator.sessions.models.messages_errors import judgement_of

_API = "https://api.anthropic.com"
_PATHS = ("/v1/messages", "/v1/messages/count_tokens")
_CONNECT_S = 10.0
_JSON = ("content-type", "application/json")

#: Headers that speak of one connection, of the key or of an encoding; they are not passed on.
_OWN_HEADERS = frozenset({
    "accept-encoding", "authorization", "connection", "content-encoding", "content-length", "host",
    "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "x-api-key",
})  # fmt: skip


class ApiProxy:
    """Lets attempts ask the Messages API without its key. It listens while one of them is admitted.

    Args:
        config: key and address of the API.
        ssl_context: for the way there.
        grants: give leave for each request.
    """

    def __init__(
        self, config: SessionConfig, ssl_context: ssl.SSLContext, *, grants: Grants = UNGOVERNED
    ) -> None:
        self._api_key = config.api_key
        self._grants = grants
        self._base_url = (config.base_url or _API).rstrip("/")
        self._ssl_context = ssl_context
        self._changing = asyncio.Lock()
        self._admitted: dict[str, Access] = {}
        self._server = LoopbackServer(self._answer)
        self._client: httpx2.AsyncClient | None = None

    @asynccontextmanager
    async def admit(self, access: Access) -> AsyncIterator[str]:
        """Let one attempt in; gives the base URL for its process."""
        async with self._changing:
            if self._client is None:
                await self._server.start()
                self._client = httpx2.AsyncClient(
                    verify=self._ssl_context,
                    timeout=httpx2.Timeout(None, connect=_CONNECT_S),  # silence is watched by the session
                    headers={"accept-encoding": "identity"},  # a compressed stream comes in lumps
                )
            self._admitted[access.key] = access
        try:
            yield self._server.url
        finally:
            del self._admitted[access.key]
            await asyncio.shield(self._dismiss(access))

    async def _dismiss(self, access: Access) -> None:
        """Wait until what its process had asked is counted; that has been ended when its process was."""
        async with access.turn, self._changing:
            if self._client is not None and not self._admitted:
                await self._server.close()
                client, self._client = self._client, None
                await client.aclose()

    async def _answer(self, exchange: Exchange) -> None:
        access = self._admitted.get(_key_of(exchange.headers))
        if access is None:
            await _refuse(exchange, 401, "authentication_error", "This key is not admitted here.")
        elif exchange.method != "POST" or exchange.target.partition("?")[0] not in _PATHS:
            await _refuse(exchange, 404, "not_found_error", f"There is no {exchange.target} here.")
        else:
            async with access.turn:
                await self._ask(exchange, access)

    async def _ask(self, exchange: Exchange, access: Access) -> None:
        if access.is_spent:
            access.was_refused = True
            await _refuse(exchange, 400, "invalid_request_error", "The attempt has spent its budget.")
            return
        try:
            is_answered = False
            while not is_answered:
                with await self._leave(exchange, access) as leave:
                    is_answered = await self._send(exchange, access, leave)
        except Overloaded as late:
            access.failure = late
            await _refuse(exchange, 429, "rate_limit_error", str(late))

    async def _leave(self, exchange: Exchange, access: Access) -> GovernedRequest:
        return await access.clocks.stand_still(self._grants.ask(_model_of(exchange.body)))

    async def _send(self, exchange: Exchange, access: Access, leave: GovernedRequest) -> bool:
        """Ask once and pass on what comes.

        Returns:
            False if nothing was passed on: the provider refuses, and the governor says when to ask again.
        """
        assert self._client is not None
        access.begin()
        request = self._client.build_request(
            "POST",
            self._base_url + exchange.target,
            headers=[*_passed_on(exchange.headers), ("x-api-key", self._api_key)],
            content=exchange.body,
        )
        try:
            response = await self._client.send(request, stream=True)
            try:
                leave.heard(response.status_code, response.headers)
                if self._grants.outlasts_refusals and response.status_code in REFUSED:
                    return False
                await _pass_on(response, exchange, access)
                if response.is_success and _is_refusal(access.failure):  # in mid-stream
                    leave.heard(OVERLOADED, response.headers)
            finally:
                await response.aclose()
        except httpx2.TransportError as error:
            access.failure = error
            if exchange.has_begun:
                raise CutOff from error
            await _refuse(exchange, 502, "api_error", f"The API cannot be reached: {error!r}.", may_pass=True)
        finally:
            access.end(leave)
        return True


async def _pass_on(response: httpx2.Response, exchange: Exchange, access: Access) -> None:
    """Send an answer on while it comes, reading along."""
    access.clocks()
    headers = list(_passed_on(response.headers))
    if "text/event-stream" not in response.headers.get("content-type", ""):
        body = await response.aread()
        if response.is_success:
            access.answer.read_whole(body)
        else:
            access.failure = _failure(response, body)
            headers.append(_retry_header(judgement_of(access.failure).may_pass))
        await exchange.answer(response.status_code, headers, body)
        return
    await exchange.begin(response.status_code, headers)
    async for chunk in response.aiter_bytes():
        access.clocks()
        access.answer.read_stream(chunk)
        await exchange.send(chunk)
    if access.answer.error is not None:
        access.failure = _failure(response, json.dumps(access.answer.error).encode())
    await exchange.end()


def _failure(response: httpx2.Response, body: bytes) -> anthropic.APIStatusError:
    """Return an answer that failed as the SDK would raise it."""
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    return anthropic.APIStatusError(body.decode(errors="replace")[:1_000], response=response, body=told)


def _is_refusal(failure: Exception | None) -> bool:
    """Whether the provider takes no more for now."""
    if not isinstance(failure, anthropic.APIStatusError):
        return False
    return judgement_of(failure).failure_class is FailureClass.RATE_LIMITED


def _model_of(body: bytes) -> str:
    try:
        return str(json.loads(body)["model"])
    except (ValueError, LookupError, TypeError):
        return ""  # the API says what is wrong with it


def _key_of(headers: Mapping[str, str]) -> str:
    return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")


def _passed_on(headers: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((name, value) for name, value in headers.items() if name.lower() not in _OWN_HEADERS)


async def _refuse(
    exchange: Exchange, status: int, error_type: str, message: str, *, may_pass: bool = False
) -> None:
    body = {"type": "error", "error": {"type": error_type, "message": message}}
    await exchange.answer(status, [_JSON, _retry_header(may_pass)], json.dumps(body).encode())


def _retry_header(may_pass: bool) -> tuple[str, str]:
    """Say whether asking again can help; clients of the API heed it."""
    return "x-should-retry", str(may_pass).lower()
