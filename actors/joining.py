"""Joins the Ray cluster of a home from a program that is not part of it."""

from __future__ import annotations

import logging
import os
import socket
import sys
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
        EnvironmentFault: nothing answers there, the token is refused, or Ray was imported too early.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        return False
    _require_listener(address)
    _configure(home / RAY_TOKEN_FILE)
    import ray

    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (RuntimeError, ConnectionError) as error:
        raise EnvironmentFault(
            f"Ray at {address} cannot be joined: {error}.",
            remedy="Check that its Ray is of the same version and that the ray-token of the home is its own.",
        ) from error
    return True


def access_environment(token_file: Path) -> dict[str, str]:
    """Return what a Ray of our own asks of every process that starts or joins it."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        # The one switch by which Ray stays on the loopback address: nothing of it listens elsewhere, and it
        # survives a change of the machine's networks.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def _configure(token_file: Path) -> None:
    """Set what our own Ray asks of those who join it; Ray reads it once, when it is imported."""
    if not token_file.exists():
        return
    wanted = access_environment(token_file)
    missing = {name: value for name, value in wanted.items() if os.environ.get(name) != value}
    if missing and "ray" in sys.modules:
        assignments = " ".join(f"{name}={value}" for name, value in missing.items())
        raise EnvironmentFault(
            "Ray was imported before it could be told how to join this cluster.",
            remedy=f"Connect before importing ray, or set {assignments} in the environment.",
        )
    os.environ.update(missing)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _require_listener(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            f"No Ray answers at {address or 'an empty address'}: {error}.",
            remedy="Start the stack with `orchestrator up`, or give the address of its Ray.",
        ) from error
