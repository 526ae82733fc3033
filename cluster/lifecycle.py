"""What a Host does from its start to its end.

PostgreSQL and Ray start side by side; a plan is stored as soon as the tables are there, long before Ray is;
the dashboard and HTTP come after what a first task waits for. The end goes the other way round, each step
bounded in time. Whatever the end leaves out is caught up by the next start, from the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from cluster.database import HostDatabase
from cluster.file_sync import FileSync
from cluster.home import HostHome
from cluster.orders import open_stdin, read_orders
from cluster.progress import Progress
from cluster.ray_cluster import JoinedRay, OwnRay, RayCluster
from orchestrator import __version__
from orchestrator.errors import Overloaded
from orchestrator.ports import SchedulerPort
from orchestrator.settings import Settings
from orchestrator.stack import Stack, process_start_time, remove_stack, write_stack
from orchestrator.store.urls import DatabaseUrls

if TYPE_CHECKING:
    from actors.options import ActorConfig
    from cluster.agent_files import AgentFiles
    from cluster.supervise import Supervisor
    from orchestrator.runtime.service import Service
    from orchestrator.store.crypto import FieldKeys
    from orchestrator.views import SubmitRequest

log = structlog.get_logger(__name__)

#: What sessions get to end in good order when the Host ends.
_SESSIONS_GRACE_S = 4.0

_RAY_STOP_TIMEOUT_S = 10.0

#: In mode `run` the dashboard waits for the first session, at most so long after the actors are ready.
_DASHBOARD_WAIT_MAX_S = 20.0


class Host:
    """One stack, from start to stop.

    Args:
        home: its lock is held.
        is_run: work on one plan for the command line at stdin, then end.
        is_served: offer HTTP.
    """

    def __init__(
        self, settings: Settings, *, home: HostHome, progress: Progress, is_run: bool, is_served: bool
    ) -> None:
        self._settings = settings
        self._home = home
        self._progress = progress
        self._is_run = is_run
        self._is_served = is_served
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._request: asyncio.Queue[SubmitRequest] = asyncio.Queue()
        self._database = HostDatabase(settings)
        self._cluster: RayCluster = (
            JoinedRay(settings) if settings.ray.address else OwnRay(settings, home=home)
        )
        self._supervisor: Supervisor | None = None
        self._scheduler = LateScheduler()
        self._first_start = asyncio.Event()
        pid = os.getpid()
        self._stack = Stack(
            pid=pid,
            start_time=process_start_time(pid) or 0,
            version=__version__,
            mode="run" if is_run else "up",
            since=datetime.now(UTC).isoformat(timespec="seconds"),  # noqa: TID251 - for people
        )

    async def run(self) -> None:
        """Start everything, work until told to stop or the plan has ended, end everything.

        Raises:
            OrchestratorError: what kept it from starting or going on.
        """
        self._heed_signals()
        self._write_stack()
        front = [self._heed_command_line()] if self._is_run else []
        try:
            await first_of(self._work(), self._stop.wait(), *front)
        finally:
            await self._end()

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)

    def _on_signal(self) -> None:
        (self._stop_now if self._stop.is_set() else self._stop).set()

    def _write_stack(self, **changes: Any) -> None:
        self._stack = replace(self._stack, **changes)
        write_stack(self._settings.home, self._stack)

    # --- the start

    async def _work(self) -> None:
        from cluster.http import require_free_port

        if self._is_served:
            require_free_port(self._settings.http)
        loading = asyncio.create_task(self._cluster.load())
        await asyncio.sleep(0)  # on its way before PostgreSQL takes this thread
        urls = self._database.start()
        if self._settings.database.is_embedded:
            self._progress.step("postgres", "PostgreSQL is up")
        await loading
        ray_start = asyncio.create_task(self._cluster.start())
        try:
            await asyncio.to_thread(_prepare, urls)
            self._progress.step("tables", "The tables are up to date")
            front = self._plan_front(urls) if self._is_run else _for_ever()
            await first_of(self._keep_up(urls, ray_start), front)
        finally:
            ray_start.cancel()

    async def _keep_up(self, urls: DatabaseUrls, ray_start: asyncio.Task[None]) -> None:
        """Raise the actors once Ray is there, then keep everything alive."""
        imports = asyncio.create_task(asyncio.to_thread(_import_supervisor))  # while Ray starts
        agent_files = await asyncio.to_thread(_agent_files, self._settings, urls)
        await ray_start
        self._heed_signals()  # again: Ray's own handler prints a stack first
        self._progress.step("ray", f"Ray is up at {self._cluster.address}")
        supervisor_of = await imports
        self._supervisor = supervisor_of(
            cluster=self._cluster, database=self._database, config=self._actor_config(urls)
        )
        await first_of(self._supervisor.run(), self._complete(self._supervisor, urls), agent_files.keep())

    async def _complete(self, supervisor: Supervisor, urls: DatabaseUrls) -> None:
        """Do, after each start of Ray, what no first task waits for."""
        from actors.gateway import RayScheduler

        while True:
            await supervisor.is_ready.wait()
            self._scheduler.found(RayScheduler())
            self._progress.step("actors", "The scheduler is ready")
            self._write_stack(ray_address=self._cluster.address)
            if self._is_run:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_DASHBOARD_WAIT_MAX_S):
                        await self._first_start.wait()
            supervisor.complete()
            await asyncio.gather(self._start_dashboard(), self._serve_http(urls))
            self._write_stack(state="ready")
            sync = FileSync(self._settings.home).run() if self._is_served else _for_ever()
            await first_of(supervisor.has_lost_ray.wait(), sync)
            supervisor.has_lost_ray.clear()

    async def _start_dashboard(self) -> None:
        await self._cluster.start_dashboard()
        url = self._cluster.dashboard_url
        self._progress.step(
            "dashboard", f"The Ray dashboard is at {url}" if url else "There is no Ray dashboard"
        )
        self._write_stack(dashboard_url=url)

    async def _serve_http(self, urls: DatabaseUrls) -> None:
        from cluster.http import serve_http

        if not self._is_served:
            return

        config, token = self._actor_config(urls), self._home.token()
        url = await asyncio.to_thread(serve_http, config, token=token)
        self._progress.step("http", f"HTTP is up at {url}")
        self._write_stack(url=url)

    def _actor_config(self, urls: DatabaseUrls) -> ActorConfig:
        from actors.options import ActorConfig

        return ActorConfig(
            settings=self._settings,
            service_url=urls.service,
            direct_url=urls.direct,
            api_url=urls.api,
            cluster_id=self._cluster.cluster_id,
            records=self._home.folder("records"),
            workspaces=self._home.workspaces(),
            keys=self._home.keys(self._settings),
            access=self._home.access(),
        )

    # --- mode `run`

    async def _heed_command_line(self) -> None:
        """Take the plan that the command line hands in; end with stdin, however far the start has come."""
        orders = read_orders(await open_stdin())
        async for request in orders:
            self._request.put_nowait(request)
            await _exhaust(orders)

    async def _plan_front(self, urls: DatabaseUrls) -> None:
        """Work on the plan of the command line, and end with it."""
        from cluster.stdio import Dialogue

        keys = self._home.keys(self._settings)
        made = _open_service(urls.api, scheduler=self._scheduler, settings=self._settings, keys=keys)
        async with made as service:
            dialogue = Dialogue(service=service, progress=self._progress, has_started=self._first_start)
            await dialogue.run(await self._request.get())

    # --- the end

    async def _end(self) -> None:
        """End everything in good order; nothing here may keep the rest from ending."""
        log.info("stopping")
        with contextlib.suppress(OSError):  # of a full disk; the end goes on
            self._write_stack(state="stopping")
        await self._end_sessions()
        try:
            async with asyncio.timeout(_RAY_STOP_TIMEOUT_S):
                await self._cluster.stop()
        except Exception:  # the guard ends what is left
            log.exception("Ray did not stop in good order")
        self._database.stop()
        remove_stack(self._settings.home)
        log.info("stopped")

    async def _end_sessions(self) -> None:
        if self._supervisor is None:
            return
        try:
            grace_s = _SESSIONS_GRACE_S
            await first_of(self._supervisor.end_sessions(grace_s=grace_s), self._stop_now.wait())
            if self._settings.ray.address:
                await self._supervisor.kill_singletons()
        except Exception:  # their attempts are found lost at the next start
            log.exception("the sessions did not end in good order")


class LateScheduler:
    """The scheduler as front ends see it while Ray starts: away, until it is found."""

    def __init__(self) -> None:
        self._scheduler: SchedulerPort | None = None

    def found(self, scheduler: SchedulerPort) -> None:
        """Use this one from now on."""
        self._scheduler = scheduler

    async def nudge(self) -> None:
        """Pass it on; a scheduler that starts looks for new plans anyhow."""
        if self._scheduler is not None:
            await self._scheduler.nudge()

    async def request(
        self, kind: str, args: Mapping[str, object], idempotency_key: str
    ) -> Mapping[str, object]:
        """Pass it on. Raises Overloaded while there is none."""
        return await self._there().request(kind, args, idempotency_key)

    async def status(self) -> Mapping[str, object]:
        """Pass it on. Raises Overloaded while there is none."""
        return await self._there().status()

    def _there(self) -> SchedulerPort:
        if self._scheduler is None:
            raise Overloaded("The scheduler is starting.", remedy="Try again in a moment.")
        return self._scheduler


async def first_of(*works: Coroutine[Any, Any, object]) -> None:
    """Run all until one ends, end the others, and raise what the first raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _exhaust(items: AsyncIterator[object]) -> None:
    async for _ in items:
        log.warning("one Host works on one plan; another one was not taken")


