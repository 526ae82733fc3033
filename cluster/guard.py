"""Runs the Host under the launcher program, so that nothing of it survives it, in whatever way it dies.

Ray's agents and the children of sessions outlive a Host that was killed; the guard is the subreaper of them
all. It sits between the command line and the Host, has its stdio, passes signals on and ends with its exit
code. PostgreSQL gets its fast shutdown from the kernel at the moment the Host dies; the guard sends SIGTERM
to everything else at the same moment and SIGKILL after the grace.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from orchestrator.workspace.launcher import launcher_command

#: What leftovers get between SIGTERM and SIGKILL; PostgreSQL writes its last checkpoint in it.
_GRACE_S = 5.0

#: The token of no attempt.
_NO_ATTEMPT = 0


def become_guarded(argv: Sequence[str]) -> None:
    """Turn this process into the guard of `argv`; never returns.

    If the guard itself is killed, the Host gets SIGTERM and stops in good order.
    """
    command = launcher_command(
        argv,
        records=_records(),
        token=_NO_ATTEMPT,
        env=os.environ,
        grace_s=_GRACE_S,
        orphan_signal=signal.SIGTERM,
    )
    os.execve(sys.executable, command.argv, command.env)  # noqa: S606 - no shell, on purpose


def _records() -> Path:
    """Return a folder for the guard's record: not in the home, which is known only once settings are read."""
    folder = Path(tempfile.gettempdir()) / f"orchestrator-guards-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
