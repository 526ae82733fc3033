"""What the Python client of the actors reads and writes past the scheduler, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.client import AsyncOrchestrator
from orchestrator.errors import NotFound
from orchestrator.store.urls import DatabaseUrls
from orchestrator.views import NewNote, NoteKind, SubmitRequest
from tests.support.service import PLAN, RememberingScheduler, open_service

pytestmark = pytest.mark.postgres


@pytest.fixture
async def orchestrator(database: DatabaseUrls, tmp_path: Path) -> AsyncIterator[AsyncOrchestrator]:
    async with open_service(database, tmp_path, scheduler=RememberingScheduler()) as service:
        await service.submit(SubmitRequest(text=PLAN))
        yield AsyncOrchestrator(service)


async def test_notes_are_written_and_read_to_the_last(orchestrator: AsyncOrchestrator) -> None:
    decided = await orchestrator.write_note("Ship it", NewNote(text="On Friday.", kind=NoteKind.DECISION))
    written = [
        await orchestrator.write_note("Ship it", NewNote(text=f"Note {n}.", task="A.2")) for n in range(120)
    ]
    assert await orchestrator.notes("Ship it", task="A.2") == tuple(reversed(written))
    assert await orchestrator.notes("Ship it", kind="decision") == (decided,)


async def test_the_same_note_under_the_same_key_is_written_once(orchestrator: AsyncOrchestrator) -> None:
    new = NewNote(text="Once.")
    first = await orchestrator.write_note("Ship it", new, idempotency_key="k1")
    assert await orchestrator.write_note("Ship it", new, idempotency_key="k1") == first
    assert await orchestrator.notes("Ship it") == (first,)


async def test_a_plan_and_its_tasks_are_told_within_their_tokens(orchestrator: AsyncOrchestrator) -> None:
    assert (await orchestrator.orient("Ship it")).text.startswith("# Plan Ship it")
    task = await orchestrator.orient("Ship it", task="A.2", tokens=200)
    assert task.text.startswith("# Task A.2: Build it")
    assert task.tokens_max == 200
    with pytest.raises(NotFound):
        await orchestrator.orient("Ship it", task="Z.9")
