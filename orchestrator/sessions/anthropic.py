"""The backend `anthropic`: a conversation with Claude over the Messages API, with tools, to a report.

Every request streams, so that silence is noticed and usage is known even of an answer that breaks off. Rule:
only a valid report ends a session well; turns, spend and both clocks are bounded; usage is recorded whatever
happens. Sends neither sampling parameters nor a forced tool choice: current models refuse both.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import httpx2
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.ports import (
    MICROS,
    Assignment,
    Launcher,
    Outcome,
    SessionLimits,
    Transcript,
    Workspace,
)
from orchestrator.sessions.api_errors import API_ERRORS, failure_of
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.meter import Meter
from orchestrator.sessions.prompt import CONTINUE, REMINDER, role_prompt, task_prompt
from orchestrator.sessions.shell import Shell
from orchestrator.sessions.tools import Toolbox, tool_definitions, tools_for
from orchestrator.sessions.watch import TimedOut, effective_limits, watched

if TYPE_CHECKING:
    from anthropic.types import Message, MessageParam, ToolUseBlock

_CONTINUATIONS_MAX = 5
_REMINDERS_MAX = 1
_BACK_OFF_S = 0.5
_DETAIL_CHARS = 20_000
_CACHED = {"type": "ephemeral"}


def make_client(config: SessionConfig, ssl_context: ssl.SSLContext) -> AsyncAnthropic:
    """Return a client of the Messages API; close it."""
    return AsyncAnthropic(
        api_key=config.api_key,
        base_url=config.base_url or None,
        max_retries=config.retries_max,
        http_client=DefaultAsyncHttpxClient(verify=ssl_context),
    )


class AnthropicBackend:
    """Implements `ports.Backend` with the Messages API.

    Args:
        config: key, address, model and prices.
        launcher: for the `bash` tool. The key never reaches its children.
    """

    name = "anthropic"

    def __init__(self, config: SessionConfig, launcher: Launcher) -> None:
        self._config = config
        self._launcher = launcher
        self._ssl_context = httpx2.create_ssl_context()  # read once: it costs more than all else of a client

    async def run(self, assignment: Assignment, workspace: Workspace, transcript: Transcript) -> Outcome:
        """Converse until a report, a limit or an error; the outcome carries the usage in each case."""
        limits = effective_limits(assignment.limits)
        model = assignment.model or self._config.model
        meter = Meter(model, self._config)
        if not meter.is_price_known:
            note = f"No price is known for {model}: it is counted like the dearest model of the price list.\n"
            transcript.write("note", note)
        try:
            async with watched(limits) as touch, make_client(self._config, self._ssl_context) as client:
                shell = Shell(
                    self._launcher,
                    workspace=workspace,
                    assignment=assignment,
                    transcript=transcript,
                    touch=touch,
                )
                conversation = _Conversation(
                    client,
                    request=self._request(model, assignment),
                    task=task_prompt(assignment),
                    toolbox=Toolbox(
                        workspace.path, tools=tools_for(assignment.kind), shell=shell, transcript=transcript
                    ),
                    meter=meter,
                    transcript=transcript,
                    touch=touch,
                    retries_max=self._config.retries_max,
                )
                outcome = await conversation.run(limits)
        except TimedOut as late:
            outcome = Outcome(
                state=AttemptState.TIMED_OUT, failure_class=FailureClass.TIMEOUT, summary=str(late)
            )
        except API_ERRORS as error:
            outcome = failure_of(error, has_begun=meter.usage.requests > 0)
        return replace(outcome, usage=meter.usage)

    def _request(self, model: str, assignment: Assignment) -> dict[str, Any]:
        """The part of a request that stays the same in all turns."""
        request: dict[str, Any] = {
            "model": model,
            "max_tokens": self._config.max_output_tokens,
            "system": [{"type": "text", "text": role_prompt(assignment), "cache_control": _CACHED}],
            "tools": tool_definitions(tools_for(assignment.kind)),
            "cache_control": _CACHED,  # the conversation so far, so that each turn pays for what is new
        }
        if self._config.effort:
            request["output_config"] = {"effort": self._config.effort}
        return request


class _Conversation:
    """The turns of one session: ask, carry out the tool calls, ask again."""

    def __init__(
        self,
        client: AsyncAnthropic,
        *,
        request: dict[str, Any],
        task: str,
        toolbox: Toolbox,
        meter: Meter,
        transcript: Transcript,
        touch: Callable[[], None],
        retries_max: int,
    ) -> None:
        self._client = client
        self._request = request
        self._messages: list[dict[str, Any]] = []
        self._toolbox = toolbox
        self._meter = meter
        self._transcript = transcript
        self._touch = touch
        self._retries_max = retries_max
        self._reminders = 0
        self._continuations = 0
        self._say([{"type": "text", "text": task}])

    async def run(self, limits: SessionLimits) -> Outcome:
        """Take turns until the session has an outcome."""
        for _ in range(limits.turns_max):
            outcome = await self._take(await self._ask())
            if outcome is not None:
                return outcome
            if self._meter.usage.cost_micros >= limits.cost_micros_max:
                return _failed(
                    FailureClass.BUDGET,
                    f"The session reached its cap of ${limits.cost_micros_max / MICROS:.2f}.",
                )
        return _failed(FailureClass.AGENT, f"There was no report after {limits.turns_max} turns.")

    async def _ask(self) -> Message:
        """Get the next answer whole; after a stream that broke off, ask again, a bounded number of times."""
        for retry in range(self._retries_max + 1):
            try:
                return await self._stream()
            except httpx2.TransportError as cut:
                if retry == self._retries_max:
                    raise
                self._transcript.write("note", f"The answer broke off ({cut}); asking again.\n")
                await asyncio.sleep(_BACK_OFF_S * 2**retry)
        raise AssertionError("the last retry returns or raises")

    async def _stream(self) -> Message:
        message: Message | None = None
        messages = cast("list[MessageParam]", self._messages)
        async with self._client.messages.stream(messages=messages, **self._request) as stream:
            try:
                async for event in stream:
                    self._touch()
                    if message or event.type == "message_start":
                        message = stream.current_message_snapshot
                    if event.type == "content_block_stop":
                        self._show(event.content_block)
            finally:
                if message is not None:
                    self._meter.add(message)
        if message is None or message.stop_reason is None:
            raise httpx2.RemoteProtocolError("the stream ended before the answer did")
        return message

    def _show(self, block: Any) -> None:
        text = {"text": "text", "thinking": "thinking"}.get(block.type)
        if text and (said := getattr(block, text)):
            self._transcript.write("model", f"{said}\n")

    async def _take(self, message: Message) -> Outcome | None:
        """Do what an answer asks for. Returns the outcome if it ends the session."""
        if message.stop_reason == "refusal":
            why = message.stop_details.explanation if message.stop_details else None
            return _failed(FailureClass.AGENT, f"The model refused the task: {why or 'no reason given'}.")
        if message.stop_reason == "model_context_window_exceeded":
            return _failed(FailureClass.AGENT, "The conversation outgrew the context window of the model.")
        if message.content:
            self._messages.append({"role": "assistant", "content": message.to_param()["content"]})
        is_cut = message.stop_reason == "max_tokens"
        if is_cut and self._continuations == _CONTINUATIONS_MAX:
            return _failed(
                FailureClass.AGENT, f"{_CONTINUATIONS_MAX + 1} answers in a row reached their length limit."
            )
        self._continuations = self._continuations + 1 if is_cut else 0
        calls = [block for block in message.content if block.type == "tool_use"]
        if calls:
            self._say(
                [await self._answer(call, is_cut=is_cut and call is message.content[-1]) for call in calls]
            )
            return self._toolbox.report.outcome() if self._toolbox.report else None
        if message.stop_reason == "pause_turn":
            return None  # the model goes on from its own words
        if is_cut:
            self._say([{"type": "text", "text": CONTINUE}])
            return None
        return self._remind(message)

    async def _answer(self, call: ToolUseBlock, *, is_cut: bool) -> dict[str, Any]:
        """Carry out one call; one that was cut off is not carried out."""
        if is_cut:
            text, is_error = CONTINUE, True
        else:
            text, is_error = await self._toolbox.call(call.name, call.input)
        self._touch()
        return {"type": "tool_result", "tool_use_id": call.id, "content": text, "is_error": is_error}

    def _remind(self, message: Message) -> Outcome | None:
        """The model stopped without a report: tell it once, then give up."""
        if self._reminders == _REMINDERS_MAX:
            said = "\n".join(block.text for block in message.content if block.type == "text")
            return _failed(FailureClass.AGENT, "The model ended its turn without a report.", said=said)
        self._reminders += 1
        self._say([{"type": "text", "text": REMINDER}])
        return None

    def _say(self, blocks: list[dict[str, Any]]) -> None:
        """Add to our side; two messages of one side in a row are one message."""
        if self._messages and self._messages[-1]["role"] == "user":
            self._messages[-1]["content"] += blocks
        else:
            self._messages.append({"role": "user", "content": blocks})


def _failed(failure_class: FailureClass, summary: str, *, said: str = "") -> Outcome:
    detail = f"{summary}\n{said}"[:_DETAIL_CHARS] if said else summary
    return Outcome(state=AttemptState.FAILED, failure_class=failure_class, summary=summary, detail=detail)
