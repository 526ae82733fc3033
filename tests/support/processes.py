"""What processes find that tests start: their folder, their environment, and the token of their Ray."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Whoever asks Ray for anything without having joined one is told so; Ray would else start, or join any Ray
#: of this machine.
NO_RAY_UNASKED = {"RAY_ENABLE_AUTO_CONNECT": "0"}

#: For sessions that tell their pids, write a log beside their workspace, or kill their executor.
UNCONTAINED = {"ORCHESTRATOR_SESSIONS__SANDBOX": "off", "ORCHESTRATOR_SESSIONS__UID_FIRST": "0"}

_RAY_TOKEN = "5" * 64


def foreign_environment() -> dict[str, str]:
    """The environment of a program that knows nothing of our Ray."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "ORCHESTRATOR_"))
    }
    return kept | NO_RAY_UNASKED | {"PYTHONPATH": str(ROOT)}


def ray_token_file(home: Path) -> Path:
    """Make the token of the Ray of a home."""
    path = home / "ray-token"
    path.touch(mode=0o600)
    path.write_text(_RAY_TOKEN)
    return path
