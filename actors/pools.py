"""The Pools actor: as many executors of each agent type as the demand asks for, no more than allowed.

It compares wanted with present and makes the difference; it never decides what runs. Executors are detached
and named, so they outlive this actor, and it finds them again by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
import uuid
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import ray
import structlog
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from actors.executor import Executor
from actors.factory import find, make
from actors.logs import log_json
from actors.options import EXECUTOR_PREFIX, SCHEDULER, ActorConfig, executor, executor_name
from orchestrator import __version__
from orchestrator.runtime.scheduling import ExecutorInfo

log = structlog.get_logger(__name__)

#: Executors that start at the same time: a start costs more than a second of a core.
STARTING_MAX = 2

#: Longest wait for a new executor; on a cluster that grows, a node may have to be made first.
START_TIMEOUT_S = 600.0

#: Longest wait for an answer of an executor that we find again, and of the scheduler.
ANSWER_TIMEOUT_S = 10.0

#: How often present is compared with wanted when nothing happens.
LOOK_S = 1.0

#: Pause before a call is made again.
RETRY_S = 0.2


@dataclass(slots=True, kw_only=True)
class _Present:
    info: ExecutorInfo
    node_id: str
    handle: Any
    idle_since_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starting:
    pool: str
    handle: Any


class Pools:
    """Keeps the executors of every agent type at the wanted size."""

    def __init__(self, config: ActorConfig) -> None:
        log_json(config.settings)
        self._config = config
        self._wanted: dict[str, int] = {}
        self._present: dict[str, _Present] = {}
        self._starting: dict[str, _Starting] = {}
        self._is_stopping = False
        self._is_found = asyncio.Event()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = asyncio.get_running_loop().create_task(self._run(), name="pools")

    def __repr__(self) -> str:
        return "Pools()"

    async def ping(self) -> dict[str, Any]:
        """Say what it holds."""
        state = "ready" if self._is_found.is_set() else "starting"
        names = sorted(self._present)
        return {"version": __version__, "state": state, "pid": os.getpid(), "executors": names}

    async def want(self, sessions: Mapping[str, int]) -> None:
        """Hear how many sessions each pool could run now."""
        self._wanted = dict(sessions)
        self._news.set()

    async def executors(self) -> list[tuple[ExecutorInfo, str, Any]]:
        """Return every executor that lives, with its node and its handle."""
        await self._is_found.wait()
        return [(p.info, p.node_id, p.handle) for p in self._present.values()]

    async def stop(self, timeout_s: float) -> None:
        """End every executor in good order; nothing new is made, and nothing is leased, after this."""
        self._is_stopping = True
        await self._tell("stop_leasing")
        for starting in self._starting.values():
            ray.kill(starting.handle)
        present = list(self._present.values())
        drains = [asyncio.ensure_future(p.handle.drain.remote(timeout_s)) for p in present]
        if drains:
            await asyncio.wait(drains, timeout=timeout_s + 1)
        for one in present:
            ray.kill(one.handle)

    async def _run(self) -> None:
        await self._find_again()
        while True:
            self._news.clear()
            try:
                if not self._is_stopping:
                    self._grow()
                    await self._shrink()
            except Exception:  # whatever it was, the next look begins from what is wanted and present
                log.exception("pools were not looked after")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()

    async def _find_again(self) -> None:
        """After a restart: meet the executors that an earlier incarnation made."""
        named = await asyncio.to_thread(ray.util.list_named_actors)
        await asyncio.gather(*(self._meet(name) for name in named if name.startswith(EXECUTOR_PREFIX)))
        self._is_found.set()

    async def _meet(self, name: str) -> None:
        """Take an executor in; end one that does not answer, so that what ran on it can run again."""
        try:
            handle = await asyncio.to_thread(find, name)
        except ValueError:
            return  # it died a moment ago
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                self._take_in(handle, await handle.ping.remote())
        except (RayError, TimeoutError) as error:
            log.warning("executor does not answer and is ended", executor=name, reason=_first_line(error))
            ray.kill(handle)

    def _size(self, pool: str) -> int:
        present = sum(p.info.agent_type == pool for p in self._present.values())
        return present + sum(s.pool == pool for s in self._starting.values())

    def _missing(self) -> list[str]:
        """Return the pools that lack executors, those without any first."""
        lacking = []
        for pool, sessions in self._wanted.items():
            wanted = math.ceil(sessions / self._config.settings.pools.of(pool).slots)
            if self._size(pool) < wanted:
                lacking.append(pool)
        return sorted(lacking, key=lambda pool: (self._size(pool), -self._wanted[pool], pool))

    def _grow(self) -> None:
        while len(self._starting) < STARTING_MAX and (missing := self._missing()):
            pool = missing[0]
            name = executor_name(pool, uuid.uuid4().hex[:6])
            options = executor(name, self._config.settings.pools.of(pool))
            handle = make(Executor, options, self._config, name, pool)
            self._starting[name] = _Starting(pool=pool, handle=handle)
            self._spawn(self._start(name, handle))

    async def _start(self, name: str, handle: Any) -> None:
        """See an executor through its start."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                present = self._take_in(handle, await handle.ping.remote())
        except (RayError, TimeoutError) as error:
            if not self._is_stopping:
                log.error("executor did not start", executor=name, reason=_first_line(error))
            ray.kill(handle)
            await asyncio.sleep(LOOK_S)
            del self._starting[name]
        else:
            del self._starting[name]
            await self._tell("executor_joined", present.info, present.node_id, handle)
        self._news.set()

    def _take_in(self, handle: Any, answer: Mapping[str, Any]) -> _Present:
        info = ExecutorInfo(
            executor=answer["executor"], agent_type=answer["agent_type"], slots=answer["slots"]
        )
        present = _Present(info=info, node_id=answer["node_id"], handle=handle, idle_since_s=time.monotonic())
        self._present[info.executor] = present
        self._spawn(self._watch(present))
        return present

    async def _watch(self, present: _Present) -> None:
        """Learn at once when the executor's process dies."""
        name = present.info.executor
        while name in self._present:
            try:
                await present.handle.watch.remote()
            except RayError as error:
                if await self._is_dead(present.handle) and self._present.pop(name, None) is not None:
                    log.warning("executor is gone", executor=name, reason=_first_line(error))
                    await self._tell("executor_lost", name)
                    self._news.set()
            await asyncio.sleep(RETRY_S)

    @staticmethod
    async def _is_dead(handle: Any) -> bool:
        """Tell a dead executor from one that could not be reached for a moment."""
        try:
            await handle.ping.remote()
        except ActorUnavailableError:
            return False
        except RayActorError:
            return True
        return False

    async def _shrink(self) -> None:
        """End executors that were not needed for their idle time, one of a pool at a time."""
        now_s = time.monotonic()
        for pool in {p.info.agent_type for p in self._present.values()}:
            own = self._config.settings.pools.of(pool)
            wanted = math.ceil(self._wanted.get(pool, 0) / own.slots)
            members = [p for p in self._present.values() if p.info.agent_type == pool]
            if len(members) <= wanted:
                for member in members:
                    member.idle_since_s = now_s
                continue
            longest = min(members, key=lambda member: member.idle_since_s)
            if now_s - longest.idle_since_s >= own.idle_s:
                await self._retire(longest)

    async def _retire(self, present: _Present) -> None:
        name = present.info.executor
        if await self._tell("retire", name):
            del self._present[name]
            ray.kill(present.handle)
            log.info("executor retired", executor=name)
        else:
            present.idle_since_s = time.monotonic()

    async def _tell(self, call: str, *args: Any) -> Any:
        """Tell the scheduler. If it is away it misses nothing: it asks us every few seconds."""
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                scheduler = await asyncio.to_thread(find, SCHEDULER)
                return await getattr(scheduler, call).remote(*args)
        except (RayError, ValueError, TimeoutError) as error:
            log.info("scheduler was not told", call=call, reason=_first_line(error))
            return None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
