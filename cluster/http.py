"""Puts the HTTP front end on Ray Serve.

The front end is a higher ring, so it is named by its import path, as in a Serve configuration.
"""

from __future__ import annotations

import importlib
import socket

from actors.options import ActorConfig
from orchestrator.errors import EnvironmentFault
from orchestrator.settings import Http

FRONT_END = "serve_app.deployment"


def require_free_port(http: Http) -> None:
    """Refuse a port that somebody listens on, before anything is started.

    Raises:
        EnvironmentFault: the port is in use, or this address is not this machine's.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((http.host, http.port))
        except OSError as error:
            raise EnvironmentFault(
                f"HTTP cannot listen on {http.host}:{http.port}: {error.strerror}.",
                remedy="End what listens there, or choose another port with --port or `http.port` in the "
                "settings.",
            ) from error


def serve_http(config: ActorConfig, *, token: str) -> str:
    """Start Serve with the front end and return its root URL; blocks for some seconds.

    Raises:
        EnvironmentFault: the port was taken since it was looked at.
    """
    from ray.exceptions import RayTaskError  # a second of imports, which the look at the port is spared

    http = config.settings.http
    try:
        importlib.import_module(FRONT_END).start(config, token=token)
    except RayTaskError:  # its text is the proxy's whole traceback
        require_free_port(http)
        raise
    return f"http://{http.host}:{http.port}"
