"""What the embedded PostgreSQL needs of Linux: locks and children that die with us, processes by title.

Everything is read from /proc fields that are open to every user, so that root without further
capabilities, as in a container, sees the same as an ordinary user.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_POLL_S = 0.02


def acquire_lock(path: Path, *, is_folder: bool = False, is_blocking: bool = False) -> int | None:
    """Make `path` if needed and lock it until the returned descriptor is closed or this process ends.

    The lock counts only if `path` is still the file that was locked: a remover may have been faster.

    Returns:
        The descriptor, or None if another process holds the lock and `is_blocking` is false.
    """
    while True:
        if is_folder:
            path.mkdir(exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if is_blocking else fcntl.LOCK_NB))
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def die_with_parent() -> Callable[[], None]:
    """Return a `preexec_fn` by which the child gets SIGINT when the thread that forked it ends.

    For PostgreSQL SIGINT is the fast shutdown. CPython calls it after the change of user, which would
    clear the request (prctl(2)).
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def set_death_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
        if os.getppid() != parent:  # it died before the request was made
            os._exit(1)

    return set_death_signal


def end_server(cluster_name: str, *, fast_timeout_s: float) -> list[int]:
    """End every process of the server `cluster_name`; return the pids that would not go.

    A postmaster gets `fast_timeout_s` for its fast shutdown. Back ends without one are only ended:
    what they did not commit is lost anyway, and what they committed is in the write-ahead log.
    """
    for signal_number, timeout_s in (
        (signal.SIGINT, fast_timeout_s),
        (signal.SIGQUIT, 2.0),
        (signal.SIGKILL, 5.0),
    ):
        found = server_processes(cluster_name)
        if signal_number == signal.SIGINT and not any(found.values()):
            continue
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
        deadline = time.monotonic() + timeout_s
        while server_processes(cluster_name) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    return list(server_processes(cluster_name))


def server_processes(cluster_name: str) -> dict[int, bool]:
    """Return pid → is it the postmaster, of the living processes that carry the name in their title.

    The postmaster shows its arguments (`-c cluster_name=…`), its children `postgres: <name>: …`; the
    title of a zombie is empty.
    """
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            is_child = arguments[0].startswith(f"postgres: {cluster_name}:")
            is_postmaster = arguments[0].endswith("/postgres") and f"cluster_name={cluster_name}" in arguments
            if is_child or is_postmaster:
                found[int(entry.name)] = is_postmaster
    return found
