"""A stack whose Host is the process of the test, and a home in which it is up."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.stack import TOKEN_FILE, Stack, process_start_time, write_stack


def own_stack(**told: Any) -> Stack:
    """A stack of this process that is ready; `told` are fields in which it differs."""
    start_time = process_start_time(os.getpid())
    assert start_time is not None
    ready = Stack(pid=os.getpid(), start_time=start_time, version=__version__, mode="up", state="ready")
    return replace(ready, **told)


def write_own_stack(home: Path, *, url: str, token: str) -> None:
    """Have whoever looks into a home find a server there, and the token for it."""
    home.mkdir(parents=True, exist_ok=True)
    (home / TOKEN_FILE).write_text(token + "\n")
    write_stack(home, own_stack(url=url))
