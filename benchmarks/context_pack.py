"""How large context packs are, whether they are complete, and how long one takes to be built."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import Figure
from orchestrator.ports import SessionLimits
from orchestrator.runtime.service import Service
from orchestrator.sessions.context import make_pack
from orchestrator.sessions.tokens import estimate_tokens
from orchestrator.store.executors import ExecutorStore
from orchestrator.store.urls import DatabaseUrls
from tests.support.own_server import own_server
from tests.support.service import RememberingScheduler, open_service
from tests.support.worked_plans import CORPUS, Packs, leaves, packs_of, plan_text

#: Packs of each plan.
COUNT = 200
SIZES = (500, 10_000)
#: The case of the founding documents.
PLAN_TOKENS = 95_000
#: File of the corpus → least share of its tokens that packs save, in %.
SAVED_MIN = {"01": 90.0, "04": 85.0}


def measure() -> Iterator[Figure]:
    """Yield sizes, what is missing and times; the corpus only where it lies beside the repository."""
    with own_server() as server, TemporaryDirectory() as home:
        yield from asyncio.run(_measured(server.urls, Path(home)))


async def _measured(urls: DatabaseUrls, home: Path) -> list[Figure]:
    async with open_service(urls, home, scheduler=RememberingScheduler()) as service:
        return [figure async for figure in _figures(service, urls)]


async def _figures(service: Service, urls: DatabaseUrls) -> AsyncIterator[Figure]:
    sized = {}
    for tasks in SIZES:
        name = f"plan of {tasks:,} tasks"
        sized[tasks] = await packs_of(service, urls, plan_text(tasks), name=name, count=COUNT)
        for figure in _of_size(name, sized[tasks]):
            yield figure
        times_ms = await _build_ms(service, urls, name)
        yield Figure(name=f"{name}: build a pack", values=times_ms, unit="ms", at_most=20.0)
    for share in (0.5, 0.95):
        ratio = sized[SIZES[1]].at(share) / sized[SIZES[0]].at(share)
        name = f"{SIZES[1]:,} tasks against {SIZES[0]:,}: p{share * 100:.0f}"
        yield Figure(name=name, values=(ratio,), unit="times", at_least=0.9, at_most=1.1)
    founding = await packs_of(service, urls, _text_of(PLAN_TOKENS), name="founding", count=COUNT)
    yield _saved(f"plan of {founding.plan_tokens:,} tokens", founding, at_least=98.0)
    for number, at_least in SAVED_MIN.items():
        for path in CORPUS.glob(f"{number}-*.md"):
            packs = await packs_of(service, urls, path.read_bytes().decode(), name=number, count=COUNT)
            name = f"corpus {number} of {packs.plan_tokens:,} tokens"
            for figure in _of_size(name, packs):
                yield figure
            yield _saved(name, packs, at_least=at_least)


def _of_size(name: str, packs: Packs) -> Iterator[Figure]:
    for share, at_most in ((0.5, 1_500), (0.95, 3_000)):
        title = f"{name}: p{share * 100:.0f} of a pack"
        yield Figure(name=title, values=(packs.at(share),), unit="tokens", at_most=at_most)
    title = f"{name}: missing of {packs.facts:,} facts"
    yield Figure(name=title, values=(len(packs.untold),), unit="facts", at_most=0)


def _saved(name: str, packs: Packs, *, at_least: float) -> Figure:
    return Figure(name=f"{name}: less in a pack", values=(packs.saved * 100,), unit="%", at_least=at_least)


def _text_of(tokens: int) -> str:
    tasks = 100
    while estimate_tokens(plan_text(tasks)) < tokens:
        tasks += 10
    return plan_text(tasks)


async def _build_ms(service: Service, urls: DatabaseUrls, name: str) -> tuple[float, ...]:
    """Build packs as an executor does for a start: read what stands around a task, and choose."""
    store = ExecutorStore(urls.service, executor="x1", incarnation="i1", node_id="n1", limits=SessionLimits())
    times_ms = []
    for task_id in leaves(urls, (await service.plan(name)).id, count=COUNT):
        task = await service.task(str(task_id))
        started_s = time.perf_counter()
        around = await store._surroundings([task_id])
        make_pack(task, around[task_id], tokens_max=SessionLimits().context_tokens_max)
        times_ms.append((time.perf_counter() - started_s) * 1000)
    await store.close()
    return tuple(times_ms)
