"""Our own Ray on this machine: one head node, started and ended by this process, on the loopback address.

It differs from what `ray.init()` starts in what a first task has to wait for. Ray waits several seconds for
its dashboard, then again for the agents of the raylet. Neither is needed to run actors: here the dashboard
comes later, the agents get their ports from us and lower priority. Written for the one version of Ray that
pyproject.toml pins, because it builds on Ray's own `Node`.

Every call blocks and belongs on one thread that lives as long as Ray shall: the kernel ends Ray's processes
when the thread that started them ends (PR_SET_PDEATHSIG, prctl(2)).
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import _raylet
from ray._private import node, parameter
from ray._private.ray_constants import PROCESS_TYPE_DASHBOARD, PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET

from actors.options import NAMESPACE
from cluster.ray_environment import GCS_FOLDER
from orchestrator.errors import EnvironmentFault
from orchestrator.workspace.launcher_main import Process, living_processes, send_signal

HOST = "127.0.0.1"
GCS = PROCESS_TYPE_GCS_SERVER
RAYLET = PROCESS_TYPE_RAYLET
DASHBOARD = PROCESS_TYPE_DASHBOARD

# Ray's own types for these say less than its code.
_Node: Any = node.Node
_RayParams: Any = parameter.RayParams
_core: Any = _raylet

#: Below the ports that the kernel gives out by itself, so that nobody gets ours before an agent binds it.
_AGENT_PORTS = range(20_000, 32_000)

#: A port can still be taken between our look and the bind.
_START_TRIES = 2

#: Part of the command line of Ray's dashboard.
_DASHBOARD_PROGRAM = b"/dashboard/dashboard.py"

#: For a start of the dashboard that is given up, and between two looks at it.
_GIVE_UP_MAX_S = 5.0
_GIVE_UP_POLL_S = 0.05

#: nice(2) of agents and dashboard: they show what happens, sessions make it happen.
LOW_PRIORITY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOptions:
    """What our own Ray offers.

    Attributes:
        folder: Ray's temporary folder; its path is short.
        gcs_folder: new folder for the tables of the GCS.
        num_cpus: cores offered; 0 = as many as the machine has.
        resources: custom resources by name.
    """

    folder: Path
    gcs_folder: Path
    object_store_bytes: int
    num_cpus: int
    resources: Mapping[str, float]


class _HeadNode(_Node):  # type: ignore[misc]
    """Ray's head node without its waits."""

    def start_api_server(self, **_: Any) -> None:
        """Start no dashboard now; see `start_dashboard`."""

    def start_dashboard(self, *, port: int) -> str:
        """Start what shows the state of the cluster, or start it again; return `host:port`."""
        self._ray_params.dashboard_port = port
        self.kill_monitor(check_alive=False)
        self.kill_dashboard(check_alive=False)
        self.start_monitor()
        super().start_api_server(include_dashboard=True, raise_on_failure=True)
        return str(self.webui_url)

    def start_raylet(self, *args: Any, **kwargs: Any) -> None:
        """Start the raylet with the ports of its agents known, so that it need not wait for them."""
        params = self._ray_params
        ports = {
            _core.METRICS_AGENT_PORT_NAME: params.metrics_agent_port,
            _core.METRICS_EXPORT_PORT_NAME: params.metrics_export_port,
            _core.DASHBOARD_AGENT_LISTEN_PORT_NAME: params.dashboard_agent_listen_port,
            _core.RUNTIME_ENV_AGENT_PORT_NAME: params.runtime_env_agent_port,
        }
        for name, port in ports.items():
            _core.persist_port(self.get_session_dir_path(), self.node_id, name, port)
        super().start_raylet(*args, **kwargs)

    def restart_gcs_server(self) -> None:
        """Start the GCS again where it was."""
        self.kill_gcs_server(check_alive=False)  # forgets the address too, but not the port
        self.start_gcs_server()

    def process(self, kind: str) -> Any:
        """Return the Popen of one of Ray's processes, None if it was not started."""
        found = self.all_processes.get(kind)
        return found[0].process if found else None


