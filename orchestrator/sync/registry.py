"""Which plans are kept in step, and by which process: two small files in ORCHESTRATOR_HOME.

`sync.json` is written by commands and read by the process; `sync-state.json` the other way round.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import EnvironmentFault
from orchestrator.stack import process_start_time

SYNC_FILE = "sync.json"
STATE_FILE = "sync-state.json"
SYNC_LOG = Path("logs") / "sync.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncState:
    """The process that keeps plans in step, and how each of them stands, by its id.

    Attributes:
        start_time: see stack.Stack; a pid counts only together with it.
        plans: the last round of each plan as plain values, with `path` and `error`.
    """

    pid: int
    start_time: int
    plans: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_plans(home: Path) -> dict[str, Path]:
    """Return the path of each plan that is kept in step, by the plan's id."""
    return {ref: Path(path) for ref, path in _read(home / SYNC_FILE).items()}


def write_plans(home: Path, plans: Mapping[str, Path]) -> None:
    """Replace what is kept in step."""
    _write(home / SYNC_FILE, {ref: str(path) for ref, path in plans.items()})


def read_state(home: Path) -> SyncState | None:
    """Return the process that is at it now, None if there is none."""
    found = _read(home / STATE_FILE)
    if not found:
        return None
    state = SyncState(pid=found["pid"], start_time=found["start_time"], plans=found["plans"])
    return state if process_start_time(state.pid) == state.start_time else None


def write_state(home: Path, plans: Mapping[str, Mapping[str, Any]]) -> None:
    """Tell how this process stands."""
    pid = os.getpid()
    state = SyncState(pid=pid, start_time=process_start_time(pid) or 0, plans=plans)
    _write(home / STATE_FILE, asdict(state))


def remove_state(home: Path) -> None:
    """Tell that this process ends."""
    (home / STATE_FILE).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise EnvironmentFault(f"{path} cannot be read: {error}.", remedy="Remove the file.") from error


def _write(path: Path, value: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=2), encoding="utf-8")
    temporary.replace(path)
