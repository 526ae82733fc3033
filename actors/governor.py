"""The Governor actor: keeps the rate limits of one credential for all executors. No decisions here.

It may die at any time: executors go on with what they were granted, then slowly, and a new one learns what
is under way and what is left from their next calls.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from ray.exceptions import RayError

from actors.factory import Handle, find
from actors.logs import log_json
from actors.options import ActorConfig, governor_name
from orchestrator import __version__
from orchestrator.errors import Overloaded
from orchestrator.grant_ports import Grant, GrantDemand
from orchestrator.runtime.governor import Governor as Limits
from orchestrator.runtime.governor import GovernorPolicy
from orchestrator.settings import Settings

#: Longest wait for an answer; then an executor goes on alone.
ANSWER_S = 2.0


class Governor:
    """Gives leave for requests with one credential."""

    def __init__(self, config: ActorConfig, credential: str) -> None:
        log_json(config.settings)
        self._credential = credential
        self._limits = Limits(governor_policy(config.settings), now_ms=_now_ms())

    def __repr__(self) -> str:
        return f"Governor({self._credential})"

    async def ping(self) -> dict[str, object]:
        """Say that it is ready."""
        return {"version": __version__, "state": "ready", "pid": os.getpid()}

    async def status(self) -> dict[str, object]:
        """Return what is under way, what waits and what is left of each limit."""
        return self._limits.status(now_ms=_now_ms())

    async def grant(self, demand: GrantDemand) -> Grant:
        """Take what an executor tells; give it leave."""
        return self._limits.grant(demand, now_ms=_now_ms())


class RayGovernor:
    """Implements grant_ports.GovernorPort for one credential."""

    def __init__(self, credential: str) -> None:
        self._name = governor_name(credential)
        self._handle: Handle | None = None

    async def grant(self, demand: GrantDemand) -> Grant:
        """Tell and ask; see grant_ports.GovernorGateway."""
        grant: Grant = await self._call("grant", demand)
        return grant

    async def status(self) -> dict[str, object]:
        """Return how it stands; see grant_ports.GovernorPort."""
        status: dict[str, object] = await self._call("status")
        return status

    async def _call(self, method: str, *arguments: object) -> Any:
        try:
            async with asyncio.timeout(ANSWER_S):
                handle: Handle = self._handle or await asyncio.to_thread(find, self._name)
                answer = await getattr(handle, method).remote(*arguments)
        except (RayError, ValueError, TimeoutError) as error:
            self._handle = None
            raise Overloaded(
                f"The governor {self._name} does not answer.", remedy="Try again in a moment."
            ) from error
        self._handle = handle
        return answer


def governors_of(settings: Settings) -> dict[str, RayGovernor]:
    """Return the way to the governor of each credential."""
    return {credential: RayGovernor(credential) for credential in settings.credentials}


def governor_policy(settings: Settings) -> GovernorPolicy:
    """Build what the governor keeps to."""
    governor = settings.governor
    return GovernorPolicy(at_once_max=governor.at_once_max, start_per_s=governor.start_per_s)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
