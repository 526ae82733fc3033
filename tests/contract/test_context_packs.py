"""How large context packs are and whether they are complete: of plans of other people, and generated ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.runtime.service import Service
from orchestrator.store.urls import DatabaseUrls
from tests.support.service import RememberingScheduler, open_service
from tests.support.worked_plans import CORPUS, Packs, packs_of, plan_text

pytestmark = pytest.mark.postgres
needs_corpus = pytest.mark.skipif(not CORPUS.exists(), reason=f"NOT RUN: no corpus at {CORPUS}")

COUNT = 60
#: So many that chance moves the 95th percentile by less than what is allowed.
MANY = 200


@pytest.fixture
async def service(database: DatabaseUrls, tmp_path: Path) -> AsyncIterator[Service]:
    async with open_service(database, tmp_path, scheduler=RememberingScheduler()) as service:
        yield service


def check(packs: Packs, *, saved: float) -> None:
    assert packs.facts > 5 * len(packs.tokens)
    assert packs.untold == ()
    assert packs.at(0.5) <= 1_500
    assert packs.at(0.95) <= 3_000
    assert packs.saved >= saved


@needs_corpus
@pytest.mark.parametrize(("number", "saved"), [("01", 0.90), ("04", 0.85)])
async def test_real_plans(service: Service, database: DatabaseUrls, number: str, saved: float) -> None:
    (path,) = CORPUS.glob(f"{number}-*.md")
    text = path.read_bytes().decode()
    check(await packs_of(service, database, text, name=number, count=COUNT), saved=saved)


@pytest.mark.timeout(900)
async def test_the_size_of_the_plan_does_not_matter(service: Service, database: DatabaseUrls) -> None:
    small, large = [
        await packs_of(service, database, plan_text(tasks), name=str(tasks), count=MANY)
        for tasks in (500, 2_000)
    ]
    check(small, saved=0.98)
    check(large, saved=0.98)
    for share in (0.5, 0.95):
        assert large.at(share) == pytest.approx(small.at(share), rel=0.1)
