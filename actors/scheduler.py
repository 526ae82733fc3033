"""The Scheduler actor: the one that decides, for every plan. A singleton; its epoch fences any other.

All of its life is in `orchestrator.runtime`; here are only Ray's calls and the wiring. The constructor does
no I/O, because an actor whose constructor fails is dead for ever.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from actors import wire
from actors.dispatch import RayExecutors
from actors.logs import log_json
from actors.options import CONCURRENCY, ActorConfig
from orchestrator import __version__
from orchestrator.core.events import LimitsSet
from orchestrator.core.limits import Limits
from orchestrator.core.state import Policy
from orchestrator.errors import QueueFull
from orchestrator.money import MICROS
from orchestrator.routing import backend_of_models, choose_backend, keyless, not_installed
from orchestrator.runtime.scheduling import ExecutorInfo, Scheduling, SchedulingSettings
from orchestrator.settings import Settings
from orchestrator.store.scheduler import PostgresSchedulerStore

#: Requests that wait side by side. Ray lets in `CONCURRENCY` calls, and reports and pings need room.
REQUESTS_MAX = CONCURRENCY // 2


class Scheduler:
    """Owns the dependency graph and the affinity model in memory; PostgreSQL is the truth."""

    def __init__(self, config: ActorConfig) -> None:
        log_json(config.settings)
        self._executors = RayExecutors(is_one_machine=not config.settings.ray.address)
        self._requests = 0
        self._scheduling = Scheduling(
            store=PostgresSchedulerStore(
                config.direct_url,
                cluster_id=config.cluster_id,
                attempts_max=config.settings.retry.attempts_max,
                choose_backend=partial(choose_backend, of_models=backend_of_models(config.settings)),
            ),
            executors=self._executors,
            executors_now=self._executors.executors_now,
            settings=scheduling_settings(config.settings),
        )
        self._running = asyncio.get_running_loop().create_task(self._scheduling.run(), name="scheduling")

    def __repr__(self) -> str:
        return "Scheduler()"

    async def ping(self) -> dict[str, Any]:
        """Say whether it is ready."""
        state = "ready" if self._scheduling.is_ready else "starting"
        return {"version": __version__, "state": state, "pid": os.getpid()}

    async def nudge(self) -> None:
        """Look for new plans now."""
        self._scheduling.nudge()

    async def request(self, kind: str, args: Mapping[str, object], idempotency_key: str) -> dict[str, Any]:
        """Carry out one request; answered after its commit. Raises Conflict, NotFound, Overloaded."""
        if self._requests >= REQUESTS_MAX:
            raise QueueFull(f"{REQUESTS_MAX} requests wait already.", remedy="Try again in a moment.")
        self._requests += 1
        try:
            return dict(await self._scheduling.request(kind, args, idempotency_key))
        finally:
            self._requests -= 1

    async def status(self) -> dict[str, Any]:
        """Return what only memory knows. Raises Overloaded while starting."""
        status: dict[str, Any] = dict(self._scheduling.status())
        waits = self._executors.waits
        pools = [{**pool, "waits_for": waits.get(pool["agent_type"], "")} for pool in status["pools"]]
        return status | {"pools": pools}

    async def report(self, executor: str, started: Sequence[int], ended: Sequence[wire.Ended]) -> list[int]:
        """Take what an executor has stored; return the tokens that it is to start next."""
        self._scheduling.started(started)
        if not ended:
            return []
        with self._executors.answering(executor) as tokens:
            self._scheduling.ended(wire.unpack(ended))
            await self._scheduling.taken()
        return tokens

    async def executor_joined(self, info: ExecutorInfo, handle: Any) -> None:
        """Take an executor into service."""
        self._executors.joined(info.executor, handle)
        self._scheduling.executor_joined(info)

    async def executor_lost(self, executor: str) -> None:
        """Hear that an executor's process is gone."""
        self._executors.lost(executor)
        self._scheduling.executor_lost(executor)

    async def retire(self, executor: str) -> bool:
        """Tell whether the pools may end an executor."""
        return await self._scheduling.retire(executor)

    async def stop_leasing(self) -> None:
        """Start nothing more; what is live goes on."""
        self._scheduling.stop_leasing()

    async def drain(self, timeout_s: float = 2.0) -> None:
        """Start nothing more, wait for what is live, at most so long, and give the term back for good."""
        await self._scheduling.drain(timeout_s=timeout_s)


def scheduling_settings(settings: Settings) -> SchedulingSettings:
    """Build the scheduler's settings."""
    retry, leases, limits = settings.retry, settings.leases, settings.limits
    return SchedulingSettings(
        policy=Policy(
            losses_max=retry.losses_max,
            backoff_ms=retry.backoff_ms,
            rate_limited_backoff_ms=retry.rate_limited_backoff_ms,
            jitter=retry.jitter,
            seed=retry.seed,
            start_resend_ms=int(leases.start_resend_s * 1000),
            start_timeout_ms=int(leases.start_timeout_s * 1000),
            timeout_ms=int(settings.sessions.total_timeout_s * 1000),
            grace_ms=int(settings.sessions.grace_s * 1000),
            wait_max_ms=int(settings.governor.wait_max_s * 1000),
            lease_ms=int(leases.ttl_s * 1000),
            lease_grace_ms=int(leases.grace_s * 1000),
            prove_patience_ms=int(leases.prove_patience_s * 1000),
            breaker_failures=settings.breaker.failures_max,
            breaker_open_ms=int(settings.breaker.open_s * 1000),
            attempt_cost_micros=round(settings.sessions.cost_usd_max * MICROS),
            task_budget_micros=round(limits.task_budget_usd * MICROS),
            fuse_micros=round(limits.no_progress_usd * MICROS),
        ),
        limits=LimitsSet(
            limits=Limits(
                sessions_max=limits.sessions_max,
                agent_default_max=limits.agent_default_max,
                agent_sessions_max=dict(limits.agent_sessions_max),
                tenant_default_max=limits.tenant_default_max,
                tenant_sessions_max=dict(limits.tenant_sessions_max),
                plan_default_max=limits.plan_default_max,
                tenant_budget_micros=round(limits.tenant_budget_usd * MICROS),
                day_budget_micros=round(limits.day_budget_usd * MICROS),
            ),
            keyless=keyless(settings),
            not_installed=not_installed(),
        ),
        inbox_max=limits.inbox_max,
        affinity_s=settings.metrics.affinity_read_s,
        state_s=settings.metrics.state_period_s,
    )
