"""Free ports for servers of the tests, outside the range from which the kernel gives out ports by itself.

A port of that range can be taken by any outgoing connection between the look and the bind.
"""

from __future__ import annotations

import random
import socket

_BELOW_EPHEMERAL = range(10_000, 20_000)


def free_port() -> int:
    """Return a port on which nobody listens."""
    for port in random.sample(_BELOW_EPHEMERAL, k=100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("100 ports in a row are in use")
