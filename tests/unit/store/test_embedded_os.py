"""Locks and processes of the embedded server."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from orchestrator.store.embedded_os import acquire_lock, end_server, server_processes


def test_lock_is_held_until_closed(tmp_path):
    first = acquire_lock(tmp_path / "lock")
    assert first is not None
    assert acquire_lock(tmp_path / "lock") is None
    os.close(first)
    second = acquire_lock(tmp_path / "lock")
    assert second is not None
    os.close(second)


def test_lock_of_a_removed_file_does_not_count(tmp_path):
    first = acquire_lock(tmp_path / "lock")
    (tmp_path / "lock").unlink()
    second = acquire_lock(tmp_path / "lock")
    assert first is not None
    assert second is not None
    assert acquire_lock(tmp_path / "lock") is None
    os.close(first)
    os.close(second)


def test_refused_lock_leaks_no_descriptor(tmp_path):
    held = acquire_lock(tmp_path / "lock")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        assert acquire_lock(tmp_path / "lock") is None
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    os.close(held)


def test_lock_of_a_folder_makes_it(tmp_path):
    lock = acquire_lock(tmp_path / "state", is_folder=True, is_blocking=True)
    assert (tmp_path / "state").is_dir()
    os.close(lock)


def test_only_processes_of_the_named_server_are_found_and_ended():
    ours = "postgres: orchestrator-test1: checkpointer"
    others = "postgres: orchestrator-test12: checkpointer"
    children = [
        subprocess.Popen([title, "-c", "input()"], executable=sys.executable, stdin=subprocess.PIPE)
        for title in (ours, others)
    ]
    try:
        assert server_processes("orchestrator-test1") == {children[0].pid: False}
        assert end_server("orchestrator-test1", fast_timeout_s=1.0) == []
        assert children[0].wait(60) in {-signal.SIGQUIT, -signal.SIGKILL}  # on a busy machine it takes both
        assert children[1].poll() is None
    finally:
        for child in children:
            child.kill()
            child.communicate()
