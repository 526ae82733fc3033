"""Listening sockets as the kernel shows them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from cluster.sockets import ListeningSocket, listening_sockets, process_tree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

LISTEN = """
import socket, sys
s = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print(s.getsockname()[1], flush=True)
sys.stdin.read()
"""


def child(address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LISTEN, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("address", "is_loopback"), [("127.0.0.1", True), ("0.0.0.0", False), ("::1", True), ("::", False)]
)
def test_a_listening_child_is_found_with_its_address(address: str, is_loopback: bool) -> None:
    with child(address) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        found = [s for s in listening_sockets(process_tree(os.getpid())) if s.port == port]
        process.communicate()
    assert [(s.address, s.pid, s.is_loopback) for s in found] == [(address, process.pid, is_loopback)]


def test_a_connected_socket_does_not_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as connection:
            own = connection.getsockname()[1]
            ports = [found.port for found in listening_sockets([os.getpid()])]
    assert port in ports
    assert own not in ports


def test_a_mapped_loopback_address_is_loopback() -> None:
    found = ListeningSocket(port=1, address="::ffff:127.0.0.1", pid=1, process="x")
    assert found.is_loopback


def test_a_process_that_ended_has_no_sockets() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert listening_sockets([process.pid]) == ()
