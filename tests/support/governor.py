"""A governor in the same process, a network away, which may start again or be away altogether."""

from __future__ import annotations

import asyncio

from orchestrator.errors import Overloaded
from orchestrator.grant_ports import Grant, GrantDemand
from orchestrator.runtime.governor import Governor, GovernorPolicy


class NearGovernor:
    """Implements grant_ports.GovernorPort on the clock of the loop.

    Attributes:
        is_away: it does not answer.
        heard: every demand, in order.
    """

    def __init__(self, policy: GovernorPolicy | None = None) -> None:
        self._policy = policy or GovernorPolicy()
        self._governor: Governor | None = None
        self.is_away = False
        self.heard: list[GrantDemand] = []
        self._came = asyncio.Event()

    def restart(self) -> None:
        """Forget everything."""
        self._governor = None

    async def heard_of(self, requests: int) -> None:
        """Wait until so many requests are told to have ended."""
        async with asyncio.timeout(60):
            while sum(demand.finished for demand in self.heard) < requests:
                self._came.clear()
                await self._came.wait()

    async def grant(self, demand: GrantDemand) -> Grant:
        """Answer after two milliseconds."""
        self.heard.append(demand)
        self._came.set()
        governor, now_ms = await self._reached()
        return governor.grant(demand, now_ms=now_ms)

    async def status(self) -> dict[str, object]:
        """Answer after two milliseconds."""
        governor, now_ms = await self._reached()
        return governor.status(now_ms=now_ms)

    async def _reached(self) -> tuple[Governor, int]:
        await asyncio.sleep(0.002)
        if self.is_away:
            raise Overloaded("The governor does not answer.")
        now_ms = int(asyncio.get_running_loop().time() * 1000)
        if self._governor is None:
            self._governor = Governor(self._policy, now_ms=now_ms)
        return self._governor, now_ms
