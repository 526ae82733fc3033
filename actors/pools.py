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
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import ray
import structlog
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from actors.executor import Executor
from actors.factory import find, is_pending, make, names
from actors.logs import log_json
from actors.options import (
    EXECUTOR_PREFIX,
    SCHEDULER,
    ActorConfig,
    executor,
    executor_name,
    pool_of,
    requested,
)
from actors.placement import cluster_resources, shortage
from orchestrator import __version__
from orchestrator.runtime.scheduling import ExecutorInfo

log = structlog.get_logger(__name__)

#: Executors that start at the same time: a start costs more than a second of a core.
STARTING_MAX = 2

#: Executors of one pool that wait for something at the same time, which costs nothing; autoscalers see them.
WAITING_MAX = 2

#: A new executor that says nothing for so long may have no place; what it waits for is looked up then.
PLACE_PATIENCE_S = 2.0

#: What an executor waits for that is up before the Node actor of its node.
WAITS_FOR_NODE = "the Node actor of its node does not answer yet"

#: Longest wait for a new executor; on a cluster that grows, a node may have to be made first.
START_TIMEOUT_S = 600.0

#: For so long one that did not start keeps its place: each try leaves Ray a dead actor to remember.
START_RETRY_S = 5.0

#: Longest wait for an answer of the scheduler.
ANSWER_TIMEOUT_S = 10.0

#: Longest wait for an answer of an executor that we find again; with one that is slow its sessions would end.
SILENCE_MAX_S = 60.0

#: How often present is compared with wanted when nothing happens.
LOOK_S = 1.0

#: Pause before a call is made again.
RETRY_S = 0.2


@dataclass(slots=True, kw_only=True)
class _Present:
    info: ExecutorInfo
    handle: Any
    idle_since_s: float


