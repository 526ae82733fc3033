"""An executor's side of the governor: grants are fetched for all its sessions at once and used up here.

The governor is not on the path of a request: while requests go on it is asked about once a second, told what
came of them, and gives leave ahead. What must not wait is told at once: a refusal, and that somebody waits
and nothing is left. Without a governor what is granted stays good until it expires; then come a few requests,
and from there on one follows the other at a small, safe rate.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.errors import Overloaded
from orchestrator.grant_ports import GovernedRequest, GovernorGateway, Grant, GrantDemand, Headroom
from orchestrator.sessions.rate_headers import headroom_of, retry_after_s
from orchestrator.settings import Settings

#: Requests that an executor begins without a governor before they follow each other at the safe rate.
_ALONE_AT_ONCE = 4.0

#: What refuses a request because of its credential, or of the provider's load, and not of the request.
LIMITED, OVERLOADED = 429, 529
REFUSED = frozenset({LIMITED, OVERLOADED})

#: Time between two calls while requests are under way and nobody waits.
_HEARTBEAT_S = 1.0

#: Pause after a refusal that names none, until the governor says how long it is.
_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantSettings:
    """How an executor asks.

    Attributes:
        wait_max_s: longest wait of one request; a session that would wait longer makes room for others.
        alone_per_s: requests a second of this executor while the governor does not answer.
    """

    wait_max_s: float = 900.0
    alone_per_s: float = 0.5


def grant_settings(settings: Settings) -> GrantSettings:
    """Build how sessions ask for leave."""
    governor = settings.governor
    return GrantSettings(wait_max_s=governor.wait_max_s, alone_per_s=governor.alone_per_s)


class ExecutorGrants:
    """Implements grant_ports.Grants for the sessions of one executor, with one credential.

    Args:
        executor: its name, by which the governor knows what it has under way.
    """

    outlasts_refusals = True

    def __init__(self, *, executor: str, governor: GovernorGateway, settings: GrantSettings) -> None:
        self._executor = executor
        self._governor = governor
        self._settings = settings
        self._lines: dict[str, _Line] = {}

    async def ask(self, model: str) -> GovernedRequest:
        """Wait for leave; see grant_ports.Grants."""
        line = self._lines.get(model)
        if line is None:
            line = self._lines[model] = _Line(
                GrantDemand(executor=self._executor, model=model), self._governor, self._settings
            )
        return await line.ask()


@dataclass(slots=True)
class _News:
    """What the governor has not heard yet; see grant_ports.GrantDemand."""

    accepted: int = 0
    refused: int = 0
    retry_after_s: float = 0.0
    finished: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    headroom: dict[str, Headroom] = field(default_factory=dict)

    def before(self, newer: _News) -> _News:
        """Return both as one."""
        return _News(
            accepted=self.accepted + newer.accepted,
            refused=self.refused + newer.refused,
            retry_after_s=max(self.retry_after_s, newer.retry_after_s),
            finished=self.finished + newer.finished,
            input_tokens=self.input_tokens + newer.input_tokens,
            output_tokens=self.output_tokens + newer.output_tokens,
            headroom={**self.headroom, **newer.headroom},
        )


class _Line:
    """Those who wait for one model, first come first served, and the grant that they use up."""

    def __init__(self, demand: GrantDemand, governor: GovernorGateway, settings: GrantSettings) -> None:
        self._demand = demand
        self._governor = governor
        self._settings = settings
        self._clock_s = asyncio.get_running_loop().time
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._left = 0
        self._good_until_s = self._paused_until_s = 0.0
        self._alone_left, self._alone_at_s = _ALONE_AT_ONCE, self._clock_s()
        self._in_flight = 0
        self._begun = 0  #: since the governor was last asked
        self._news = _News()
        self._stirred = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    async def ask(self) -> GovernedRequest:
        leave: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(leave)
        self._serve()
        if self._waiting:
            self._stir()
        try:
            async with asyncio.timeout(self._settings.wait_max_s):
                await leave
        except BaseException as error:
            self._withdraw(leave)
            if isinstance(error, TimeoutError):
                raise _too_long(self._settings.wait_max_s) from error
            raise
        return _Request(self)

    def _withdraw(self, leave: asyncio.Future[None]) -> None:
        """Whoever waited does not any more; leave that came in the same moment is the next one's."""
        if leave in self._waiting:
            self._waiting.remove(leave)
        elif leave.done() and not leave.cancelled() and leave.exception() is None:
            self._in_flight -= 1
            self._begun -= 1
            self._left += 1
            self._serve()

    def _serve(self) -> None:
        """Let those who wait begin, as far as the grant goes."""
        now_s = self._clock_s()
        if now_s >= self._good_until_s or now_s < self._paused_until_s:
            self._left = 0
        while self._left and self._waiting:
            leave = self._waiting.popleft()
            if not leave.done():
                leave.set_result(None)
                self._left -= 1
                self._in_flight += 1
                self._begun += 1

    def _stir(self) -> None:
        """Have the governor told now, and asked."""
        self._stirred.set()
        if self._asking is None:
            self._asking = asyncio.create_task(self._keep_asking(), name="asking the governor")

    async def _keep_asking(self) -> None:
        """Tell and ask for as long as there is something to tell or to ask for."""
        try:
            while self._waiting or self._left or self._in_flight or self._news != _News():
                self._stirred.clear()
                again_s = await self._ask_governor()
                self._serve()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(again_s if self._waiting else _HEARTBEAT_S):
                        await self._stirred.wait()
        finally:
            self._asking = None

    async def _ask_governor(self) -> float:
        """Return after how long to ask again if somebody still waits."""
        news, self._news = self._news, _News()
        demand = replace(
            self._demand,
            waiting=len(self._waiting),
            spare=max(self._in_flight, self._begun),
            in_flight=self._in_flight,
            pause_s=max(0.0, self._paused_until_s - self._clock_s()),
            **{name: getattr(news, name) for name in _News.__slots__},
        )
        self._begun = 0
        try:
            grant = await self._governor.grant(demand)
        except Overloaded:
            self._news = news.before(self._news)
            return self._go_on_alone()
        self._take(grant)
        return grant.again_s

    def _take(self, grant: Grant) -> None:
        now_s = self._clock_s()
        self._left = max(0, grant.requests - self._begun)  # of those that began while it was asked
        self._good_until_s = now_s + grant.good_s
        if not self._news.refused:  # what was refused meanwhile is not in it yet
            self._paused_until_s = now_s + grant.pause_s
        if grant.pause_s > self._settings.wait_max_s:
            for leave in self._waiting:
                if not leave.done():
                    leave.set_exception(_too_long(grant.pause_s))
            self._waiting.clear()

    def _go_on_alone(self) -> float:
        now_s, per_s = self._clock_s(), self._settings.alone_per_s
        gained = (now_s - self._alone_at_s) * per_s
        self._alone_left, self._alone_at_s = min(_ALONE_AT_ONCE, self._alone_left + gained), now_s
        self._serve()
        if now_s >= self._paused_until_s and not self._left:
            self._left = min(int(self._alone_left), len(self._waiting))
            self._alone_left -= self._left
            self._good_until_s = now_s + _HEARTBEAT_S
        return min(1.0 / per_s, _HEARTBEAT_S)

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        self._news.headroom.update(headroom_of(headers))
        if status not in REFUSED:
            self._news.accepted += 1
            return
        wait_s = retry_after_s(headers)
        self._news.refused += 1
        self._news.retry_after_s = max(self._news.retry_after_s, wait_s)
        self._paused_until_s = max(self._paused_until_s, self._clock_s() + (wait_s or _PAUSE_S))
        self._stir()

    def used(self, *, input_tokens: int, output_tokens: int) -> None:
        self._news.input_tokens += input_tokens
        self._news.output_tokens += output_tokens

    def end(self) -> None:
        self._in_flight -= 1
        self._news.finished += 1
        if self._waiting:
            self._stir()


class _Request:
    """Implements grant_ports.GovernedRequest."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self.heard = line.heard
        self.used = line.used

    def __enter__(self) -> _Request:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.end()


class Ungoverned:
    """Implements grant_ports.Grants where there is no governor: every request is sent at once."""

    outlasts_refusals = False

    async def ask(self, model: str) -> GovernedRequest:
        """Give leave."""
        del model
        return _UngovernedRequest()


UNGOVERNED = Ungoverned()


class _UngovernedRequest:
    """Implements grant_ports.GovernedRequest."""

    def __enter__(self) -> _UngovernedRequest:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def heard(self, status: int, headers: Mapping[str, str]) -> None:
        """Nobody is to hear it."""

    def used(self, *, input_tokens: int, output_tokens: int) -> None:
        """Nobody counts it."""


def _too_long(wait_s: float) -> Overloaded:
    return Overloaded(
        f"The provider of the model wants nothing sent for {wait_s:.0f} s or more.",
        remedy="The task starts again by itself; nobody is charged.",
        retry_after_s=wait_s,
    )
