"""When the watcher of plan files takes note of them, also where the system tells of no changes."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from orchestrator.client import Client
from orchestrator.sync import watcher as watcher_module
from orchestrator.sync.watcher import Watcher, _Due
from tests.support.host import wait_until

WAIT_S = 60.0


def _nobody() -> Client:
    raise AssertionError("nothing here asks the server")


@contextmanager
def following(path: Path) -> Iterator[Watcher]:
    """A watcher that follows a file, and no server."""
    watcher = Watcher(connect=_nobody, plans={"1": path}, tell=lambda _: None)
    thread = threading.Thread(target=watcher._follow_files)
    thread.start()
    try:
        yield watcher
    finally:
        watcher.stop()
        thread.join(WAIT_S)
    assert not thread.is_alive()


def await_note(watcher: Watcher) -> None:
    """Wait until the plan is to be looked at, and take note of it, as a round does."""
    wait_until(lambda: watcher._due["1"].first_s > 0, timeout_s=WAIT_S, what="the plan is noted")
    watcher._due["1"] = _Due()


def test_files_are_looked_at_once_they_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "plan.md"
    path.write_text("- [ ] A\n")  # nothing tells of what is written before
    with following(path) as watcher:
        await_note(watcher)


def test_files_are_polled_where_the_system_watches_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_watch = watchfiles.watch

    def watch(*paths: Path, force_polling: bool, **given: Any) -> Generator[set[Any], None, None]:
        if not force_polling:
            raise OSError("no watches are left")
        return real_watch(*paths, force_polling=True, **given)

    monkeypatch.setattr(watchfiles, "watch", watch)
    monkeypatch.setattr(watcher_module, "DEBOUNCE_S", 0.01)
    path = tmp_path / "plan.md"
    path.write_text("- [ ] A\n")
    with following(path) as watcher:
        await_note(watcher)
        path.write_text("- [ ] A, edited\n")
        await_note(watcher)


def test_an_agent_type_file_beside_a_plan_is_of_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.md"
    watcher = Watcher(connect=_nobody, plans={"1": path}, tell=lambda _: None)
    watcher._note_files({tmp_path / "other.md", tmp_path / "notes" / "poet.md"})
    assert watcher._due["1"].first_s == 0
    watcher._note_files({tmp_path / "agents" / "poet.md"})
    assert watcher._due["1"].first_s > 0
