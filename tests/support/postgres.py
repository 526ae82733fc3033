"""A real PostgreSQL for tests: the embedded one, in a private folder, gone at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store.address import Address
from orchestrator.store.embedded import EmbeddedPostgres, purge

VERSIONS = ("18", "16")

#: Runs a test that takes `postgres` (or a fixture built on it) on both servers of the wheel.
on_both_versions = pytest.mark.parametrize("postgres", VERSIONS, indirect=True, scope="session")


def private_home() -> Path:
    """Return a new folder that the account of the server can enter; the caller purges and removes it."""
    home = Path(tempfile.mkdtemp(prefix="orchestrator-test-"))
    home.chmod(0o755)
    return home


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Address]:
    """A running server of the session, version 18 unless a test asks for both."""
    home = private_home()
    server = EmbeddedPostgres(home=home, version=getattr(request, "param", VERSIONS[0]))
    try:
        yield server.start()
    finally:
        server.stop()
        purge(home)
        home.rmdir()
