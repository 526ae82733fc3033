"""Asking a model for one session: each answer streamed, and asked again where that can help.

Every request streams, so that silence is noticed and usage is known even of an answer that breaks off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx2

from orchestrator.core.words import FailureClass
from orchestrator.grant_ports import GovernedRequest, Grants
from orchestrator.ports import Transcript
from orchestrator.sessions.grants import OVERLOADED, UNGOVERNED
from orchestrator.sessions.meter import Meter
from orchestrator.sessions.models.answer import Answer, Block
from orchestrator.sessions.models.api import Frame, Message, ModelApi, Request
from orchestrator.sessions.watch import Clocks

_BACK_OFF_S = 0.5

#: An answer that has come whole is read without a wait: after so many events others get their turn.
_EVENTS_IN_A_ROW = 16

#: A longer wait is the scheduler's: it frees the slot meanwhile.
_WAIT_S_MAX = 60.0

#: Told to the governor of a request that failed and does not mean that others are to wait.
_FAILED = 400


class Asker:
    """Asks for one session.

    Args:
        api: shared with other sessions; held with `use` meanwhile.
        frame: what stays the same in all requests.
        meter: counts every answer, also one that breaks off.
        transcript: gets what the model says, and why something is asked again.
        clocks: of the session; they stand still while it waits for leave.
        grants: give leave for each request.
    """

    def __init__(
        self,
        api: ModelApi,
        *,
        frame: Frame,
        meter: Meter,
        transcript: Transcript,
        clocks: Clocks,
        grants: Grants = UNGOVERNED,
    ) -> None:
        self._api = api
        self._frame = frame
        self._meter = meter
        self._transcript = transcript
        self._clocks = clocks
        self._grants = grants

    async def ask(
        self, messages: Sequence[Message], *, may_call: bool = True, is_long: bool = False
    ) -> Answer:
        """Get a whole answer to a conversation; see `ModelApi.request`.

        Raises:
            ModelApi.errors: asking again did not help, or could not.
            Overloaded: the provider wants a longer wait than a session is kept for.
        """
        retry = 0
        while True:
            request = self._api.request(self._frame, messages, may_call=may_call, is_long=is_long)
            try:
                with await self._leave() as leave:
                    return await self._stream(request, leave)
            except self._api.errors as error:
                judgement = self._api.judgement_of(error, has_begun=True)
                is_refused = judgement.failure_class is FailureClass.RATE_LIMITED
                if is_refused and self._grants.outlasts_refusals:  # nobody's fault; leave comes late
                    self._transcript.write("note", f"{judgement.reason}; asking again with leave.\n")
                    continue
                if forgone := self._api.forgo(request, error):
                    self._transcript.write("note", f"{forgone}: {judgement.reason}.\n")
                    continue
                wait_s = judgement.retry_after_s or _BACK_OFF_S * 2**retry
                if not judgement.may_pass or retry == self._api.config.retries_max or wait_s > _WAIT_S_MAX:
                    raise
                self._transcript.write("note", f"{judgement.reason}; asking again in {wait_s:g} s.\n")
            retry += 1
            await asyncio.sleep(wait_s)

    async def _leave(self) -> GovernedRequest:
        return await self._clocks.stand_still(self._grants.ask(self._frame.model))

    async def _stream(self, request: Request, leave: GovernedRequest) -> Answer:
        answer = self._api.new_answer(request)
        async with self._api.turn:
            await asyncio.sleep(0)
        try:
            async with self._api.send(request) as responding:
                response = responding.http_response
                leave.heard(response.status_code, response.headers)
                await self._read(response, answer)
        except self._api.errors as error:
            self._tell(error, leave)
            raise
        finally:
            if answer.has_begun:
                self._count(answer, leave)
        if not answer.stop_reason:
            raise httpx2.RemoteProtocolError("the stream ended before the answer did")
        return answer

    async def _read(self, response: httpx2.Response, answer: Answer) -> None:
        count = 0
        async for event in self._api.events(response):
            self._clocks()
            for block in answer.add(event):
                self._show(block)
            count += 1
            if count % _EVENTS_IN_A_ROW == 0:
                await asyncio.sleep(0)

    def _tell(self, error: Exception, leave: GovernedRequest) -> None:
        """Have the governor know what the provider said; in mid-stream the status was another."""
        response = getattr(error, "response", None)
        if response is not None:
            is_refused = (
                self._api.judgement_of(error, has_begun=True).failure_class is FailureClass.RATE_LIMITED
            )
            leave.heard(OVERLOADED if is_refused else _FAILED, response.headers)

    def _count(self, answer: Answer, leave: GovernedRequest) -> None:
        tokens = answer.tokens
        self._meter.add(tokens)
        leave.used(
            input_tokens=tokens.input_tokens + tokens.cache_write_tokens, output_tokens=tokens.output_tokens
        )

    def _show(self, block: Block) -> None:
        if said := block.get(block["type"]):  # a text or a thought
            self._transcript.write("model", f"{said}\n")
