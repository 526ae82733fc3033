"""The backend `anthropic`: a conversation with Claude over the Messages API, with tools, to a report.

Sends neither sampling parameters nor a forced tool choice: current models refuse both.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.errors import Overloaded
from orchestrator.grant_ports import Grants
from orchestrator.ports import (
    Assignment,
    Launcher,
    NoteBook,
    Outcome,
    SessionCancelled,
    Transcript,
    Workspace,
)
from orchestrator.sessions.api_errors import API_ERRORS, failure_of
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.conversation import Conversation
from orchestrator.sessions.messages import Asker, SharedClient
from orchestrator.sessions.meter import Meter
from orchestrator.sessions.prompt import role_prompt, task_prompt
from orchestrator.sessions.tools import Toolbox, tool_definitions, tools_for
from orchestrator.sessions.watch import TimedOut, effective_limits, watched

_CACHED = {"type": "ephemeral"}


class AnthropicBackend:
    """Implements `ports.Backend` with the Messages API.

    Args:
        config: key, address, model and prices.
        launcher: for the tools that run programs. The key never reaches its children.
        notes: for the tool of that name.
        governor: gives leave for each request; without it every request is sent at once.
    """

    name = "anthropic"

    def __init__(
        self, config: SessionConfig, launcher: Launcher, *, notes: NoteBook, governor: Grants | None = None
    ) -> None:
        self._config = config
        self._governor = governor
        self._launcher = launcher
        self._notes = notes
        self._client = SharedClient(config)

    async def run(self, assignment: Assignment, workspace: Workspace, transcript: Transcript) -> Outcome:
        """Converse until a report, a limit or an error; the usage is told in each case."""
        meter = Meter(assignment.model or self._config.model, self._config)
        if meter.price_note:
            transcript.write("note", meter.price_note)
        try:
            outcome = await self._converse(assignment, workspace, transcript, meter)
        except TimedOut as late:
            outcome = Outcome(
                state=AttemptState.TIMED_OUT, failure_class=FailureClass.TIMEOUT, summary=str(late)
            )
        except API_ERRORS as error:
            outcome = failure_of(error, has_begun=meter.usage.requests > 0)
        except Overloaded as late:
            outcome = Outcome(
                state=AttemptState.FAILED, failure_class=FailureClass.RATE_LIMITED, summary=str(late)
            )
        except asyncio.CancelledError as cancel:
            raise SessionCancelled(meter.usage) from cancel
        return replace(outcome, usage=meter.usage)

    async def _converse(
        self, assignment: Assignment, workspace: Workspace, transcript: Transcript, meter: Meter
    ) -> Outcome:
        limits = effective_limits(assignment.limits)
        async with (
            watched(limits) as clocks,
            self._client.use() as client,
            Toolbox(
                self._launcher,
                notes=self._notes,
                assignment=assignment,
                workspace=workspace,
                transcript=transcript,
                touch=clocks,
            ) as toolbox,
        ):
            asker = Asker(
                client,
                turn=self._client.turn,
                meter=meter,
                transcript=transcript,
                clocks=clocks,
                retries_max=self._config.retries_max,
                grants=self._governor,
            )
            conversation = Conversation(
                asker,
                request=self._request(assignment),
                task=task_prompt(assignment, transcript),
                toolbox=toolbox,
                meter=meter,
                transcript=transcript,
                tokens_max=self._config.conversation_tokens,
            )
            return await conversation.run(limits)

    def _request(self, assignment: Assignment) -> dict[str, Any]:
        """The part of a request that stays the same in all turns."""
        request: dict[str, Any] = {
            "model": assignment.model or self._config.model,
            "max_tokens": self._config.max_output_tokens,
            "system": [{"type": "text", "text": role_prompt(assignment), "cache_control": _CACHED}],
            "tools": tool_definitions(tools_for(assignment)),
            "cache_control": _CACHED,  # the conversation so far, so that each turn pays for what is new
        }
        if self._config.effort:
            request["output_config"] = {"effort": self._config.effort}
        if self._config.thinking:
            request["thinking"] = {"type": self._config.thinking}
        return request