@dataclass(slots=True, kw_only=True)
class _Starting:
    pool: str
    handle: Any
    since_s: float
    needed_s: float  #: when its pool last lacked it
    has_answered: bool = False  #: it is up, or it failed
    waits_for: str = ""  #: what it waits for without costing anything


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
        return {
            "version": __version__,
            "state": state,
            "pid": os.getpid(),
            "executors": sorted(self._present),
            "waits": self._waits(),
        }

    async def want(self, sessions: Mapping[str, int]) -> dict[str, str]:
        """Hear how many sessions each pool could run now; say by pool what keeps executors from starting."""
        self._wanted = dict(sessions)
        self._news.set()
        return self._waits()

    async def executors(self) -> list[tuple[ExecutorInfo, Any]]:
        """Return every executor that lives, with its handle."""
        await self._is_found.wait()
        return [(p.info, p.handle) for p in self._present.values()]

    def _waits(self) -> dict[str, str]:
        return {one.pool: one.waits_for for one in self._starting.values() if one.waits_for}

    async def stop(self, timeout_s: float) -> None:
        """End every executor in good order; nothing new is made, and nothing is leased, after this."""
        self._is_stopping = True
        await self._tell("stop_leasing")
        for one in self._starting.values():
            ray.kill(one.handle)
        present = list(self._present.values())
        drains = [asyncio.ensure_future(p.handle.drain.remote(timeout_s)) for p in present]
        if drains:
            await asyncio.wait(drains, timeout=timeout_s + 1)
        for member in present:
            ray.kill(member.handle)

    async def _run(self) -> None:
        while True:
            self._news.clear()
            try:
                if not self._is_found.is_set():
                    await self._find_again()
                if not self._is_stopping:
                    await self._look_at_slow()
                    self._grow()
                    await self._shrink()
            except Exception:  # whatever it was, the next look begins from what is wanted and present
                log.exception("pools were not looked after")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()

    async def _find_again(self) -> None:
        """After a restart: meet the executors that an earlier incarnation made."""
        named = await asyncio.to_thread(names, EXECUTOR_PREFIX)
        known = self._present.keys() | self._starting.keys()
        await asyncio.gather(*(self._meet(name) for name in named if name not in known))
        self._is_found.set()

    async def _meet(self, name: str) -> None:
        """Take an executor in; end one that does not answer, so that what ran on it can run again."""
        try:
            handle = await asyncio.to_thread(find, name)
        except ValueError:
            return  # it died a moment ago
        if await asyncio.to_thread(is_pending, handle):
            self._follow(name, handle)
            return
        try:
            answer = await _answer_of(handle)
        except (RayError, TimeoutError) as error:
            log.warning("executor does not answer and is ended", executor=name, reason=_first_line(error))
            ray.kill(handle)
            return
        if answer["state"] == "ready":
            self._take_in(handle, answer)
        else:
            self._follow(name, handle)

    def _size(self, pool: str) -> int:
        present = sum(p.info.agent_type == pool for p in self._present.values())
        return present + sum(s.pool == pool for s in self._starting.values())

    def _wanted_size(self, pool: str) -> int:
        return math.ceil(self._wanted.get(pool, 0) / self._config.settings.pools.of(pool).slots)

    def _missing(self) -> list[str]:
        """Return the pools that lack executors, those without any first; not those where enough wait."""
        waiting = Counter(one.pool for one in self._starting.values() if one.waits_for)
        lacking = [
            pool
            for pool in self._wanted
            if self._size(pool) < self._wanted_size(pool) and waiting[pool] < WAITING_MAX
        ]
        return sorted(lacking, key=lambda pool: (self._size(pool), -self._wanted[pool], pool))

    def _grow(self) -> None:
        while self._costly() < STARTING_MAX and (missing := self._missing()):
            pool = missing[0]
            name = executor_name(pool, uuid.uuid4().hex[:6])
            options = executor(name, self._config.settings.pools.of(pool))
            self._follow(name, make(Executor, options, self._config, name, pool))

    def _costly(self) -> int:
        """Count the executors whose start takes a core now."""
        return sum(not one.waits_for for one in self._starting.values())

    def _follow(self, name: str, handle: Any) -> None:
        now_s = time.monotonic()
        one = _Starting(pool=pool_of(name), handle=handle, since_s=now_s, needed_s=now_s)
        self._starting[name] = one
        self._spawn(self._start(name, one))

    async def _start(self, name: str, one: _Starting) -> None:
        """See an executor through its start."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                answer = await one.handle.ping.remote()
                one.has_answered = True
                if answer["state"] != "ready":
                    one.waits_for = WAITS_FOR_NODE
                    answer = await one.handle.ready.remote()
            present = self._take_in(one.handle, answer)
        except (RayError, TimeoutError) as error:
            ray.kill(one.handle)
            if name in self._starting and not self._is_stopping:
                log.error("executor did not start", executor=name, reason=_first_line(error))
                one.has_answered, one.waits_for = True, f"one did not start: {_first_line(error)}"
                await asyncio.sleep(START_RETRY_S)
        else:
            await self._tell("executor_joined", present.info, one.handle)
        finally:
            self._starting.pop(name, None)
            self._news.set()

    async def _look_at_slow(self) -> None:
        """Find out which new executors have no place, and why."""
        now_s = time.monotonic()
        silent = [
            one
            for one in self._starting.values()
            if not one.has_answered and now_s - one.since_s > PLACE_PATIENCE_S
        ]
        if not silent:
            return
        cluster = await asyncio.to_thread(cluster_resources)
        for one in silent:
            reason = shortage(requested(self._config.settings.pools.of(one.pool)), cluster)
            if reason and not one.waits_for:
                log.warning("executor has no place", pool=one.pool, reason=reason)
            one.waits_for = reason

    def _take_in(self, handle: Any, answer: Mapping[str, Any]) -> _Present:
        info = ExecutorInfo(
            executor=answer["executor"], agent_type=answer["agent_type"], slots=answer["slots"]
        )
        present = _Present(info=info, handle=handle, idle_since_s=time.monotonic())
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
        self._give_up_waiting(now_s)
        for pool in {p.info.agent_type for p in self._present.values()}:
            members = [p for p in self._present.values() if p.info.agent_type == pool]
            if len(members) <= self._wanted_size(pool):
                for member in members:
                    member.idle_since_s = now_s
                continue
            longest = min(members, key=lambda member: member.idle_since_s)
            if now_s - longest.idle_since_s >= self._config.settings.pools.of(pool).idle_s:
                await self._retire(longest)

    def _give_up_waiting(self, now_s: float) -> None:
        for name, one in list(self._starting.items()):
            if self._size(one.pool) <= self._wanted_size(one.pool):
                one.needed_s = now_s
            elif one.waits_for and now_s - one.needed_s >= self._config.settings.pools.of(one.pool).idle_s:
                del self._starting[name]
                ray.kill(one.handle)

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


async def _answer_of(handle: Any) -> dict[str, Any]:
    """Ask an executor who it is, again while it cannot be reached. Raises RayError, TimeoutError."""
    async with asyncio.timeout(SILENCE_MAX_S):
        while True:
            try:
                return dict(await handle.ping.remote())
            except ActorUnavailableError:
                await asyncio.sleep(RETRY_S)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
