"""The bans of tests/conftest.py hold: a unit test that reaches out fails, whatever it catches."""

from __future__ import annotations

import asyncio
import socket

import pytest

FAR = ("192.0.2.1", 80)  # an address reserved for documentation: nobody answers there


def test_a_far_address_is_refused() -> None:
    with socket.socket() as sock, pytest.raises(pytest.fail.Exception, match="only loopback"):
        sock.connect(FAR)


def test_a_far_name_is_not_even_looked_up() -> None:
    with pytest.raises(pytest.fail.Exception, match="reached for"):
        socket.create_connection(("example.invalid", 80))


async def test_asyncio_is_refused_as_well() -> None:
    with pytest.raises(pytest.fail.Exception, match="only loopback"):
        await asyncio.open_connection(*FAR)


def test_loopback_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()[:2], timeout=5).close()
