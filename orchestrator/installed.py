"""Which optional parts of the orchestrator are installed on this machine."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path


def claude_code_program() -> Path | None:
    """Return the program of Claude Code that sessions run; None if the extra `claude-code` is missing.

    The SDK brings it; an SDK without it takes the one on PATH.
    """
    sdk = find_spec("claude_agent_sdk")
    if sdk is None or sdk.origin is None:
        return None
    bundled = Path(sdk.origin).parent / "_bundled" / "claude"
    found = str(bundled) if bundled.is_file() else shutil.which("claude")
    return Path(found) if found else None
