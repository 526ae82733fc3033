"""The process of sync: `python -m orchestrator.sync HOME` keeps plans in step until a signal ends it."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from orchestrator.client import Client
from orchestrator.sync.registry import read_plans, remove_state, write_state
from orchestrator.sync.watcher import Watcher


def keep_in_step(home: Path) -> None:
    """Keep the plans of a home in step until a signal ends it."""
    watcher = Watcher(
        connect=lambda: Client.of_home(home),
        plans=read_plans(home),
        tell=lambda plans: write_state(home, plans),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watcher.stop())
    write_state(home, {})
    try:
        watcher.run()
    finally:
        remove_state(home)


if __name__ == "__main__":
    keep_in_step(Path(sys.argv[1]))
