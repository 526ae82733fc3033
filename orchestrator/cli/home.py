"""What runs in this user's home, and how to reach it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import EnvironmentFault
from orchestrator.stack import Stack, read_stack

if TYPE_CHECKING:
    from orchestrator.client import Client

_START_WAIT_MAX_S = 90.0
_POLL_S = 0.2


def home_folder() -> Path:
    """Return ORCHESTRATOR_HOME; raises SettingsError when a setting is wrong."""
    from orchestrator.settings import load_settings

    return load_settings().home


def make_home(home: Path) -> bool:
    """Make the home and a settings file with every key explained; return False if one was there.

    Raises:
        EnvironmentFault: the folder cannot be made or written; nothing half-written stays.
    """
    from orchestrator.settings_example import settings_example

    if any((home / name).exists() for name in ("settings.toml", "settings.json")):
        return False
    temporary = home / ".settings.toml.new"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            temporary.touch(mode=0o600)  # it may come to hold keys
            temporary.write_text(settings_example(), encoding="utf-8")
            temporary.replace(home / "settings.toml")
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"The home {home} cannot be written: {error.strerror or error}.",
            remedy="Free some space or mend the permissions, or set ORCHESTRATOR_HOME to another folder.",
        ) from error
    return True


def served_stack(home: Path) -> Stack | None:
    """Return the stack that serves HTTP here, waiting for one that is starting; None if there is none.

    Raises:
        EnvironmentFault: it is stopping, it does not get ready, or a `run` uses the home.
    """
    deadline_s = time.monotonic() + _START_WAIT_MAX_S
    while (stack := read_stack(home)) is not None:
        if stack.mode == "run":
            raise busy(stack, home)
        if stack.state == "ready":
            return stack
        if stack.state == "stopping" or time.monotonic() > deadline_s:
            raise EnvironmentFault(
                f"The stack in {home} is {stack.state} (process {stack.pid}).",
                remedy="Try again in a moment; `orchestrator status` tells how it stands.",
            )
        time.sleep(_POLL_S)
    return None


def connect(url: str = "", token: str = "") -> Client:
    """Return a client of the stack that runs here, or of the server at `url`.

    Raises:
        EnvironmentFault: nothing runs here.
    """
    from orchestrator.client import Client
    from orchestrator.client.transport import Endpoint

    if url:
        return Client(Endpoint(url=url, token=token))
    home = home_folder()
    served_stack(home)
    return Client.of_home(home)


def busy(stack: Stack, home: Path) -> EnvironmentFault:
    """Return the error for a home in which another `run` is at work."""
    return EnvironmentFault(
        f"Another `run` (process {stack.pid}) is at work in {home}.",
        remedy=f"Wait for its end, stop it with `kill {stack.pid}`, or set another ORCHESTRATOR_HOME.",
    )
