"""A real PostgreSQL for tests: the embedded one, in a private folder, gone at the end."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from orchestrator.store.address import BOOTSTRAP, Address
from orchestrator.store.embedded import EmbeddedPostgres, purge
from orchestrator.store.migrate import prepare
from orchestrator.store.urls import OWNER, DatabaseUrls

VERSIONS = ("18", "16")
_TEMPLATE = "template_migrated"
_numbers = itertools.count(1)

#: Runs a test that takes `postgres` (or a fixture built on it) on both servers of the wheel.
on_both_versions = pytest.mark.parametrize("postgres", VERSIONS, indirect=True, scope="session")


def private_home() -> Path:
    """Return a new folder that the account of the server can enter; the caller purges and removes it."""
    home = Path(tempfile.mkdtemp(prefix="orchestrator-test-"))
    home.chmod(0o755)
    return home


@contextmanager
def running_server(version: str = VERSIONS[0]) -> Iterator[Address]:
    """A server of the caller's own."""
    home = private_home()
    server = EmbeddedPostgres(home=home, version=version)
    try:
        yield server.start()
    finally:
        server.stop()
        purge(home)
        home.rmdir()


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Address]:
    """The running server of the session, version 18 unless a test asks for both.

    It never waits for the disk: tests that kill a server or trouble its disk have one of their own.
    """
    with running_server(getattr(request, "param", VERSIONS[0])) as address:
        with psycopg.connect(address.url(BOOTSTRAP, database=BOOTSTRAP), autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET fsync = off")
            admin.execute("SELECT pg_reload_conf()")
        yield address


@pytest.fixture(scope="session")
def migrated(postgres: Address) -> Address:
    """The migrated database that `database` copies; nobody else connects to it."""
    address = replace(postgres, database=_TEMPLATE)
    prepare(address.urls())
    return address


@pytest.fixture
def database(migrated: Address) -> Iterator[DatabaseUrls]:
    """A fresh migrated database of the test's own, dropped at the end."""
    with own_database(migrated, template=migrated.database) as address:
        yield address.urls()


@contextmanager
def own_database(server: Address, *, template: str = "template1") -> Iterator[Address]:
    """A fresh copy of `template`, dropped at the end with whoever is still connected to it."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server.url(BOOTSTRAP, database=BOOTSTRAP), autocommit=True) as admin:
        owner = f" OWNER {OWNER}" if template == _TEMPLATE else ""
        # Copied files are a third of the work of logged pages, where no checkpoint waits for the disk.
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}{owner} STRATEGY file_copy")
        try:
            yield replace(server, database=name)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
