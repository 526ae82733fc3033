"""Asking the Messages API: one client for all sessions of a process, each answer streamed, and asked again
where that can help.

Every request streams, so that silence is noticed and usage is known even of an answer that breaks off.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

from orchestrator.ports import Transcript
from orchestrator.sessions.answer import Answer, Block
from orchestrator.sessions.api_errors import API_ERRORS, judgement_of
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.meter import Meter

_BACK_OFF_S = 0.5

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
    """One client, with its connections, for all sessions that run at the same time."""

    def __init__(self, config: SessionConfig) -> None:
        self._config = config
        self._ssl_context = httpx2.create_ssl_context()  # read once: it costs more than all else of a client
        self._client: AsyncAnthropic | None = None
        self._users = 0

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
        client: shared with other sessions.
        meter: counts every answer, also one that breaks off.
        transcript: gets what the model says, and why something is asked again.
        touch: called at every sign of life.
        retries_max: how often one question is asked again.
    """

    def __init__(
        self,
        client: AsyncAnthropic,
        *,
        meter: Meter,
        transcript: Transcript,
        touch: Callable[[], None],
        retries_max: int,
    ) -> None:
        self._client = client
        self._meter = meter
        self._transcript = transcript
        self._touch = touch
        self._retries_max = retries_max

    async def ask(self, request: Mapping[str, Any]) -> Answer:
        """Get a whole answer. Raises API_ERRORS: asking again did not help, or could not."""
        for retry in range(self._retries_max + 1):
            try:
                return await self._stream(request)
            except API_ERRORS as error:
                judgement = judgement_of(error)
                wait_s = judgement.retry_after_s or _BACK_OFF_S * 2**retry
                if not judgement.may_pass or retry == self._retries_max or wait_s > _WAIT_S_MAX:
                    raise
                self._transcript.write("note", f"{judgement.reason}; asking again in {wait_s:g} s.\n")
            await asyncio.sleep(wait_s)
        raise AssertionError("the last retry returns or raises")

    async def _stream(self, request: Mapping[str, Any]) -> Answer:
        answer = Answer()
        stream = await self._client.messages.create(stream=True, **request)
        try:
            async with stream:
                async for event in stream:
                    self._touch()
                    block = answer.add(event)
                    if block:
                        self._show(block)
        finally:
            if answer.has_begun:
                self._meter.add(answer.tokens)
        if not answer.stop_reason:
            raise httpx2.RemoteProtocolError("the stream ended before the answer did")
        return answer

    def _show(self, block: Block) -> None:
        if said := block.get(block["type"]):  # a text or a thought
            self._transcript.write("model", f"{said}\n")
