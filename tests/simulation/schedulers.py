"""Schedulers with the shipped runtime inside, and how they reach the rest of the world."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.core.events import AttemptEnded, LimitsSet
from orchestrator.core.limits import Limits
from orchestrator.core.state import Policy
from orchestrator.core.words import Proof
from orchestrator.runtime.scheduling import ExecutorInfo, Scheduling, SchedulingSettings
from tests.simulation.database import SimulatedLine, SimulatedStore
from tests.simulation.executors import LEASES
from tests.simulation.loop import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

#: Longest wait for a node's answer.
NODE_S = 4.0


def settings(*, sessions_max: int, seed: int) -> SchedulingSettings:
    """Return settings whose durations stand in the shipped proportions, only shorter."""
    limits = Limits(
        sessions_max=sessions_max,
        agent_default_max=sessions_max,
        agent_sessions_max={"coder": max(1, sessions_max - 1)},
        plan_default_max=max(1, sessions_max - 1),
    )
    policy = Policy(
        backoff_ms=(200, 500, 1000),
        seed=seed,
        start_resend_ms=2_000,
        start_timeout_ms=5_000,
        timeout_ms=15_000,
        grace_ms=1_000,
        timeout_margin_ms=3_000,
        lease_ms=int(LEASES.ttl_s * 1000),
        lease_grace_ms=2_000,
        prove_retry_ms=500,
        prove_patience_ms=8_000,
        breaker_failures=4,
        breaker_open_ms=5_000,
        tokens_low=5,
    )
    return SchedulingSettings(
        policy=policy,
        limits=LimitsSet(limits=limits),
        tick_s=1.0,
        beats_s=2.0,
        executors_s=2.0,
        affinity_s=1e6,
        state_s=1e6,
        term_patience_s=5.0,
        retry_s=0.5,
    )


class SimulatedScheduler:
    """A scheduler's process, wired as actors/scheduler.py wires it."""

    def __init__(self, world: World, name: str, *, cluster_id: str, settings: SchedulingSettings) -> None:
        self._world = world
        self.process = Process(name)
        self.line = SimulatedLine(world.loop, world.database, self.process)
        self.scheduling = Scheduling(
            store=SimulatedStore(world.database, self.line, cluster_id=cluster_id),
            executors=Gateway(world, self.process),
            executors_now=self._executors_now,
            settings=settings,
        )
        self.running = world.loop.spawn(self.scheduling.run(), self.process)

    def __repr__(self) -> str:
        return self.process.name

    def report(self, started: Sequence[int], ended: Sequence[AttemptEnded]) -> None:
        """Take what an executor has stored."""
        self.scheduling.started(started)
        self.scheduling.ended(ended)

    async def _executors_now(self) -> Iterable[ExecutorInfo]:
        """Ask the pools, again and again, until they answer."""
        while True:
            answer: asyncio.Future[list[ExecutorInfo]] = self._world.loop.create_future()
            self._world.send("ask pools", None, self._world.answer_pools, answer)
            try:
                async with asyncio.timeout(3.0):
                    return await asyncio.shield(answer)
            except TimeoutError:
                continue


class Gateway:
    """Implements ports.ExecutorGateway over the simulated network."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def start(self, executor: str, tokens: Sequence[int]) -> None:
        self._world.dispatching(self._process, tokens)
        found = self._world.executors.get(executor)
        if found is not None and not self._process.is_dead:
            self._world.send("start", found.main, found.executing.start, list(tokens))

    async def cancel(self, executor: str, token: int, reason: str) -> None:
        found = self._world.executors.get(executor)
        if found is not None:
            self._world.send("cancel", found.main, found.executing.cancel, token, reason)

    async def kill_tree(self, node_id: str, token: int) -> Proof:
        del node_id
        answer: asyncio.Future[Proof] = self._world.loop.create_future()
        self._world.send("kill tree", None, self._world.kill_tree, token, answer)
        try:
            async with asyncio.timeout(NODE_S):
                return await asyncio.shield(answer)
        except TimeoutError:
            return Proof.UNPROVEN

    async def want(self, sessions: Mapping[str, int]) -> None:
        del sessions  # the pools of the simulation do not grow
