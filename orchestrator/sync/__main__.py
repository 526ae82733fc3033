"""The process of sync: `python -m orchestrator.sync HOME`. The Host starts it, and again if it dies."""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.client import Client
from orchestrator.sync.registry import read_plans, remove_state, write_state
from orchestrator.sync.watcher import Watcher, run_until_signal


def main(home: Path) -> None:
    """Keep the plans of a home in step until a signal ends it."""
    watcher = Watcher(
        connect=lambda: Client.of_home(home),
        plans=read_plans(home),
        tell=lambda standing: write_state(home, standing),
    )
    try:
        run_until_signal(watcher)
    finally:
        remove_state(home)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
