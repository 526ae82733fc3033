"""The Ray that a Host works with: one of our own on this machine, or a cluster that it joins.

Our own Ray is started, mended and ended on one thread that lives as long as this process: the kernel ends it
when the thread that started it ends. What is asked of it runs on another, for most of that waits for the GCS,
and a GCS that has died is started again meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import structlog

from cluster.database import require_shared_database
from cluster.home import HostHome
from cluster.ray_environment import apply_ray_environment
from orchestrator.errors import EnvironmentFault
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from cluster.ray_head import RayHead

T = TypeVar("T")
log = structlog.get_logger(__name__)

_CONNECT_TIMEOUT_S = 5.0

#: Longest wait for a call that is under way when Ray is to end; one that waits for a dead GCS takes a minute.
_CALL_END_S = 5.0
_MEBIBYTE = 2**20


class RayCluster(Protocol):
    """What a Host asks of its Ray."""

    address: str
    cluster_id: str
    dashboard_url: str

    async def load(self) -> None:
        """Import Ray, which takes a second of a core and of Python's lock."""

    async def start(self) -> None:
        """Start or join it. Raises EnvironmentFault."""

    async def call(self, work: Callable[[], T]) -> T:
        """Do something that blocks on Ray."""

    async def node_ids(self) -> list[str]:
        """Return Ray's ids of the live nodes, hex."""

    async def start_dashboard(self) -> None:
        """Start the dashboard, if it is ours to start, and keep it up. Nothing else depends on it."""

    async def repair(self) -> bool:
        """Start again what has died; tell whether every actor went with it. Raises EnvironmentFault."""

    async def stop(self) -> None:
        """End it, or leave it. Harmless when repeated."""


class OwnRay:
    """Our own Ray on this machine."""

    def __init__(self, settings: Settings, *, home: HostHome) -> None:
        self._settings = settings
        self._home = home
        self._head: RayHead | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray")
        self._calls = _call_thread()  #: of the Ray that runs now; a call may hang in the one before
        self._dashboard_thread = ThreadPoolExecutor(
            1, thread_name_prefix="ray-dashboard", initializer=_lower_priority
        )
        self._dashboard_start: asyncio.Task[None] | None = None
        self.address = ""
        self.cluster_id = home.cluster_id()
        self.dashboard_url = ""
        apply_ray_environment(token_file=home.ray_token_file())

    async def load(self) -> None:
        """Import Ray on its thread."""
        await self._on_thread(_import_ray)

    async def start(self) -> None:
        """Start the head; all of Ray is on the loopback address."""
        await self._on_thread(self._start)

    def _start(self) -> None:
        from cluster.ray_head import HeadOptions, RayHead

        ray = self._settings.ray
        options = HeadOptions(
            folder=self._home.new_ray_folder(),
            gcs_folder=self._home.new_gcs_folder(),
            object_store_bytes=ray.object_store_mb * _MEBIBYTE,
            num_cpus=ray.num_cpus,
            resources={"executor": ray.executors_max},
        )
        self._head = RayHead(options)
        self._head.start()
        self.address = self._head.address

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def call(self, work: Callable[[], T]) -> T:
        """Ask Ray for something, one after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._calls, work)

    async def node_ids(self) -> list[str]:
        """Return the one node."""
        assert self._head is not None
        return [self._head.node_id]

    async def start_dashboard(self) -> None:
        """Start the dashboard; takes some seconds, at low priority."""
        self._dashboard_start = asyncio.create_task(self._start_dashboard())
        await asyncio.wait({self._dashboard_start})

    async def _start_dashboard(self) -> None:
        head = self._head
        assert head is not None
        loop, port = asyncio.get_running_loop(), self._settings.ray.dashboard_port
        try:
            url = await loop.run_in_executor(self._dashboard_thread, lambda: head.start_dashboard(port=port))
        except EnvironmentFault as error:
            if self._head is head:  # else it was given up by `stop`
                log.error("there is no dashboard", reason=str(error))
        else:
            self.dashboard_url = url

    async def repair(self) -> bool:
        """Start the GCS again with its tables, or, when the raylet died and every actor with it, all."""
        from cluster.ray_head import DASHBOARD, GCS, RAYLET

        head, dashboard_start = self._head, self._dashboard_start
        assert head is not None
        if head.is_dead(RAYLET):
            log.error("the raylet has died and every actor with it; Ray is started again")
            await self._stop_head(head)
            self._calls = _call_thread()
            if dashboard_start is not None:
                await asyncio.wait({dashboard_start})  # given up by the stop
                self._dashboard_start, self.dashboard_url = None, ""
            await self.start()
            return True
        if head.is_dead(GCS):
            log.warning("the GCS has died; it is started again, the actors live")
            await self._on_thread(head.restart_gcs)
        elif head.is_dead(DASHBOARD) and dashboard_start is not None and dashboard_start.done():
            log.warning("the dashboard has died; it is started again")
            self._dashboard_start = asyncio.create_task(self._start_dashboard())
        return False

    async def stop(self) -> None:
        """End Ray and remove what it left on disk."""
        head, self._head = self._head, None
        try:
            if head is not None:
                await self._stop_head(head)
        finally:
            self._home.remove_gcs_folders()
            self._home.remove_ray_folder()

    async def _stop_head(self, head: RayHead) -> None:
        """Stop it once nobody asks it: a process that asks a Ray which has ended is ended by it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CALL_END_S):
                await asyncio.to_thread(self._calls.shutdown, cancel_futures=True)
        await self._on_thread(head.stop)


