"""The watcher of plan files where the system tells of no changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from orchestrator.client import Client
from orchestrator.sync import watcher as watcher_module
from orchestrator.sync.watcher import Watcher

WAIT_S = 60.0


def _nobody() -> Client:
    raise AssertionError("nothing here asks the server")


def test_files_are_polled_where_the_system_watches_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_watch = watchfiles.watch

    def watch(*paths: Path, force_polling: bool, **given: Any) -> Iterator[set[Any]]:
        if not force_polling:
            raise OSError("no watches are left")
        return real_watch(*paths, force_polling=True, **given)

    monkeypatch.setattr(watchfiles, "watch", watch)
    monkeypatch.setattr(watcher_module, "DEBOUNCE_S", 0.01)
    path = tmp_path / "plan.md"
    path.write_text("- [ ] A\n")
    watcher = Watcher(connect=_nobody, plans={"1": path}, tell=lambda _: None)
    thread = threading.Thread(target=watcher._follow_files)
    thread.start()
    deadline_s = time.monotonic() + WAIT_S
    edits = 0
    while not watcher._due["1"].first_s:
        assert time.monotonic() < deadline_s, "no edit was seen"
        edits += 1  # the first may come before the first look
        path.write_text(f"- [ ] A {edits}\n")
        time.sleep(0.1)
    watcher.stop()
    thread.join(WAIT_S)
    assert not thread.is_alive()
