"""What a running stack says of itself."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentFault
from orchestrator.stack import (
    STACK_FILE,
    Stack,
    process_start_time,
    read_stack,
    remove_stack,
    require_stack,
    write_stack,
)
from tests.support.own_stack import own_stack


@pytest.fixture
def stack() -> Stack:
    return own_stack(url="http://127.0.0.1:1")


def test_what_is_written_is_read_and_private(tmp_path: Path, stack: Stack) -> None:
    write_stack(tmp_path, stack)
    assert read_stack(tmp_path) == stack
    assert (tmp_path / STACK_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [STACK_FILE]


def test_a_pid_that_another_process_got_is_no_stack(tmp_path: Path, stack: Stack) -> None:
    write_stack(tmp_path, replace(stack, start_time=stack.start_time - 1))
    assert read_stack(tmp_path) is None


def test_a_zombie_is_no_stack(tmp_path: Path, stack: Stack) -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is not reaped
    assert process_start_time(child.pid) is None
    child.wait()


def test_no_file_is_no_stack(tmp_path: Path) -> None:
    assert read_stack(tmp_path) is None
    remove_stack(tmp_path)
    with pytest.raises(EnvironmentFault, match="orchestrator up"):
        require_stack(tmp_path)


def test_a_home_that_is_a_file_has_no_stack(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    assert read_stack(tmp_path / "home") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": 1}'])
def test_a_file_of_another_shape_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / STACK_FILE).write_text(text)
    with pytest.raises(EnvironmentFault, match=STACK_FILE):
        read_stack(tmp_path)
