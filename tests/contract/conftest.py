"""The fixtures of a real PostgreSQL, and of a Service and a front end on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator.runtime.service import Service
from orchestrator.store.urls import DatabaseUrls
from tests.support.postgres import database, migrated, postgres
from tests.support.served import served_home
from tests.support.service import RememberingScheduler, open_service

__all__ = ["database", "migrated", "postgres"]


@pytest.fixture
def scheduler() -> RememberingScheduler:
    """What stands behind the service and the front end."""
    return RememberingScheduler()


@pytest.fixture
async def service(
    database: DatabaseUrls,
    tmp_path: Path,
    scheduler: RememberingScheduler,
) -> AsyncIterator[Service]:
    """A Service on a database of the test's own."""
    async with open_service(database, tmp_path, scheduler=scheduler) as service:
        yield service


@pytest.fixture
def home(
    database: DatabaseUrls,
    tmp_path: Path,
    scheduler: RememberingScheduler,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """The ORCHESTRATOR_HOME, in which the front end is up."""
    with served_home(database, tmp_path / "home", scheduler=scheduler) as home:
        monkeypatch.setenv("ORCHESTRATOR_HOME", str(home))
        yield home
