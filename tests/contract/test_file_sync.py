"""The process of sync is the Host's: it lives while there are plans to keep, and comes back if it dies."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cluster.file_sync import FileSync
from orchestrator.sync.registry import SYNC_LOG, read_state, write_plans
from tests.support.own_stack import write_own_stack

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which a stack runs whose server nobody reaches."""
    write_own_stack(tmp_path, url=NOWHERE, token="token")
    (tmp_path / SYNC_LOG).parent.mkdir()
    (tmp_path / "plan.md").write_text("- [ ] One\n")
    return tmp_path


@pytest.fixture
async def file_sync(home: Path) -> AsyncIterator[asyncio.Task[None]]:
    running = asyncio.create_task(FileSync(home).run())
    yield running
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert read_state(home) is None, "a process is left"


def pid_of(home: Path) -> int:
    """The process that keeps plans in step now; 0 = none."""
    state = read_state(home)
    return state.pid if state is not None else 0


async def until(condition: Callable[[], object]) -> None:
    """Wait until something holds of the files by which the two processes talk."""
    async with asyncio.timeout(120):
        while not condition():  # noqa: ASYNC110  files tell nobody
            await asyncio.sleep(0.05)


async def test_it_lives_while_there_are_plans_and_comes_back_when_it_is_killed(
    home: Path, file_sync: asyncio.Task[None]
) -> None:
    assert pid_of(home) == 0
    write_plans(home, {"1": home / "plan.md"})
    await until(lambda: pid_of(home))
    first = pid_of(home)
    os.kill(first, signal.SIGKILL)
    await until(lambda: pid_of(home) not in {0, first})
    write_plans(home, {"1": home / "plan.md", "2": home / "plan.md"})
    await until(lambda: (state := read_state(home)) is not None and len(state.plans) == 2)
    write_plans(home, {})
    await until(lambda: pid_of(home) == 0)
    assert not file_sync.done()
