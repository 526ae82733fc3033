"""The API of a provider of models, as all sessions of a process use it: what differs between providers.

A conversation is kept in one shape for all of them, that of the Messages API: messages of two sides, each a
list of blocks of text, thought, tool calls or tool results. A provider turns it into its own words.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple, Protocol

import httpx2

from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.models.answer import Answer
from orchestrator.sessions.models.judging import Judgement
from orchestrator.sessions.tools.toolbox import Tools, tool_definitions

#: A message of a conversation: `role`, and `content`, a list of blocks.
Message = dict[str, Any]

#: The body of a request in the words of its provider.
Request = Mapping[str, Any]


class Frame(NamedTuple):
    """What stays the same in all requests of a session.

    Attributes:
        model: who is asked.
        role: the system prompt.
        tools: what it may call.
    """

    model: str
    role: str
    tools: Tools


class Responding(Protocol):
    """What both SDKs give of a response that has begun."""

    @property
    def http_response(self) -> httpx2.Response:
        """The response; its body is yet to come."""


class ModelApi(ABC):
    """Asks one provider, with one client and its connections for all sessions that run at the same time.

    Attributes:
        provider: its name.
        errors: what its SDK raises when a request fails, and what it lets through when a stream breaks.
        turn: to be taken before a request is made, so that a turn of the loop makes one and no more.
    """

    provider: str
    errors: tuple[type[Exception], ...]

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.turn = asyncio.Lock()
        self._ssl_context = httpx2.create_ssl_context()  # read once: it costs more than all else of a client
        self._client: Any = None
        self._users = 0

    @asynccontextmanager
    async def use(self) -> AsyncIterator[None]:
        """Hold the client for a session; the last one to leave closes its connections."""
        if self._client is None:
            self._client = self._connect()
        self._users += 1
        client = self._client
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0:
                self._client = None
                await asyncio.shield(client.close())

    @abstractmethod
    def _connect(self) -> Any:
        """Return a client of the SDK that asks nothing again by itself: the Asker does, and tells of it."""

    def terms(self, frame: Frame) -> Request:
        """Return what decides about all requests of a session, whichever process sends them.

        What an endpoint turned out not to take is no part of it: each process finds that out for itself.
        """
        config = self.config
        return {
            "model": frame.model,
            "role": frame.role,
            "tools": tool_definitions(frame.tools),
            "max_output_tokens": config.max_output_tokens,
            "thinking": config.thinking,
            "effort": config.effort,
        }

    @abstractmethod
    def request(
        self, frame: Frame, messages: Sequence[Message], *, may_call: bool = True, is_long: bool = False
    ) -> Request:
        """Return what to send.

        Args:
            may_call: False: the answer is to be words, though there are tools in the conversation.
            is_long: the conversation has outgrown `conversation_tokens`: a service that can leave out old
                tool results is asked to.
        """

    @abstractmethod
    def forgo(self, request: Request, refusal: Exception) -> str:
        """Do without the feature of this request that the endpoint refuses, from now on.

        Returns:
            What to tell of it; empty if the refusal is not of a feature that can be done without.
        """

    @abstractmethod
    def send(self, request: Request) -> AbstractAsyncContextManager[Responding]:
        """Begin a streamed request. Raises `errors`."""

    @abstractmethod
    def events(self, response: httpx2.Response) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the events of its stream. Raises `errors`, also for an error that comes as an event."""

    @abstractmethod
    def new_answer(self, request: Request) -> Answer:
        """Return what its events are to be added to."""

    @abstractmethod
    def judgement_of(self, error: Exception, *, has_begun: bool) -> Judgement:
        """Return what one of `errors` means; see judging.py."""
