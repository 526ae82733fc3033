"""Process trees of the launcher, seen from outside: is one gone, and if not, end it.

For the Node actor and for whoever finds a launcher killed. A process belongs to a tree when the record names
it (pid and start time), when its environment carries the tree's marker, or when it descends from such a one.
Rule: what cannot be identified is never signalled, and keeps `confirm_gone` from saying yes.
"""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator.workspace.launcher_main import Process, boot_id, descendants, living_processes, send_signal

MARKER = "ORCHESTRATOR_TOKEN"
_POLL_INTERVAL_S = 0.02
_KILL_PATIENCE_S = 5.0
_LOOKS = 2  # one look at /proc can miss a child whose parent ends while we read


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """One launcher and its command as `(pid, start time)`."""

    launcher: tuple[int, int]
    child: tuple[int, int]


def marker(records: Path, token: int) -> str:
    """Return the value of the marker; it names the folder too, for tokens of two databases are alike."""
    return f"{token}@{records.resolve()}"


def confirm_gone(records: Path, token: int) -> bool:
    """Say whether no process of this tree is left on this machine.

    Args:
        records: the folder given to the launcher; it belongs to one machine.
        token: whose tree.

    Returns:
        True only when it is certain. A process that cleared its environment, called setsid and lost its
        launcher to SIGKILL leaves no trace at all; nothing short of a cgroup would find it.
    """
    return not any(_look(records, token) for _ in range(_LOOKS))


def kill_tree(records: Path, token: int, *, grace_s: float) -> bool:
    """End every process of this tree: SIGTERM, then SIGKILL after `grace_s`. Blocks; safe from any thread.

    Returns:
        Whether the tree is proven gone. Its records are removed then, and kept otherwise.
    """
    holders = {record.launcher[0] for record in _records(records, token)}
    for process in members(records, token):
        if process.pid not in holders:  # the launcher ends by itself once its tree is gone
            send_signal(process, signal.SIGTERM)
    give_up_at = time.monotonic() + grace_s + _KILL_PATIENCE_S
    while (left := members(records, token)) and time.monotonic() < give_up_at:
        if time.monotonic() >= give_up_at - _KILL_PATIENCE_S:
            for process in left:
                send_signal(process, signal.SIGKILL)
        time.sleep(_POLL_INTERVAL_S)
    if not confirm_gone(records, token):
        return False
    for path in records.glob(f"{token}.*.json"):
        path.unlink(missing_ok=True)
    return True


def members(records: Path, token: int) -> list[Process]:
    """Return the living processes that certainly belong to this tree, launchers included."""
    return _members(records, token, living_processes(), _records(records, token))


def _look(records: Path, token: int) -> bool:
    """Whether anything that belongs, or may belong, to this tree is seen."""
    processes = living_processes()
    found = _records(records, token)
    return bool(_members(records, token, processes, found) or _suspects(processes, found))


def _members(records: Path, token: int, processes: list[Process], found: list[_Record]) -> list[Process]:
    named = {identity for record in found for identity in (record.launcher, record.child)}
    sign = f"{MARKER}={marker(records, token)}".encode()
    roots = [
        process
        for process in processes
        if (process.pid, process.start_time) in named or _carries(process, sign)
    ]
    return roots + descendants({process.pid for process in roots}, processes)


def _suspects(processes: list[Process], found: list[_Record]) -> list[Process]:
    """Processes in the session of a recorded command: most likely of its tree, but nothing proves it."""
    leaders = {process.pid: process.start_time for process in processes}
    sessions = {
        pid: start_time
        for pid, start_time in (record.child for record in found)
        if leaders.get(pid, start_time) == start_time
    }
    return [
        process
        for process in processes
        if process.session in sessions and process.start_time >= sessions[process.session]
    ]


def _carries(process: Process, sign: bytes) -> bool:
    try:
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    except OSError:
        return False  # gone meanwhile, or of another user: not identified
    return sign in environment.split(b"\0")


def _records(records: Path, token: int) -> list[_Record]:
    """The records of this token that speak of this boot; after another boot their processes are gone."""
    found = []
    for path in records.glob(f"{token}.*.json"):
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            continue  # its launcher has just proven the tree gone
        if content["boot_id"] == boot_id():
            launcher, child = _identity(content["launcher"]), _identity(content["child"])
            found.append(_Record(launcher=launcher, child=child))
    return found


def _identity(entry: dict[str, int]) -> tuple[int, int]:
    return entry["pid"], entry["start_time"]
