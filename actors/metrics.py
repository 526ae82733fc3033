"""The Metrics actor: does what follows from events in its own time. No decisions here.

It aggregates outcomes, and deletes the journals that nobody needs any more. One actor a cluster; a second one
for a moment does no harm, because the store lets them take turns.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from actors.logs import log_json
from actors.options import ActorConfig
from orchestrator import __version__
from orchestrator.errors import DatabaseUnavailable
from orchestrator.runtime.outcomes import Aggregator
from orchestrator.store.affinity import PostgresOutcomes
from orchestrator.store.journals import PostgresJournals
from orchestrator.store.listener import EventListener

#: Longest wait for a notification: what one that got lost costs.
_IDLE_S = 15.0

log = structlog.get_logger(__name__)


class Metrics:
    """At work for as long as it lives; the first `ping` sets it to work."""

    def __init__(self, config: ActorConfig) -> None:
        log_json(config.settings)
        self._store = PostgresOutcomes(config.direct_url)
        self._journals = PostgresJournals(
            config.service_url, name="orchestrator-journals-sweep", keys=config.keys
        )
        self._listener = EventListener(config.direct_url)
        self._aggregator = Aggregator(self._store, ema_alpha=config.settings.metrics.ema_alpha)
        self._period_s = config.settings.metrics.period_s
        self._work: asyncio.Task[None] | None = None
        self._events = 0
        self._trouble = "not started"

    def __repr__(self) -> str:
        return "Metrics()"

    async def ping(self) -> dict[str, object]:
        """Return version and state (`starting` or `ready`); raises what ended the work, if anything did."""
        if self._work is None:
            self._work = asyncio.create_task(self._run(), name="metrics")
        if self._work.done():
            self._work.result()
        return {"version": __version__, "state": "starting" if self._trouble else "ready"}

    async def report(self) -> dict[str, object]:
        """Return how many events were taken since the start, and what is wrong now; empty if nothing."""
        return {"events": self._events, "trouble": self._trouble}

    async def stop(self) -> None:
        """Stop the work and close the connections."""
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work
        await self._listener.close()
        await self._store.close()
        await self._journals.close()

    async def _run(self) -> None:
        with self._listener.subscribed() as wake:
            while True:
                wake.clear()  # before the look: what comes during it wakes us again
                await self._catch_up()
                await asyncio.sleep(self._period_s)  # let outcomes gather
                if not self._trouble:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_IDLE_S):
                            await wake.wait()

    async def _catch_up(self) -> None:
        try:
            await self._journals.sweep()
            self._events += await self._aggregator.catch_up()
            self._trouble = ""
        except DatabaseUnavailable as error:
            log.warning("outcomes and journals wait for the database", reason=str(error))
            self._trouble = str(error)
