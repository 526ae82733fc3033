"""The whole service without Ray, as a process of its own: HTTP, scheduler, executors with real sessions.

Every part is the product's own; only the calls between the actors are plain calls here. So it is small
enough to be tormented on any machine, and a fault of the database meets the code that it would meet on Ray.

    python -m tests.support.service_process    (JSON of `_Wishes` on stdin; ends when stdin does)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from orchestrator.core.words import Proof
from orchestrator.settings import load_settings
from orchestrator.store.urls import DatabaseUrls
from tests.support.actor_config import actor_config
from tests.support.own_server import OwnServer
from tests.support.processes import ROOT, UNCONTAINED, foreign_environment

if TYPE_CHECKING:
    from actors.options import ActorConfig
    from orchestrator.core.events import AttemptEnded
    from orchestrator.runtime.scheduling import Scheduling
    from orchestrator.runtime.service import Service

TOKEN = "token-of-the-service"
AGENT_TYPE = "backend-development"
EXECUTORS = 2

#: Leases short enough that a test can wait for them, back-off that nobody needs to wait for.
SETTINGS: Mapping[str, Any] = {
    "leases": {"ttl_s": 20.0, "beat_s": 2.0, "margin_s": 4.0, "grace_s": 2.0},
    "retry": {"backoff_ms": [100]},
    "sessions": {"grace_s": 0.5},
    "pools": {"default": {"slots": 4}},
    "metrics": {"state_period_s": 1.0},
    "logging": {"level": "warning"},
}


class _Wishes(TypedDict):
    """What the process is told; `listening` is an inherited descriptor."""

    home: str
    urls: dict[str, str]
    settings: Mapping[str, Any]
    listening: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What HTTP said. `retry_after` is empty without the header; `body` is the JSON, or empty."""

    status: int
    retry_after: str
    body: Mapping[str, Any]


