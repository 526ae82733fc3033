"""`orchestrator run` without a stack: a real Host, Ray, PostgreSQL and real commands, from start to end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from orchestrator.stack import read_stack
from tests.support.command_line import TIMEOUT_S, CommandLine, own_command_line, read_until

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(600)]

PLAN = """---
name: mendable
workdir: work
---
# A plan that fails until somebody helps, and then takes long

- [ ] **A.1** Write a file
  - run: `echo one > one`
  - verify: `test -s one`
- [ ] **A.2** Need help
  - depends: A.1
  - attempts: 1
  - run: `echo looking for help; test -e help`
- [ ] **A.3** Wait for the word
  - depends: A.2
  - run: `echo waiting >> waiting; while ! test -e word; do sleep 0.1; done`
"""


@pytest.fixture
def cli() -> Iterator[CommandLine]:
    with own_command_line() as found:
        yield found


def test_whatever_ended_a_run_the_next_one_goes_on(cli: CommandLine) -> None:
    """It ends by a task that fails, by Ctrl-C, by the death of its Host, and at last with the plan."""
    plan = cli.plan(PLAN)
    failed = cli.run("run", str(plan), code=5)
    for words in ("A.1          done", "mendable: stalled", "failed  A.2", "| looking for help", "1 waiting"):
        assert words in failed
    assert f"The work is in {cli.folder / 'work'}" in failed
    cli.assert_nothing_is_left()

    (cli.folder / "work" / "help").touch()
    process = cli.start("run", str(plan))
    read_until(process, r"A\.3 +work \d+ started")
    busy = cli.run("run", str(plan), code=6)
    assert busy == ""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, out + err
    assert "Stopping" in err
    assert "goes on where it is" in err
    cli.assert_nothing_is_left()

    process = cli.start("run", str(plan))
    read_until(process, r"A\.3 +work \d+ started")
    stack = read_stack(cli.home)
    assert stack is not None
    os.kill(stack.pid, signal.SIGKILL)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 6, out + err
    assert "ended unexpectedly" in err
    assert "goes on where it stopped" in err
    cli.assert_nothing_is_left()

    (cli.folder / "work" / "word").touch()
    data = cli.data("run", str(plan))
    assert data["plan"]["state"] == "done"
    assert {task["state"] for task in data["tasks"]} == {"done"}
    assert (cli.folder / "work" / "one").read_text() == "one\n"
    cli.assert_nothing_is_left()
