"""Keeps alive what the Host is parent of: the database, Ray and the singleton actors.

A look every two seconds: what has died is started again, what does not answer for long is killed and started
again. Nothing is decided here about plans; PostgreSQL knows where they stand.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import ray
import structlog
from ray.exceptions import ActorUnavailableError, RayActorError, RayError, RayTaskError

from actors import singletons
from actors.options import METRICS, POOLS, SCHEDULER, ActorConfig, governor_name, node_name
from cluster.database import HostDatabase
from cluster.ray_cluster import RayCluster
from orchestrator import __version__
from orchestrator.errors import EnvironmentFault

log = structlog.get_logger(__name__)

_LOOK_PERIOD_S = 2.0
_STARTING_PERIOD_S = 0.2

#: An actor that says nothing for so long hangs; on a machine at its limit answers may take seconds.
_SILENCE_MAX_S = 60.0
_PING_TIMEOUT_S = 10.0
_READY_TIMEOUT_S = 90.0

#: Beyond the grace of the sessions: time to store what came of them.
_GRACE_MARGIN_S = 1.0


class Supervisor:
    """Looks after one stack."""

    def __init__(self, *, cluster: RayCluster, database: HostDatabase, config: ActorConfig) -> None:
        self._cluster = cluster
        self._database = database
        self._config = config
        self._wards: dict[str, _Ward] = {}
        self._is_whole = False
        self._give_up_s = 0.0
        self.is_ready = asyncio.Event()  #: set while everything that tasks need has answered that it is ready
        self.has_lost_ray = asyncio.Event()  #: set when Ray was started again, and every actor with it

    async def run(self) -> None:
        """Make the singletons, then look after everything; never returns by itself.

        Raises:
            EnvironmentFault: the singletons do not get ready, or database or Ray cannot be started again.
        """
        self._give_up_s = time.monotonic() + _READY_TIMEOUT_S
        while True:
            await self._look()
            if not self.is_ready.is_set():
                if self._wards and all(ward.state == "ready" for ward in self._wards.values()):
                    self.is_ready.set()
                elif time.monotonic() > self._give_up_s:
                    raise self._not_ready()
            await asyncio.sleep(_LOOK_PERIOD_S if self.is_ready.is_set() else _STARTING_PERIOD_S)

    def complete(self) -> None:
        """Make the actors too without which tasks can run."""
        self._is_whole = True

    async def _look(self) -> None:
        self._look_after_database()
        if await self._cluster.repair():
            self._wards.clear()
            self._give_up_s = time.monotonic() + _READY_TIMEOUT_S
            self.is_ready.clear()
            self.has_lost_ray.set()
        await self._choose_wards()
        await asyncio.gather(*(ward.look() for ward in self._wards.values()))

    def _look_after_database(self) -> None:
        try:
            if self._database.restart_if_dead():
                log.warning("PostgreSQL had died; it was started again")
        except EnvironmentFault as error:  # such as a full disk: sessions go on, and so does the next look
            log.error("PostgreSQL has died and does not start; it is tried again", reason=str(error))

    async def _choose_wards(self) -> None:
        """Have one ward for each singleton and each live node, in the order in which tasks need them."""
        config = self._config
        wanted: dict[str, Callable[[], Any]] = {
            SCHEDULER: lambda: singletons.ensure_scheduler(config),
            POOLS: lambda: singletons.ensure_pools(config),
        }
        for node_id in await self._cluster.node_ids():
            wanted[node_name(node_id)] = _node(config, node_id)
        if self._is_whole:
            wanted[METRICS] = lambda: singletons.ensure_metrics(config)
            for credential in config.settings.credentials:
                wanted[governor_name(credential)] = _governor(config, credential)
        self._wards = {
            name: self._wards.get(name) or _Ward(name, ensure, cluster=self._cluster)
            for name, ensure in wanted.items()
        }

    def _not_ready(self) -> EnvironmentFault:
        late = ", ".join(f"{w.name} ({w.state})" for w in self._wards.values() if w.state != "ready")
        return EnvironmentFault(
            f"Not ready within {_READY_TIMEOUT_S:.0f} s: {late}.",
            remedy="Read the logs of Ray's workers and of the Host; on a machine at its limit, start again.",
        )

    async def end_sessions(self, *, grace_s: float) -> None:
        """Have nothing more start, every session end in good order, and the scheduler's term given back."""
        await asyncio.gather(
            self._ask(SCHEDULER, "drain", grace_s + _GRACE_MARGIN_S), self._ask(POOLS, "stop", grace_s)
        )

    async def _ask(self, name: str, call: str, timeout_s: float) -> None:
        """Have a singleton end its work within a time."""
        ward = self._wards.get(name)
        if ward is None or ward.handle is None:
            return
        try:
            async with asyncio.timeout(timeout_s + _GRACE_MARGIN_S):
                await getattr(ward.handle, call).remote(timeout_s)
        except (RayError, TimeoutError) as error:
            log.warning("did not stop in good order", actor=name, reason=_reason(error))

    async def kill_singletons(self) -> None:
        """End the singletons; for a cluster that goes on without us."""
        for ward in self._wards.values():
            await ward.kill(no_restart=True)


