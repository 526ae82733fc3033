"""What keeps sessions from reaching more than their workspace: bounds by the settings, secrecy of executors.

An executor holds the key of the model and the password of the database. So that a session of the same user
reads neither in /proc, it takes secrets out of its environment and forbids the kernel to show its memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Iterable
from pathlib import Path

from orchestrator.settings import Settings
from orchestrator.workspace.launcher_main import prctl
from orchestrator.workspace.limits import ProcessLimits
from orchestrator.workspace.sandbox import Sandbox

_PR_SET_DUMPABLE = 4

#: Fields of /proc/PID/stat after the name in parentheses, proc(5): where the environment was when it started.
_ENV_START, _ENV_END = 47, 48

#: Names that say that a secret follows.
_SECRET_NAME = re.compile(r"KEY|TOKEN(?!_PATH)|SECRET|PASSW|CREDENTIAL|DATABASE_URL|PGPASS", re.IGNORECASE)


def sandbox_of(settings: Settings) -> Sandbox:
    """Return the sandbox of the sessions of this machine."""
    sessions = settings.sessions
    return Sandbox(
        sessions.sandbox,
        hidden=[settings.home],
        readable=sessions.sandbox_readable,
        writable=sessions.sandbox_writable,
        has_network=sessions.network,
    )


def limits_of(settings: Settings) -> ProcessLimits:
    """Return the limits of their processes."""
    sessions = settings.sessions
    return ProcessLimits(
        open_files=sessions.open_files_max,
        processes=sessions.processes_max,
        file_mb=sessions.file_mb_max,
        memory_mb=sessions.memory_mb_max,
    )


def uids_of(settings: Settings) -> range:
    """Return as whom sessions of plans without a workdir run where we are root; empty = as root."""
    first = settings.sessions.uid_first
    return range(first, first + settings.sessions.uid_count) if first else range(0)


def keep_secret(secrets: Iterable[str] = ()) -> None:
    """Forget the secrets in the environment of this process, and let no process of its user look into it.

    Forgotten is every variable that holds one of `secrets` or whose name says that it is one, in /proc too.
    Root, and whoever has the capability to trace, sees the memory nevertheless.
    """
    known = [secret for secret in secrets if secret]
    names = [
        name
        for name, value in os.environ.items()
        if _SECRET_NAME.search(name) or any(secret in value for secret in known)
    ]
    for name in names:
        del os.environ[name]
    _wipe([f"{name}=".encode() for name in names])
    prctl(_PR_SET_DUMPABLE, 0)


def _wipe(heads: list[bytes]) -> None:
    """Overwrite variables where they stood when this process started; Python works on a copy."""
    with contextlib.suppress(OSError):
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        start, end = int(fields[_ENV_START]), int(fields[_ENV_END])
        at = start
        for entry in ctypes.string_at(start, end - start).split(b"\0"):
            if any(entry.startswith(head) for head in heads):
                ctypes.memset(at, 0, len(entry))
            at += len(entry) + 1