class ServiceProcess:
    """The parent's end. The port outlives the process, so a killed one can be started again behind it."""

    def __init__(self, home: Path, urls: DatabaseUrls, settings: Mapping[str, Any]) -> None:
        self.home = home
        self.urls = urls
        self.log = home / "logs" / "service.log"
        self.log.parent.mkdir(exist_ok=True)
        self._settings = settings
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """Root of its HTTP API."""
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        descriptor = self._listening.fileno()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.service_process"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=foreign_environment() | UNCONTAINED,
                cwd=ROOT,
                pass_fds=[descriptor],
            )
        wishes = _Wishes(
            home=str(self.home), urls=asdict(self.urls), settings=self._settings, listening=descriptor
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wishes).encode() + b"\n")
        self._process.stdin.flush()
        self.await_ready()

    def await_ready(self, *, timeout_s: float = 300.0) -> None:
        """Wait until the service says that it can work."""
        deadline_s = time.monotonic() + timeout_s
        while self.ask("GET", "/readyz", timeout_s=timeout_s).status != 200:
            assert self.is_alive(), f"the service has ended:\n{self.told()}"
            assert time.monotonic() < deadline_s, f"not ready within {timeout_s} s:\n{self.told()}"
            time.sleep(0.1)

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        key: str = "",
        timeout_s: float = 90.0,
    ) -> Answer:
        """Send a request, with an idempotency key if one is given; raises OSError when nobody answers."""
        connection = HTTPConnection("127.0.0.1", self._listening.getsockname()[1], timeout=timeout_s)
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            text = response.read()
        found = json.loads(text) if text.startswith(b"{") else {}
        return Answer(status=response.status, retry_after=response.getheader("Retry-After") or "", body=found)

    def told(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-4000:]

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it as nobody expects it; the launchers end its sessions."""
        os.kill(self.pid, signal.SIGKILL)
        self._end()

    def stop(self) -> None:
        """End it in good order."""
        if self._process is not None:
            was_alive = self.is_alive()
            self._end()
            assert was_alive, f"the service had ended:\n{self.told()}"

    def _end(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(120)
        finally:
            process.kill()

    def close(self) -> None:
        """Let go of the port."""
        self._listening.close()


@contextmanager
def service_process(
    server: OwnServer,
    *,
    home: Path | None = None,
    urls: DatabaseUrls | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[ServiceProcess]:
    """A running service; ended afterwards.

    Args:
        home: where it keeps its files, if not beside the server's.
        urls: where it finds the database, if not where the server is.
        settings: what differs from SETTINGS.
    """
    changed = settings or {}
    merged = {name: {**SETTINGS.get(name, {}), **changed.get(name, {})} for name in {*SETTINGS, *changed}}
    service = ServiceProcess(home or server.home, urls or server.urls, merged)
    try:
        service.start()
        yield service
    finally:
        try:
            service.stop()
        finally:
            service.close()


# --- the process


class _Executors:
    """ports.ExecutorGateway by plain calls."""

    def __init__(self, config: ActorConfig) -> None:
        from actors.node import Node

        self._node = Node(config, "here")
        self.by_name: dict[str, Any] = {}

    async def start(self, executor: str, tokens: Sequence[int]) -> None:
        if executor in self.by_name:
            await self.by_name[executor].start(tokens)

    async def cancel(self, executor: str, token: int, reason: str) -> None:
        if executor in self.by_name:
            await self.by_name[executor].cancel(token, reason)

    async def kill_tree(self, node_id: str, token: int) -> Proof:
        del node_id
        return Proof.GONE if await self._node.kill_tree(token) else Proof.UNPROVEN

    async def want(self, sessions: Mapping[str, int]) -> None:
        """There are no pools: the executors are what they are."""


class _Scheduler:
    """ports.SchedulerPort by plain calls."""

    def __init__(self, scheduling: Scheduling) -> None:
        self._scheduling = scheduling

    async def nudge(self) -> None:
        self._scheduling.nudge()

    async def request(
        self, kind: str, args: Mapping[str, object], idempotency_key: str
    ) -> Mapping[str, object]:
        return await self._scheduling.request(kind, args, idempotency_key)

    async def status(self) -> Mapping[str, object]:
        return self._scheduling.status()


def _make_scheduling(config: ActorConfig, executors: _Executors) -> Scheduling:
    """Wire the scheduler, and executors that report to it."""
    from actors.executor import Executor
    from actors.scheduler import scheduling_settings
    from orchestrator.routing import choose_backend
    from orchestrator.runtime.scheduling import ExecutorInfo, Scheduling
    from orchestrator.store.scheduler import PostgresSchedulerStore

    class LocalExecutor(Executor):
        def _find_node_id(self) -> str:
            return "here"

        async def _meet_node(self) -> None:
            self._has_node.set()

        async def _report(self, *, started: Sequence[int], ended: Sequence[AttemptEnded]) -> None:
            scheduling.started(started)
            scheduling.ended(ended)

    slots = config.settings.pools.default.slots
    names = [f"executor-{AGENT_TYPE}-{uuid.uuid4().hex[:8]}" for _ in range(EXECUTORS)]

    async def executors_now() -> list[ExecutorInfo]:
        return [ExecutorInfo(executor=name, agent_type=AGENT_TYPE, slots=slots) for name in names]

    scheduling = Scheduling(
        store=PostgresSchedulerStore(
            config.direct_url,
            cluster_id=config.cluster_id,
            attempts_max=config.settings.retry.attempts_max,
            choose_backend=choose_backend,
        ),
        executors=executors,
        executors_now=executors_now,
        settings=scheduling_settings(config.settings),
    )
    executors.by_name = {name: LocalExecutor(config, name, AGENT_TYPE) for name in names}
    return scheduling


@asynccontextmanager
async def _open_service(config: ActorConfig) -> AsyncIterator[Service]:
    from orchestrator.routing import Routing
    from orchestrator.runtime.service import Service
    from orchestrator.store.engine import make_engine

    scheduling = _make_scheduling(config, _Executors(config))
    running = asyncio.create_task(scheduling.run())
    running.add_done_callback(lambda ended: None if ended.cancelled() else os._exit(1))
    service = Service(
        engine=make_engine(config.api_url),
        scheduler=_Scheduler(scheduling),
        routing=Routing.from_settings(config.settings),
        settings=config.settings,
    )
    yield service
    running.cancel()
    await service.close()


def _main() -> None:
    wishes: _Wishes = json.loads(sys.stdin.readline())
    import uvicorn

    from actors.logs import log_json
    from serve_app.app import create_app

    home, urls = Path(wishes["home"]), DatabaseUrls(**wishes["urls"])
    settings = load_settings(home, wishes["settings"])
    log_json(settings)
    config = actor_config(home, urls, settings)
    app = create_app(lambda: _open_service(config), token=TOKEN, http=settings.http)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))

    def end_with_stdin() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end_with_stdin, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=wishes["listening"])])


if __name__ == "__main__":
    _main()