class _Ward:
    """One actor that must live."""

    def __init__(self, name: str, ensure: Callable[[], Any], *, cluster: RayCluster) -> None:
        self.name = name
        self.state = "missing"
        self.handle: Any = None
        self._ensure = ensure
        self._cluster = cluster
        self._heard_s = time.monotonic()

    async def look(self) -> None:
        """Make the actor if there is none, and hear how it is."""
        try:
            # Without a GCS nothing is made; the next look mends that.
            async with asyncio.timeout(_PING_TIMEOUT_S):
                if self.handle is None:
                    self.handle = await self._cluster.call(self._ensure)
                    self._heard_s = time.monotonic()
                answer = await self.handle.ping.remote()
        except (ActorUnavailableError, TimeoutError):
            await self._is_silent()
        except RayActorError as error:
            self._lost(error)
        except (RayError, ValueError) as error:  # its ping raised, or it cannot be made now
            log.error("actor is broken and starts again", actor=self.name, reason=_reason(error))
            await self.kill(no_restart=False)
        else:
            await self._heard(answer)

    async def _heard(self, answer: dict[str, Any]) -> None:
        self._heard_s = time.monotonic()
        self.state = str(answer["state"])
        if answer["version"] != __version__:
            log.warning("actor is of another version and is replaced", actor=self.name, **answer)
            await self.kill(no_restart=True)

    async def _is_silent(self) -> None:
        silence_s = time.monotonic() - self._heard_s
        log.warning("actor does not answer", actor=self.name, silence_s=round(silence_s))
        self.state = "silent"
        if silence_s > _SILENCE_MAX_S:
            await self.kill(no_restart=False)

    def _lost(self, error: Exception) -> None:
        log.warning("actor has died and is made again", actor=self.name, reason=_reason(error))
        self.state, self.handle = "dead", None

    async def kill(self, *, no_restart: bool) -> None:
        """End the actor's process; Ray starts it again unless told not to."""
        handle, self.handle = self.handle, None
        self.state = "dead"
        self._heard_s = time.monotonic()
        if handle is not None:
            with contextlib.suppress(TimeoutError):  # as above
                async with asyncio.timeout(_PING_TIMEOUT_S):
                    await self._cluster.call(lambda: ray.kill(handle, no_restart=no_restart))


def _node(config: ActorConfig, node_id: str) -> Callable[[], Any]:
    return lambda: singletons.ensure_node(config, node_id)


def _governor(config: ActorConfig, credential: str) -> Callable[[], Any]:
    return lambda: singletons.ensure_governor(config, credential)


def _reason(error: Exception) -> str:
    """Return in one line what went wrong; Ray puts the traceback of the actor around it."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return f"{type(cause).__name__}: {cause}".partition("\n")[0]
