"""What both clients know of HTTP: the address, the headers, the timeouts, and what a broken wire means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from pydantic import ValidationError

from orchestrator.client.calls import Call
from orchestrator.client.problems import error_from
from orchestrator.errors import EnvironmentFault, OrchestratorError, ServerUnavailable, Unauthorized
from orchestrator.stack import TOKEN_FILE, require_stack

T = TypeVar("T")

API = "/api/v1"

#: The server sends a comment every 15 s at the latest: a stream silent for longer is broken.
STREAM_SILENCE_MAX_S = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the orchestrator answers, and with which token.

    Attributes:
        url: root such as `http://127.0.0.1:8000`, without the path of the API.
        timeout_s: longest time to connect, and between two pieces of an answer.
        patience_s: how long a call is sent again while the server is starting, full or away.
    """

    url: str
    token: str
    timeout_s: float = 30.0
    patience_s: float = 10.0

    @classmethod
    def of_home(cls, home: Path) -> Endpoint:
        """Return the endpoint of the stack that runs in this home.

        Raises:
            EnvironmentFault: none runs there, or it serves no HTTP.
            Unauthorized: its token file is not readable for this user.
        """
        stack = require_stack(home)
        if not stack.url:
            raise EnvironmentFault(
                f"Only a `run` is active here (process {stack.pid}), which serves no HTTP.",
                remedy="Wait for its end, then start the service with `orchestrator up`.",
            )
        return cls(url=stack.url, token=_read_token(home / TOKEN_FILE))

    def options(self) -> dict[str, Any]:
        """Return the arguments of an httpx2 client for this endpoint."""
        return {
            "base_url": self.url.rstrip("/") + API,
            "headers": {"Authorization": f"Bearer {self.token}"},
            "timeout": self.timeout_s,
            "trust_env": not _is_loopback(self.url),  # a proxy of the environment cannot reach this machine
        }

    def broken(self, error: httpx2.HTTPError) -> ServerUnavailable:
        """Return the error that a failed exchange stands for."""
        return ServerUnavailable(
            f"The orchestrator at {self.url} does not answer ({type(error).__name__}: {error}).",
            remedy="See `orchestrator status` and the log of the Host.",
        )


def request_arguments(call: Call[Any]) -> dict[str, Any]:
    """Return the arguments of `client.request` for a call."""
    arguments = {
        "method": call.method,
        "url": call.path,
        "params": call.query,
        "headers": dict(call.headers),
        "content": call.body or None,
    }
    return arguments | ({"timeout": call.timeout_s} if call.timeout_s else {})


def stream_arguments(call: Call[Any], endpoint: Endpoint) -> dict[str, Any]:
    """Return the arguments of `client.stream` for a call whose answer does not end."""
    timeout = httpx2.Timeout(endpoint.timeout_s, read=STREAM_SILENCE_MAX_S)
    return {**request_arguments(call), "timeout": timeout}


def read_answer(call: Call[T], status: int, headers: Mapping[str, str], body: bytes) -> T:
    """Return the result of a call.

    Raises:
        OrchestratorError: what the server refused with, or an answer of another shape than ours.
    """
    if status >= 400:
        raise error_from(status, headers, body)
    try:
        return call.read(body)
    except ValidationError as error:
        raise OrchestratorError(
            f"The server answered {call.method} {call.path} in a shape this client does not know: {error}.",
            remedy="Use the same version of client and server.",
        ) from error


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Unauthorized(
            f"The token file {path} cannot be read: {error.strerror}.",
            remedy="Run as the user who started the stack.",
        ) from error


def _is_loopback(url: str) -> bool:
    host = httpx2.URL(url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
