"""`orchestrator up` to `down`: one stack, and every command on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestrator.stack import TOKEN_FILE
from tests.support.command_line import CommandLine, own_command_line

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(300)]

PLAN = """---
name: small
workdir: work
---
# A small plan

- [ ] **A.1** Say it
  - agent: backend-development
  - run: `echo said it`
- [ ] **A.2** Fail at it
  - attempts: 1
  - run: `test -e mended`
- [ ] **A.3** Wait for a person
  - manual: press the button
"""


@pytest.fixture(scope="module")
def cli() -> Iterator[CommandLine]:
    with own_command_line() as found:
        found.run("up")
        yield found
        found.run("down")
        found.assert_nothing_is_left()


def test_up_again_is_harmless(cli: CommandLine) -> None:
    data = cli.data("up")
    assert data["is_new"] is False
    assert data["stack"]["url"].startswith("http://127.0.0.1:")
    assert (cli.home / TOKEN_FILE).stat().st_mode & 0o777 == 0o600


def test_a_plan_is_submitted_mended_released_and_done(cli: CommandLine) -> None:
    plan = cli.plan(PLAN)
    out = cli.run("submit", str(plan), "--watch", code=5)
    assert "small: stalled" in out
    assert "press the button" in cli.run("show", "A.3", "--plan", "small")
    assert "said it" in cli.run("logs", "A.1", "--plan", "small")
    assert [task["key"] for task in cli.data("tasks", "small", "--state", "failed")] == ["A.2"]
    (cli.folder / "work" / "mended").touch()
    cli.run("retry", "A.2", "--plan", "small")
    cli.run("watch", "small", code=8)
    cli.run("release", "A.3", "--plan", "small", "--reason", "pressed")
    assert cli.data("watch", "small")["plan"]["state"] == "done"
    assert [found["name"] for found in cli.data("status")["plans"]] == ["small"]


def test_a_run_is_handed_to_the_stack(cli: CommandLine) -> None:
    plan = cli.plan("# Other\n\n- [ ] **B.1** Do it\n  - run: `true`\n", "other.md")
    assert cli.data("run", str(plan))["plan"]["state"] == "done"


def test_a_plan_that_was_cancelled_is_over(cli: CommandLine) -> None:
    plan = cli.plan("# Endless\n\n- [ ] **C.1** Wait\n  - run: `sleep 600`\n", "endless.md")
    cli.run("submit", str(plan))
    cli.run("cancel", "--plan", "Endless")
    assert cli.data("watch", "Endless", code=5)["plan"]["state"] == "cancelled"
