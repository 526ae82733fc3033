"""How front ends reach the Scheduler actor: the one implementation of SchedulerPort over Ray.

The handle is found by name and namespace, and found again when its actor has died. Whoever asks while there
is no scheduler gets Overloaded, which says "try again": nobody knows whether a broken call was carried out,
so no call is repeated here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from ray.exceptions import RayActorError, RayError, RaySystemError, RayTaskError

from actors.factory import find
from actors.options import SCHEDULER
from orchestrator.errors import OrchestratorError, Overloaded

#: A request waits for its commit; beyond this the scheduler is as good as away.
_ANSWER_TIMEOUT_S = 30.0

#: A plan is stored already: nobody waits long for a scheduler that hangs to hear of it.
_NUDGE_TIMEOUT_S = 1.0
_RETRY_AFTER_S = 2.0


class RayScheduler:
    """The scheduler of the Ray cluster that this process has joined."""

    def __init__(self) -> None:
        self._handle: Any = None

    async def nudge(self) -> None:
        """Say that there is a new plan; the scheduler finds it within a second anyhow."""
        with contextlib.suppress(OrchestratorError, RayError):
            await self._call("nudge", timeout_s=_NUDGE_TIMEOUT_S)

    async def request(
        self, kind: str, args: Mapping[str, object], idempotency_key: str
    ) -> Mapping[str, object]:
        """Ask for one change; returns after its commit. Raises Conflict, NotFound, Overloaded."""
        answer: Mapping[str, object] = await self._call("request", kind, dict(args), idempotency_key)
        return answer

    async def status(self) -> Mapping[str, object]:
        """Return what only the scheduler's memory knows. Raises Overloaded."""
        answer: Mapping[str, object] = await self._call("status")
        return answer

    async def _call(self, method: str, *args: object, timeout_s: float = _ANSWER_TIMEOUT_S) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                handle = await self._found()
                return await getattr(handle, method).remote(*args)
        except RayTaskError as error:  # first, because it is also of the class of its cause
            if isinstance(error.cause, OrchestratorError):
                raise error.cause from None
            raise
        except TimeoutError as error:
            raise _away("The scheduler does not answer.") from error
        except (RayActorError, RaySystemError) as error:
            self._handle = None
            raise _away("The scheduler is being restarted.") from error
        except RayError as error:
            raise _away(f"Ray could not reach the scheduler: {type(error).__name__}.") from error

    async def _found(self) -> Any:
        if self._handle is None:
            try:
                self._handle = await asyncio.to_thread(find, SCHEDULER)
            except ValueError as error:
                raise _away("There is no scheduler yet.") from error
        return self._handle


def _away(message: str) -> Overloaded:
    return Overloaded(message, remedy="Try again in a moment.", retry_after_s=_RETRY_AFTER_S)
