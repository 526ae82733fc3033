"""Keeps the port on which a Serve replica takes calls from Serve's other processes off the network.

Serve binds it on every interface, without authentication, and unpickles what arrives there: whoever reaches
it runs code as us. The address of the node is enough, and that is the loopback address where Ray is ours.
Written for the version of Ray that pyproject.toml pins; tests/integration/test_host.py looks at the sockets.
"""

from __future__ import annotations

from typing import Any

import ray
from ray.serve._private import replica

_EVERY_INTERFACE = "[::]"


def stay_on_node_address() -> None:
    """Have the replica of this process bind its port on the node's address; call it before the bind."""
    private: Any = replica
    add_port = private.add_port_to_grpc_server
    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]

    def add_port_on_node(server: Any, wanted: str) -> Any:
        return add_port(server, wanted.replace(_EVERY_INTERFACE, address))

    private.add_port_to_grpc_server = add_port_on_node