class RayHead:
    """Our own Ray, from start to stop."""

    def __init__(self, options: HeadOptions) -> None:
        self._options = options
        self._node: _HeadNode | None = None
        self._dashboard_start = threading.Lock()  # held by whoever starts the dashboard
        self.address = ""  #: `host:port` of the GCS; the same after a restart of the GCS

    def start(self) -> None:
        """Start the head and join it as a driver.

        Raises:
            EnvironmentFault: Ray did not start; the message holds the end of its logs.
        """
        os.environ[GCS_FOLDER] = str(self._options.gcs_folder)
        for tries_left in reversed(range(_START_TRIES)):
            try:
                self._start()
                break
            except Exception as error:  # Ray raises what it likes
                self.stop()
                if tries_left == 0:
                    raise self._fault(error) from error

    def _start(self) -> None:
        self._node = _HeadNode(self._params(), head=True, shutdown_at_exit=False, ray_init_cluster=True)
        _lower_priority_of_agents(self._node.process(RAYLET).pid)
        self.address = str(self._node.gcs_address)
        ray.init(address=self.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)

    def _params(self) -> Any:
        options = self._options
        metrics_agent, metrics_export, dashboard_agent, runtime_env_agent = _free_ports(4)
        return _RayParams(
            node_ip_address=HOST,
            dashboard_host=HOST,
            temp_dir=str(options.folder),
            num_cpus=options.num_cpus or None,
            resources=dict(options.resources),
            object_store_memory=options.object_store_bytes,
            include_log_monitor=False,  # it copies the output of workers to drivers; ours log to files
            no_monitor=True,  # later, with the dashboard
            metrics_agent_port=metrics_agent,
            metrics_export_port=metrics_export,
            dashboard_agent_listen_port=dashboard_agent,
            runtime_env_agent_port=runtime_env_agent,
        )

    @property
    def node_id(self) -> str:
        """Ray's id of this node, hex."""
        assert self._node is not None
        return str(self._node.node_id)

    def start_dashboard(self, *, port: int) -> str:
        """Start the dashboard and return its URL; takes seconds. For a thread of low priority that stays.

        Args:
            port: wanted; another is taken if it is in use.

        Raises:
            EnvironmentFault: it did not start.
        """
        wanted = port if port and _is_free(port) else _free_ports(1)[0]
        with self._dashboard_start:
            try:
                if self._node is None:
                    raise RuntimeError("Ray was stopped.")
                return f"http://{self._node.start_dashboard(port=wanted)}"
            except Exception as error:  # Ray raises what it likes
                raise self._fault(error) from error

    def is_dead(self, kind: str) -> bool:
        """Tell whether the process `GCS`, `RAYLET` or `DASHBOARD` was started and has ended."""
        process = self._node.process(kind) if self._node else None
        return process is not None and process.poll() is not None

    def restart_gcs(self) -> None:
        """Start the GCS again on its port and its tables; actors and drivers find it by themselves."""
        assert self._node is not None
        self._node.restart_gcs_server()

    def stop(self) -> None:
        """End Ray with everything that runs in it; harmless when repeated."""
        with self._without_dashboard_start():
            with contextlib.suppress(Exception):  # a driver whose raylet is gone complains; the node matters
                ray.shutdown()
            node, self._node = self._node, None
            if node is not None:
                raylet = node.process(RAYLET)
                workers = _children(raylet.pid) if raylet is not None else []
                node.kill_all_processes(check_alive=False, allow_graceful=True)
                if raylet is not None:
                    _end_workers(raylet.pid, workers)

    @contextlib.contextmanager
    def _without_dashboard_start(self) -> Iterator[None]:
        """Have a start of the dashboard fail, and no other begin.

        Without a GCS Ray would wait a minute for one in that thread, and then end this process.
        """
        give_up_s = time.monotonic() + _GIVE_UP_MAX_S
        while not (is_ours := self._dashboard_start.acquire(timeout=_GIVE_UP_POLL_S)):
            if self.is_dead(GCS) or time.monotonic() > give_up_s:
                break
            _end_dashboards()
        try:
            yield
        finally:
            if is_ours:
                self._dashboard_start.release()

    def _fault(self, error: Exception) -> EnvironmentFault:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        logs = self._options.folder / "session_latest" / "logs"
        return EnvironmentFault(
            f"Ray did not start: {reason[-1]} Its logs end with: {_last_words(logs) or 'nothing'}",
            remedy=f"Read the logs in {logs}; free memory, disk and /dev/shm, then start again.",
        )


def _last_words(logs: Path) -> str:
    """Return the last line that each of the processes without which Ray cannot start wrote as an error."""
    words = []
    for name in ("gcs_server.err", "raylet.err", "dashboard.err"):
        with contextlib.suppress(OSError):
            lines = (logs / name).read_text(encoding="utf-8", errors="replace").split("\n")
            words += [line.strip() for line in lines if line.strip()][-1:]
    return " / ".join(words)


def _lower_priority_of_agents(raylet_pid: int) -> None:
    """Lower the priority of the raylet's first children, its agents; sessions come first."""
    for process in _children(raylet_pid):
        with contextlib.suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, process.pid, LOW_PRIORITY)


def _end_dashboards() -> None:
    """End the dashboards that this process has started; one that is starting is in no table yet."""
    for process in _children(os.getpid()):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if _DASHBOARD_PROGRAM in Path(f"/proc/{process.pid}/cmdline").read_bytes():
                send_signal(process, signal.SIGKILL)


def _children(pid: int) -> list[Process]:
    return [process for process in living_processes() if process.parent == pid]


def _end_workers(raylet_pid: int, children: list[Process]) -> None:
    """End what a raylet left: workers notice its death only after seconds, in which they go on working.

    Args:
        children: that it had in the end; some of them show nobody their environment.
    """
    for process in children:
        send_signal(process, signal.SIGKILL)
    mark = f"RAY_RAYLET_PID={raylet_pid}".encode()
    for process in living_processes():
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is another user's
            if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                send_signal(process, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    free = []
    for port in random.sample(_AGENT_PORTS, k=len(_AGENT_PORTS)):  # chance, so that two Hosts differ
        if _is_free(port):
            free.append(port)
        if len(free) == count:
            break
    return free


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
