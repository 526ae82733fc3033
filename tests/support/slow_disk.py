"""A disk that takes its time, or fails: strace makes every flush of a server slow, or end with an error."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.own_server import OwnServer


def require_strace() -> None:
    """Skip the test where strace is missing or may not attach to a process."""
    if shutil.which("strace") is None:
        pytest.skip("NOT RUN: a slow or failing disk (strace is missing)")
    with subprocess.Popen(["sleep", "60"]) as victim:
        try:
            tried = subprocess.run(
                ["strace", "-qq", "-p", str(victim.pid)],
                timeout=1,
                check=False,
                capture_output=True,
                text=True,
            )
            pytest.skip(f"NOT RUN: a slow or failing disk (strace: {tried.stderr.strip()})")
        except subprocess.TimeoutExpired:
            pass  # it is attached
        finally:
            victim.kill()


@contextmanager
def injected(server: OwnServer, fault: str, *, log: Path, follow: bool) -> Iterator[None]:
    """Have every `fdatasync` of a server's processes meet a fault, as strace's `inject` names it.

    Args:
        log: where strace notes each call.
        follow: reach processes that the server starts from now on too; else only those that live.
    """
    found = list(server.processes())
    pids = [part for pid in found for part in ("-p", str(pid))]
    arguments = [
        "-qq",
        *(["-f"] if follow else []),
        "-e",
        "trace=fdatasync",
        "-e",
        f"inject=fdatasync:{fault}",
    ]
    strace = subprocess.Popen(
        ["strace", *arguments, "-o", str(log), *pids], stderr=subprocess.PIPE, text=True
    )
    try:
        _await_attached(found, strace.pid)
        yield
    finally:
        strace.send_signal(signal.SIGTERM)  # it lets go of everybody and ends
        strace.communicate(timeout=60)


def _await_attached(pids: list[int], tracer: int) -> None:
    deadline_s = time.monotonic() + 60
    while not {_tracer(pid) for pid in pids} <= {tracer, None}:
        assert time.monotonic() < deadline_s, "strace did not attach to every process of the server"
        time.sleep(0.02)


def _tracer(pid: int) -> int | None:
    """Return the pid of a process's tracer, 0 if it has none; None when the process is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return int(status.partition("TracerPid:")[2].split()[0])
