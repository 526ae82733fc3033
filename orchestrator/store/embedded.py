"""Runs the PostgreSQL of the wheel as a child of this process: no server to install, none left behind.

One process owns the server of an ORCHESTRATOR_HOME (it holds `postgres.lock`); every other process that
starts one on the same home shares it, over TCP on the loopback with a password. The server gets SIGINT,
its fast shutdown, when the owner dies in whatever way. It speaks no TLS: it serves one machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import EnvironmentFault, InvariantViolation
from orchestrator.stack import process_start_time
from orchestrator.store.address import HOST, Address, Record, read_record, write_record
from orchestrator.store.embedded_data import (
    forget_unmade,
    lock_path,
    log_path,
    open_data_dir,
    open_log,
    pid_in_file,
    reason_in,
    remove_everything,
)
from orchestrator.store.embedded_layout import Layout, find_layout, wheel_binaries
from orchestrator.store.embedded_os import acquire_lock, die_with_parent, end_server

_OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_connections": "200",
    "wal_compression": "on",
    "max_parallel_workers_per_gather": "0",  # small machine; and containers have a tiny /dev/shm
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
}
_POLL_S = 0.03
_SILENCE_MAX_S = 60.0  # without any answer; a server that recovers from a crash answers "not yet"
_SHARE_TIMEOUT_S = 60.0
_FAST_SHUTDOWN_MAX_S = 60.0
_IMMEDIATE_SHUTDOWN_MAX_S = 10.0
_BIND_TRIES = 3


class EmbeddedPostgres:
    """The PostgreSQL of one ORCHESTRATOR_HOME.

    Args:
        home: the folder; made if missing. Holds `postgres.json`, `postgres.lock`, `logs/postgres.log`
            and, unless root's account cannot enter it, the data folder `postgres`.
        version: major version of the server, `18` or `16`.
    """

    def __init__(self, *, home: Path, version: str = "18") -> None:
        self.home = home.resolve()
        self.version = version
        self._lock: int | None = None
        self._layout: Layout | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._address: Address

    def start(self) -> Address:
        """Start the server, or share the one that another process started; returns once it answers.

        Call it again after the server died: it ends what is left of it and recovers.

        Raises:
            EnvironmentFault: disk, permission, wheel, account or port; nothing half-made is left.
            InvariantViolation: called outside the main thread.
        """
        _require_linux()
        _require_main_thread()
        if self._process is not None and self.is_alive():
            return self._address
        with _os_errors_as_faults(self.home):
            self.home.mkdir(parents=True, exist_ok=True)
            shared = self._take_lock_or_share()
            if shared is not None:
                return shared
            try:
                return self._serve()
            except BaseException:
                self.stop()
                with contextlib.suppress(OSError):  # the first error is the one to tell
                    forget_unmade(self.home)
                raise

    def is_alive(self) -> bool:
        """Return whether the server, ours or the shared one, is alive; a zombie is dead."""
        if self._process is not None:
            return self._process.poll() is None
        return attach(self.home) is not None

    def stop(self) -> None:
        """End the server if it is ours: fast shutdown, after 60 s immediate shutdown, then SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            self._disown()
            _end_child(process)
        if self._layout is not None:
            end_server(self._layout.cluster_name, fast_timeout_s=_IMMEDIATE_SHUTDOWN_MAX_S)
            self._layout = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock_or_share(self) -> Address | None:
        """Hold the lock and return None, or return the address of the server of who holds it."""
        deadline = time.monotonic() + _SHARE_TIMEOUT_S
        while self._lock is None:
            self._lock = acquire_lock(lock_path(self.home))
            if self._lock is not None:
                break
            address = attach(self.home)
            if address is not None:
                return address
            if time.monotonic() > deadline:
                raise EnvironmentFault(
                    f"Another process holds {lock_path(self.home)}, but its PostgreSQL does not answer.",
                    remedy=f"Read {log_path(self.home)}; stop that process with `orchestrator down`.",
                )
            time.sleep(_POLL_S)
        return None

    def _serve(self) -> Address:
        layout = self._layout = find_layout(self.home, version=self.version)
        leftover = end_server(layout.cluster_name, fast_timeout_s=_FAST_SHUTDOWN_MAX_S)
        if leftover:
            raise EnvironmentFault(
                f"Processes {leftover} of an earlier PostgreSQL on {layout.data_dir} do not end.",
                remedy="Restart the machine if they hang in the kernel; check the disk first.",
            )
        record = open_data_dir(self.home, layout, version=self.version)
        for tries_left in reversed(range(_BIND_TRIES)):
            record = replace(record, port=_choose_port(record.port))
            try:
                self._launch(layout, port=record.port)
                break
            except EnvironmentFault:
                if tries_left == 0 or _is_free(record.port):
                    raise
        pid = os.getpid()
        record = replace(record, owner_pid=pid, owner_started=process_start_time(pid) or 0)
        write_record(self.home, record)
        self._address = _address(record, is_owner=True)
        return self._address

    def _launch(self, layout: Layout, *, port: int) -> None:
        options = _OPTIONS | {"port": str(port), "cluster_name": layout.cluster_name}
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with open_log(self.home) as log:
            log_start = log.tell()
            self._process = subprocess.Popen(
                [layout.binaries / "postgres", "-D", layout.data_dir, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us, not for the server
                preexec_fn=die_with_parent(),  # noqa: PLW1509  it makes two system calls, takes no lock
                **layout.popen_options(),
            )
        self._await_answer(layout, port=port, log_start=log_start)

    def _await_answer(self, layout: Layout, *, port: int, log_start: int) -> None:
        """Return when our own child accepts connections, however long it recovers from a crash."""
        process = self._process
        assert process is not None
        deadline = time.monotonic() + _SILENCE_MAX_S
        while True:
            answer = _ask(layout.binaries, port=port)
            if process.poll() is not None:
                raise self._start_fault(f"ended with exit code {process.returncode}", log_start=log_start)
            if answer == _ACCEPTS and pid_in_file(layout.data_dir) == process.pid:
                return
            if answer == _REJECTS:
                deadline = time.monotonic() + _SILENCE_MAX_S
            if time.monotonic() > deadline:
                raise self._start_fault(f"gave no answer for {_SILENCE_MAX_S:.0f} s", log_start=log_start)
            time.sleep(_POLL_S)

    def _start_fault(self, what: str, *, log_start: int) -> EnvironmentFault:
        log = log_path(self.home)
        with log.open("rb") as file:
            file.seek(log_start)
            tail = reason_in(file.read().decode(errors="replace"))
        return EnvironmentFault(
            f"PostgreSQL {what} while starting: {tail}",
            remedy=f"Read {log}; free disk space and memory, then start again.",
        )

    def _disown(self) -> None:
        """Let nobody share the server from now on; a full disk or a lost file must not keep it running."""
        with contextlib.suppress(OSError, EnvironmentFault):
            record = read_record(self.home)
            if record is not None:
                write_record(self.home, replace(record, owner_pid=0, owner_started=0))


def attach(home: Path) -> Address | None:
    """Return the address of the living server of `home`, which another process owns; None if none lives.

    Raises:
        EnvironmentFault: `postgres.json` belongs to another user or is damaged, or the wheel is missing.
    """
    record = read_record(home.resolve())
    if (
        record is None
        or record.owner_pid == 0
        or process_start_time(record.owner_pid) != record.owner_started
    ):
        return None
    if _ask(wheel_binaries(record.version), port=record.port) != _ACCEPTS:
        return None
    return _address(record, is_owner=record.owner_pid == os.getpid())


def purge(home: Path) -> None:
    """Remove the database of `home` and everything else made for it, under /var/lib too.

    Raises:
        EnvironmentFault: a process still runs this server.
    """
    home = home.resolve()
    if not home.is_dir():
        return
    lock = acquire_lock(lock_path(home))
    if lock is None:
        raise EnvironmentFault(
            f"The database of {home} is in use.", remedy="Run `orchestrator down` first, then repeat."
        )
    try:
        with _os_errors_as_faults(home):
            remove_everything(home)
    finally:
        os.close(lock)


def _end_child(process: subprocess.Popen[bytes]) -> None:
    for number, timeout_s in (
        (signal.SIGINT, _FAST_SHUTDOWN_MAX_S),
        (signal.SIGQUIT, _IMMEDIATE_SHUTDOWN_MAX_S),
        (signal.SIGKILL, None),
    ):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
            return


_ACCEPTS, _REJECTS = 0, 1  # exit codes of pg_isready


def _ask(binaries: Path, *, port: int) -> int:
    """Return what pg_isready says of the server on `port`: accepts, rejects (starting), or no answer."""
    return subprocess.run(
        [binaries / "pg_isready", "-q", "-h", HOST, "-p", str(port), "-t", "3"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={},
        check=False,
    ).returncode


def _choose_port(last: int) -> int:
    if last and _is_free(last):
        return last
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _address(record: Record, *, is_owner: bool) -> Address:
    return Address(port=record.port, passwords=record.passwords, is_owner=is_owner)


def _require_linux() -> None:
    if sys.platform != "linux":
        raise EnvironmentFault(
            "The embedded PostgreSQL runs on Linux only: elsewhere it could not be made to die with us.",
            remedy="Set DATABASE_URL to a PostgreSQL 15 or newer with pgvector 0.8 or newer.",
        )


def _require_main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise InvariantViolation(
            "EmbeddedPostgres.start() was called outside the main thread: the server dies with its thread."
        )


@contextlib.contextmanager
def _os_errors_as_faults(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or home
        raise EnvironmentFault(
            f"The database of {home} cannot be kept: {where}: {error.strerror or error}.",
            remedy="Free disk space, mend the permissions, or set another ORCHESTRATOR_HOME.",
        ) from error
