"""What a running stack says of itself: `stack.json` in ORCHESTRATOR_HOME.

The Host alone writes it; the command line and the Python clients read it to find the stack. A file whose
process is gone is no stack: a pid counts only together with its start time.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from orchestrator.errors import EnvironmentFault

STACK_FILE = "stack.json"
TOKEN_FILE = "token"  # noqa: S105 - the name of a file
HOST_LOG = Path("logs") / "host.log"
HOST_PROGRESS = Path("logs") / "host.progress"

_ENDED = {"Z", "X"}  # a zombie still has its entry in /proc, and does no work


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One Host with what it started.

    Attributes:
        start_time: clock ticks between boot and the start of `pid`, field 22 of /proc/PID/stat.
        mode: `up` serves HTTP until `down`; `run` works on one plan for one command line.
        url: root of the HTTP API, such as `http://127.0.0.1:8000`; empty in mode `run`.
        state: `starting`, `ready` or `stopping`.
        since: UTC time of the start, ISO 8601.
    """

    pid: int
    start_time: int
    version: str
    mode: str
    url: str = ""
    ray_address: str = ""
    dashboard_url: str = ""
    state: str = "starting"
    since: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether the very process that wrote this still runs."""
        return process_start_time(self.pid) == self.start_time


def process_start_time(pid: int) -> int | None:
    """Return the start of a process in clock ticks since boot; None if no process of that pid runs.

    Source: proc_pid_stat(5), field 22. The name in field 2 may hold blanks and brackets, so fields are
    counted behind its last bracket.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    after_name = text.rpartition(")")[2].split()
    return None if after_name[0] in _ENDED else int(after_name[19])


def read_stack(home: Path) -> Stack | None:
    """Return the stack that runs in this home, None if there is none.

    Raises:
        EnvironmentFault: the file cannot be read or is not ours.
    """
    path = home / STACK_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        stack = Stack(**{field.name: found[field.name] for field in fields(Stack) if field.name in found})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise EnvironmentFault(
            f"{path} cannot be read: {error}.", remedy="Remove the file if nothing runs there."
        ) from error
    return stack if stack.is_alive else None


def require_stack(home: Path) -> Stack:
    """Return the stack that runs in this home.

    Raises:
        EnvironmentFault: none does.
    """
    stack = read_stack(home)
    if stack is None:
        raise EnvironmentFault("Nothing is running here.", remedy="Start it with `orchestrator up`.")
    return stack


def write_stack(home: Path, stack: Stack) -> None:
    """Replace the file in one step, readable by its owner alone."""
    temporary = home / f".{STACK_FILE}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8", opener=_open_private) as file:
        json.dump(asdict(stack), file, indent=2)
    temporary.replace(home / STACK_FILE)


def remove_stack(home: Path) -> None:
    """Remove the file; it may be gone already."""
    (home / STACK_FILE).unlink(missing_ok=True)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
