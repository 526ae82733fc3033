"""Joins the Ray cluster of a home from a program that is not part of it."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

from actors.options import NAMESPACE
from orchestrator.errors import EnvironmentFault

RAY_TOKEN_FILE = "ray-token"  # noqa: S105 - the name of a file

_CONNECT_TIMEOUT_S = 5.0


def join_ray(address: str, *, home: Path) -> bool:
    """Join the cluster; return False if this process belongs to one already.

    Args:
        address: `host:port` of Ray's GCS.
        home: ORCHESTRATOR_HOME; its Ray token is shown to the cluster.

    Raises:
        EnvironmentFault: nothing answers there, or the token is refused.
    """
    _configure(home / RAY_TOKEN_FILE)
    import ray  # reads its configuration when it is imported

    if ray.is_initialized():
        return False
    _require_listener(address)
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (RuntimeError, ConnectionError) as error:
        raise EnvironmentFault(
            f"Ray at {address} cannot be joined: {error}.",
            remedy="Check that its Ray is of the same version and that the ray-token of the home is its own.",
        ) from error
    return True


def _configure(token_file: Path) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if token_file.exists():
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(token_file)
        # Our own Ray stays on the loopback address; whoever joins it must do so too.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def _require_listener(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            f"No Ray answers at {address or 'an empty address'}: {error}.",
            remedy="Start the stack with `orchestrator up`, or give the address of its Ray.",
        ) from error
