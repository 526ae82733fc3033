"""The stores whose promises are tested: twice each, on PostgreSQL and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orchestrator.ports import SchedulerStore
from tests.support.stores import LONG_S, MemoryStores, PostgresStores, Stores


@pytest.fixture(params=["postgres", "memory"])
async def stores(request: pytest.FixtureRequest) -> AsyncIterator[Stores]:
    """Everybody's stores on one database."""
    made = (
        PostgresStores(request.getfixturevalue("database")) if request.param == "postgres" else MemoryStores()
    )
    yield made
    await made.close()


@pytest.fixture
async def scheduler(stores: Stores) -> SchedulerStore:
    """The store of the scheduler that holds the term."""
    made = stores.scheduler()
    await made.take_term(incarnation="s1", is_starting=True, patience_s=LONG_S)
    return made
