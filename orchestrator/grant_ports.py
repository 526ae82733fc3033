"""What sessions, executors and the governor of a credential know of each other; see ports.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """What a response said of one limit of its credential: so much a minute, and so much is left now.

    Attributes:
        reset_s: when all of it is back, in seconds; 0 = not said.
    """

    limit: int
    remaining: int
    reset_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantDemand:
    """What an executor asks of the governor, and tells it of the requests since it last asked.

    Attributes:
        waiting: requests that wait for leave; `spare`: how many more may come while the grant is good.
        in_flight: requests that are under way.
        accepted, refused: responses that said anything but 429 or 529, and those that said one of these.
        retry_after_s: longest wait that a refusal asked for; 0 = none said.
        pause_s: for how long yet the provider wants nothing, as far as the executor knows; a governor that
            has just started learns it from here.
        finished: requests that ended.
        input_tokens, output_tokens: what those consumed; cache reads left out.
        headroom: by kind (`requests`, `input-tokens`, `output-tokens`, `tokens`), as the last response said.
    """

    executor: str
    model: str
    waiting: int = 0
    spare: int = 0
    in_flight: int = 0
    accepted: int = 0
    refused: int = 0
    retry_after_s: float = 0.0
    pause_s: float = 0.0
    finished: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    headroom: Mapping[str, Headroom] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Leave to send requests, in place of any earlier grant. Durations in seconds, from its arrival.

    Attributes:
        requests: how many may begin while it is good.
        good_s: what is not used by then is void.
        again_s: whoever still waits asks again after this time.
        pause_s: the provider wants nobody to send anything for so long; 0 = it does not.
    """

    requests: int
    good_s: float
    again_s: float
    pause_s: float = 0.0


class GovernorGateway(Protocol):
    """How an executor reaches the governor of a credential."""

    async def grant(self, demand: GrantDemand) -> Grant:
        """Tell and ask. Raises Overloaded while the governor does not answer."""


class GovernorPort(GovernorGateway, Protocol):
    """How a front end reaches it."""

    async def status(self) -> Mapping[str, object]:
        """Return how it stands, as status_views.GovernorView shows it. Raises Overloaded."""


class GovernedRequest(Protocol):
    """Leave for one request to a provider; a context manager whose end is that of the request."""

    def __enter__(self) -> GovernedRequest:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """The request is over, however it ended."""

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """Tell what the response began with, at once; a 429 or 529 pauses everybody."""

    def used(self, *, input_tokens: int, output_tokens: int) -> None:
        """Tell what the request consumed, once, at its end; cache reads do not count."""


class Grants(Protocol):
    """How a session asks before each request to a model, within the limits of one credential."""

    @property
    def outlasts_refusals(self) -> bool:
        """Whether leave after a 429 or 529 comes once that is over, so that it is asked again at once."""

    async def ask(self, model: str) -> GovernedRequest:
        """Wait until one request may be sent, first come first served.

        The wait counts neither as silence nor as time of the attempt: let the clocks of the session stand
        still meanwhile (sessions/watch.py).

        Raises:
            Overloaded: the provider wants a longer wait than a session is kept for; nobody is to blame.
        """