@asynccontextmanager
async def _open_service(
    url: str, *, scheduler: SchedulerPort, settings: Settings, keys: FieldKeys
) -> AsyncIterator[Service]:
    make = await asyncio.to_thread(_import_service)
    service = make(url, scheduler, settings, keys)
    try:
        yield service
    finally:
        await service.close()


def _import_service() -> Any:
    from orchestrator.routing import Routing
    from orchestrator.runtime.service import Service
    from orchestrator.store.engine import make_engine

    def make(url: str, scheduler: SchedulerPort, settings: Settings, keys: FieldKeys) -> Service:
        engine = make_engine(url, name="orchestrator-host")
        routing = Routing.from_settings(settings)
        return Service(engine=engine, scheduler=scheduler, routing=routing, settings=settings, keys=keys)

    return make


def _agent_files(settings: Settings, urls: DatabaseUrls) -> AgentFiles:
    """Return the files of agent types, once what they say is stored: sessions work by that."""
    from cluster.agent_files import AgentFiles

    files = AgentFiles(settings, url=urls.service)
    files.store()
    return files


def _import_supervisor() -> type[Supervisor]:
    from cluster.supervise import Supervisor

    return Supervisor


def _prepare(urls: DatabaseUrls) -> None:
    from orchestrator.store.migrate import prepare

    prepare(urls)
