"""A Service on a real database, a scheduler that only remembers what it is asked, and plans to hand in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import psycopg

from orchestrator.errors import OrchestratorError
from orchestrator.grant_ports import GovernorPort
from orchestrator.ports import SchedulerPort
from orchestrator.routing import Routing
from orchestrator.runtime.service import Service
from orchestrator.settings import load_settings
from orchestrator.store.engine import make_engine
from orchestrator.store.urls import DatabaseUrls
from tests.support.rows import APPEND_EVENT

PLAN = """\
# Ship it

## Track A: Build

- [x] **A.1** Design it
- [ ] **A.2** Build it [P0]
  - agent: backend-development
  - depends: A.1
  - run: `true`
  - retry lost: never
- [ ] **A.3** Test it
  - depends: A.2
  - verify: `true`
- [~] **A.4** Paint it
- [!] **A.5** Sell it
"""


class RememberingScheduler:
    """Stands at the end of the SchedulerPort. `error` is raised by the next request or status.

    Attributes:
        answer: what requests are answered.
        told: what its status says beside the least.
    """

    def __init__(self) -> None:
        self.nudges = 0
        self.requests: list[tuple[str, Mapping[str, object], str]] = []
        self.error: OrchestratorError | None = None
        self.answer: Mapping[str, object] = {"state": "accepted"}
        self.told: Mapping[str, object] = {}

    async def nudge(self) -> None:
        self.nudges += 1

    async def request(
        self, kind: str, args: Mapping[str, object], idempotency_key: str
    ) -> Mapping[str, object]:
        if self.error:
            raise self.error
        self.requests.append((kind, args, idempotency_key))
        return self.answer

    async def status(self) -> Mapping[str, object]:
        if self.error:
            raise self.error
        return {"epoch": 3, "is_ready": True, "uptime_s": 1.5, "sessions": 2, "plans_loaded": 1, **self.told}


@asynccontextmanager
async def open_service(
    urls: DatabaseUrls,
    home: Path,
    *,
    scheduler: SchedulerPort,
    tenant_id: str = "local",
    governors: Mapping[str, GovernorPort] = MappingProxyType({}),
) -> AsyncIterator[Service]:
    """A Service that connects as the role `api`."""
    settings = load_settings(home)
    service = Service(
        engine=make_engine(urls.api),
        scheduler=scheduler,
        routing=Routing.from_settings(settings),
        settings=settings,
        tenant_id=tenant_id,
        governors=governors,
    )
    try:
        yield service
    finally:
        await service.close()


def commit_events(urls: DatabaseUrls, *types: str, plan_id: int | None = None) -> list[int]:
    """Append events and notify, as the committer does; return their seqs."""
    events = [{"type": name, "plan": plan_id, "task": 0, "token": 0} for name in types]
    with psycopg.connect(urls.service) as connection:
        seqs = [connection.execute(APPEND_EVENT, event).fetchone()[0] for event in events]
        connection.execute("SELECT pg_notify('orchestrator_events', %s)", (str(seqs[-1]),))
    return seqs


def execute(urls: DatabaseUrls, statement: str, *args: object) -> list[tuple[object, ...]]:
    """Run a statement as the role `service`; return its rows."""
    with psycopg.connect(urls.service) as connection:
        cursor = connection.execute(statement, args)
        return cursor.fetchall() if cursor.description else []
