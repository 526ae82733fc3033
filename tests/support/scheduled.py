"""A service, and a scheduler that works on its plans and may die, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from orchestrator.core import events as e
from orchestrator.core.limits import Limits
from orchestrator.core.state import Policy
from orchestrator.core.words import AttemptState
from orchestrator.ports import Outcome, SessionLimits
from orchestrator.runtime.scheduling import ExecutorInfo, Scheduling, SchedulingSettings
from orchestrator.runtime.service import Service
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.urls import DatabaseUrls
from orchestrator.views import SubmitRequest
from tests.support.memory import MemoryExecutors
from tests.support.rows import make_store
from tests.support.service import execute, open_service

SETTINGS = SchedulingSettings(
    policy=Policy(),
    limits=e.LimitsSet(limits=Limits(sessions_max=16, agent_default_max=16)),
    poll_s=0.05,
    tick_s=0.05,
    executors_s=0.1,
    term_patience_s=0.1,
    retry_s=0.05,
)


class World:
    """A service, a scheduler that may die, and executors that do as they are told."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self.urls = urls
        self.gateway = MemoryExecutors()
        self.service: Service
        self._store = make_store(urls.direct)
        self._running: asyncio.Task[None] | None = None
        self._scheduling: Scheduling | None = None

    async def begin(self) -> None:
        """Start the scheduler, unless it runs."""
        if self._running is not None:
            return
        agent_types = execute(self.urls, "SELECT DISTINCT agent_type FROM tasks WHERE agent_type <> ''")
        infos = [ExecutorInfo(executor=f"x-{a}", agent_type=str(a), slots=9) for (a,) in agent_types]

        async def executors_now() -> Iterable[ExecutorInfo]:
            return infos

        self._scheduling = Scheduling(
            store=self._store, executors=self.gateway, executors_now=executors_now, settings=SETTINGS
        )
        self._running = asyncio.create_task(self._scheduling.run())

    async def die(self) -> None:
        """Kill the scheduler where it stands."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            await self._store.close()
            self._store = make_store(self.urls.direct)
            self._running = self._scheduling = None

    async def close(self) -> None:
        """End everything."""
        await self.die()
        await self._store.close()

    # What the service sees of the scheduler.

    async def nudge(self) -> None:
        if self._scheduling is not None:
            self._scheduling.nudge()

    async def request(self, kind: str, args: Mapping[str, object], key: str) -> Mapping[str, object]:
        assert self._scheduling is not None
        return await self._scheduling.request(kind, args, key)

    async def status(self) -> Mapping[str, object]:
        return {}

    # What is seen, and what executors do.

    def states(self) -> dict[str, str]:
        """The state of every task, by key."""
        found = execute(
            self.urls,
            "SELECT key, state FROM tasks JOIN task_states ON task_id = id WHERE kind = 'leaf'",
        )
        return {str(key): str(state) for key, state in found}

    def revisions(self) -> list[str]:
        """The state of every revision."""
        return [str(state) for (state,) in execute(self.urls, "SELECT state FROM plan_revisions ORDER BY id")]

    async def until(self, **states: str) -> None:
        """Wait until tasks (`A_1` for A.1) are in these states."""
        wanted = {key.replace("_", ".", 1) if key[0] == "A" else key: state for key, state in states.items()}
        async with asyncio.timeout(30):
            while not wanted.items() <= self.states().items():  # noqa: ASYNC110  rows tell nobody
                await asyncio.sleep(0.02)

    async def end(self, key: str, state: AttemptState = AttemptState.SUCCEEDED) -> None:
        """Let an executor run the live attempt of a task to its end."""
        ((token, executor),) = execute(
            self.urls,
            "SELECT l.token, executor FROM leases l JOIN attempts a USING (token)"
            " JOIN tasks t ON t.id = a.task_id WHERE t.key = %s",
            key,
        )
        store = ExecutorStore(
            self.urls.service, executor=str(executor), incarnation="i1", node_id="", limits=SessionLimits()
        )
        try:
            await store.start([int(str(token))])
            await store.save_results([(int(str(token)), Outcome(state=state))])
        finally:
            await store.close()
        await self.nudge()


@asynccontextmanager
async def open_world(urls: DatabaseUrls, home: Path, text: str) -> AsyncIterator[World]:
    """A world whose scheduler has not begun, with a plan that nothing real works on."""
    world = World(urls)
    async with open_service(urls, home, scheduler=world) as world.service:
        await world.service.submit(SubmitRequest(text=text, backend="simulated"))
        try:
            yield world
        finally:
            await world.close()
