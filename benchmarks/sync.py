"""How long a tick in a file takes to reach the database, and the end of a task to reach its file."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import Figure
from orchestrator.client import Client
from orchestrator.client.transport import Endpoint
from orchestrator.sync.watcher import Watcher
from orchestrator.views import SubmitRequest
from tests.support.own_server import own_server
from tests.support.service_process import AGENT_TYPE, TOKEN, service_process

ROUNDS = 5
BAR_S = 5.0
NAME = "kept in step"
_PLAN = "# Sync\n\n" + "".join(
    f"- [ ] **A.{n}** Number {n}\n  - agent: {AGENT_TYPE}\n  - manual: by hand\n" for n in range(2 * ROUNDS)
)


def measure() -> Iterator[Figure]:
    """Tick in the file, then finish tasks by request, one after the other."""
    with (
        tempfile.TemporaryDirectory() as folder,
        own_server() as server,
        service_process(server) as service,
        Client(Endpoint(url=service.url, token=TOKEN)) as client,
    ):
        path = Path(folder) / "plan.md"
        path.write_text(_PLAN, encoding="utf-8")
        plan_id = client.submit(SubmitRequest(text=_PLAN, name=NAME)).plan_id
        watcher = Watcher(
            connect=lambda: Client(Endpoint(url=service.url, token=TOKEN)),
            plans={str(plan_id): path},
            tell=lambda _: None,
        )
        thread = threading.Thread(target=watcher.run)
        thread.start()
        try:
            ticked = [_tick_s(client, plan_id, path, n) for n in range(ROUNDS)]
            done = [_done_s(client, plan_id, path, n) for n in range(ROUNDS, 2 * ROUNDS)]
        finally:
            watcher.stop()
            thread.join()
    yield Figure(name="a tick in the file to the database", values=tuple(ticked), unit="s", at_most=BAR_S)
    yield Figure(name="the end of a task to the file", values=tuple(done), unit="s", at_most=BAR_S)


def _tick_s(client: Client, plan_id: int, path: Path, number: int) -> float:
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f"[ ] **A.{number}**", f"[x] **A.{number}**"), encoding="utf-8")
    return _until(lambda: client.task(f"A.{number}", plan_id=plan_id).state == "done")


def _done_s(client: Client, plan_id: int, path: Path, number: int) -> float:
    client.request("finish_task", task_id=client.task(f"A.{number}", plan_id=plan_id).id)
    return _until(lambda: f"[x] **A.{number}**" in path.read_text(encoding="utf-8"))


def _until(condition: Callable[[], bool]) -> float:
    started_s = time.perf_counter()
    while not condition():
        time.sleep(0.05)
    return time.perf_counter() - started_s
