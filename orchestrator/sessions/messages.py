"""Asking the Messages API: one client for all sessions of a process, each answer streamed, and asked again
where that can help.

Every request streams, so that silence is noticed and usage is known even of an answer that breaks off.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from anthropic import APIStatusError, AsyncAnthropic, AsyncStream, DefaultAsyncHttpxClient

from orchestrator.core.words import FailureClass
from orchestrator.grant_ports import GovernedRequest, Grants
from orchestrator.ports import Transcript
from orchestrator.sessions.answer import Answer, Block
from orchestrator.sessions.api_errors import API_ERRORS, judgement_of
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.grants import OVERLOADED, Unasked
from orchestrator.sessions.meter import Meter
from orchestrator.sessions.watch import Clocks

_BACK_OFF_S = 0.5

#: An answer that has come whole is read without a wait: after so many events others get their turn.
_EVENTS_IN_A_ROW = 16

#: A longer wait is the scheduler's: it frees the slot meanwhile.
_WAIT_S_MAX = 60.0


def make_client(config: SessionConfig, ssl_context: ssl.SSLContext, *, retries_max: int) -> AsyncAnthropic:
    """Return a client of the Messages API; close it."""
    return AsyncAnthropic(
        api_key=config.api_key,
        base_url=config.base_url or None,
        max_retries=retries_max,
        http_client=DefaultAsyncHttpxClient(verify=ssl_context),
    )


class SharedClient:
    """One client, with its connections, for all sessions that run at the same time.

    Attributes:
        turn: to be taken before a request is made, so that a turn of the loop makes one and no more.
    """

    def __init__(self, config: SessionConfig) -> None:
        self._config = config
        self._ssl_context = httpx2.create_ssl_context()  # read once: it costs more than all else of a client
        self._client: AsyncAnthropic | None = None
        self._users = 0
        self.turn = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[AsyncAnthropic]:
        """Give the client; the last one to leave closes its connections."""
        if self._client is None:
            # Asking again is ours (`Asker`), so that the transcript tells of it.
            self._client = make_client(self._config, self._ssl_context, retries_max=0)
        self._users += 1
        client = self._client
        try:
            yield client
        finally:
            self._users -= 1
            if self._users == 0:
                self._client = None
                await asyncio.shield(client.close())


class Asker:
    """Asks for one session.

    Args:
        client: shared with other sessions; `turn` is its own.
        meter: counts every answer, also one that breaks off.
        transcript: gets what the model says, and why something is asked again.
        clocks: of the session; they stand still while it waits for leave.
        retries_max: how often one question is asked again.
        grants: gives leave for each request; without it every request is sent at once.
    """

    def __init__(
        self,
        client: AsyncAnthropic,
        *,
        turn: asyncio.Lock,
        meter: Meter,
        transcript: Transcript,
        clocks: Clocks,
        retries_max: int,
        grants: Grants | None = None,
    ) -> None:
        self._client = client
        self._turn = turn
        self._meter = meter
        self._transcript = transcript
        self._clocks = clocks
        self._retries_max = retries_max
        self._grants = grants

    async def ask(self, request: Mapping[str, Any]) -> Answer:
        """Get a whole answer.

        Raises:
            API_ERRORS: asking again did not help, or could not.
            Overloaded: the provider wants a longer wait than a session is kept for.
        """
        retry = 0
        while True:
            try:
                with await self._leave(request) as leave:
                    return await self._stream(request, leave)
            except API_ERRORS as error:
                judgement = judgement_of(error)
                is_refused = judgement.failure_class is FailureClass.RATE_LIMITED
                if is_refused and self._grants is not None:  # nobody's fault, and the wait for leave is long
                    self._transcript.write("note", f"{judgement.reason}; asking again with leave.\n")
                    continue
                wait_s = judgement.retry_after_s or _BACK_OFF_S * 2**retry
                if not judgement.may_pass or retry == self._retries_max or wait_s > _WAIT_S_MAX:
                    raise
                self._transcript.write("note", f"{judgement.reason}; asking again in {wait_s:g} s.\n")
            retry += 1
            await asyncio.sleep(wait_s)

    async def _leave(self, request: Mapping[str, Any]) -> GovernedRequest:
        if self._grants is None:
            return Unasked()
        return await self._clocks.stand_still(self._grants.ask(request["model"]))

    async def _stream(self, request: Mapping[str, Any], leave: GovernedRequest) -> Answer:
        answer = Answer()
        async with self._turn:
            await asyncio.sleep(0)
        try:
            asked = self._client.messages.with_streaming_response.create(stream=True, **request)
            async with asked as response:
                leave.heard(response.status_code, response.headers)
                async for event in _events(response.http_response):
                    self._clocks()
                    block = answer.add(event)
                    if block:
                        self._show(block)
        except APIStatusError as error:
            is_refused = judgement_of(error).failure_class is FailureClass.RATE_LIMITED
            status = OVERLOADED if is_refused else error.status_code  # in mid-stream the status was another
            leave.heard(status, error.response.headers)
            raise
        finally:
            if answer.has_begun:
                self._meter.add(answer.tokens)
                tokens = answer.tokens
                leave.used(
                    input_tokens=tokens.input_tokens + tokens.cache_write_tokens,
                    output_tokens=tokens.output_tokens,
                )
        if not answer.stop_reason:
            raise httpx2.RemoteProtocolError("the stream ended before the answer did")
        return answer

    def _show(self, block: Block) -> None:
        if said := block.get(block["type"]):  # a text or a thought
            self._transcript.write("model", f"{said}\n")


async def _events(response: httpx2.Response) -> AsyncIterator[Mapping[str, Any]]:
    """Yield the events of a stream. Raises APIStatusError: one of them is an error."""
    count = 0
    async for event in AsyncStream.raw_events(response):
        count += 1
        if count % _EVENTS_IN_A_ROW == 0:
            await asyncio.sleep(0)
        if event.event == "error":
            raise APIStatusError(event.data, response=response, body=_json_of(event.data))
        if event.data:
            yield event.json()


def _json_of(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