def _call_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="ray-calls")


class JoinedRay:
    """A Ray cluster that somebody else runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ray")
        self.address = settings.ray.address
        self.cluster_id = ""
        self.dashboard_url = ""

    async def load(self) -> None:
        """Import Ray on its thread."""
        await self.call(_import_ray)

    async def start(self) -> None:
        """Join the cluster; a cluster of several nodes needs a database that all of them reach."""
        await self._require_listener()  # Ray itself would try for minutes
        await self.call(self._join)
        require_shared_database(self._settings, nodes=len(await self.node_ids()))

    async def _require_listener(self) -> None:
        host, _, port = self.address.rpartition(":")
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
        except (OSError, ValueError) as error:
            raise self._unreachable(str(error) or "no answer") from error

    def _join(self) -> None:
        import ray

        from actors.options import NAMESPACE

        try:
            context = ray.init(
                address=self.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise self._unreachable(str(error)) from error
        worker: Any = ray._private.worker.global_worker  # noqa: SLF001 - no public call tells it
        self.cluster_id = worker.gcs_client.cluster_id.hex()
        self.dashboard_url = f"http://{context.dashboard_url}" if context.dashboard_url else ""

    def _unreachable(self, reason: str) -> EnvironmentFault:
        return EnvironmentFault(
            f"The Ray cluster at {self.address} cannot be joined: {reason}.",
            remedy="Check the address, that it runs the same versions of Ray and Python, and, if it wants a "
            "token, that RAY_AUTH_MODE is `token` and RAY_AUTH_TOKEN_PATH names its file.",
        )

    async def call(self, work: Callable[[], T]) -> T:
        """Do something on the thread of Ray."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def node_ids(self) -> list[str]:
        """Return the nodes that live now."""
        import ray

        nodes: list[dict[str, Any]] = await self.call(ray.nodes)
        return sorted(node["NodeID"] for node in nodes if node["Alive"])

    async def start_dashboard(self) -> None:
        """Leave it to whoever runs the cluster."""

    async def repair(self) -> bool:
        """Leave it to whoever runs the cluster."""
        return False

    async def stop(self) -> None:
        """Leave the cluster."""
        import ray

        with contextlib.suppress(Exception):  # whatever is wrong with it, we are leaving
            await self.call(ray.shutdown)


def _import_ray() -> None:
    """Import Ray now that the environment is set, which it reads when imported."""
    import cluster.ray_head  # noqa: F401


def _lower_priority() -> None:
    from cluster.ray_head import LOW_PRIORITY

    os.setpriority(os.PRIO_PROCESS, 0, LOW_PRIORITY)  # Linux: of this thread, and of what it starts
