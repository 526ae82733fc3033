"""`orchestrator sync` and its kin on a whole stack, by the command line and an editor's hands."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.client import Client
from orchestrator.stack import TOKEN_FILE
from tests.support.command_line import CommandLine

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(900)]

WAIT_S = 120.0

#: A.2 and A.4 work until they are ended; A.4 relies on A.1. Line ends, mark of the text, tabs and blanks as
#: editors leave them.
PLAN = """\
\ufeff# Tale\r
\r
- [ ] **A.1** Quick\t\r
  - run: `echo again >> quick`\r
- [ ] **A.2** Long  \r
  - run: `sleep 600`\r
* [ ] **A.3** After it\r
  - depends: A.2\r
  - run: `true`\r
- [ ] **A.4** Relies on it\r
  - depends: A.1\r
  - run: `sleep 600`"""


@pytest.fixture
def cli(stack: CommandLine) -> CommandLine:
    return stack


def submit(cli: CommandLine, text: str, name: str) -> Path:
    """Write a plan and hand it in under this name, its work to be done beside it."""
    path = cli.folder / f"{name}.md"
    path.write_bytes(text.encode())
    cli.run("submit", str(path), "--name", name, "--workdir", str(cli.folder))
    return path


def edit(path: Path, old: str, new: str) -> None:
    """Edit a file by hand, in one step as editors do."""
    text = path.read_bytes().decode()
    assert text.count(old) == 1, text
    half = path.with_name(f"{path.name}~")
    half.write_bytes(text.replace(old, new).encode())
    half.replace(path)


def until(condition: Callable[[], bool], told: Callable[[], object]) -> None:
    """Wait until something holds; if it does not come to that, say what there is instead."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, told()
        time.sleep(0.1)


def until_text(path: Path, text: str) -> None:
    """Wait until a file holds a text."""
    until(lambda: text in path.read_bytes().decode(), lambda: path.read_bytes().decode())


def until_state(cli: CommandLine, plan: str, key: str, state: str) -> None:
    """Wait until a task is in a state."""

    def found() -> str:
        return cli.task(key, plan=plan).state

    until(lambda: found() == state, found)


def test_a_plan_and_its_file_follow_each_other(cli: CommandLine) -> None:
    path = submit(cli, PLAN, "tale")
    told = cli.data("sync", "start", str(path), "--plan", "tale")
    assert told["path"] == str(path)
    until_text(path, "[x] **A.1**")
    until_state(cli, "tale", "A.4", "running")

    edit(path, "[ ] **A.2**", "[X] **A.2**")
    until_text(path, "[x] **A.3**")
    ticked = cli.data("show", "A.2", "--plan", "tale")
    assert (ticked["state"], ticked["reason"]) == ("done", "by file")
    assert [attempt["state"] for attempt in ticked["attempts"]] == ["cancelled"]

    edit(path, "[x] **A.1**", "[ ] **A.1**")
    until_text(path, "[x] **A.1**")
    assert (cli.folder / "quick").read_text() == "again\nagain\n"
    with Client.of_home(cli.home) as client:
        plan_id = told["plan_id"]
        relying = client.task("A.4", plan_id=plan_id).id
        events = client.events(plan_id=plan_id)
        assert [event.task_id for event in events if event.type == "task.flagged"] == [relying]

    done = PLAN.replace("[ ] **A.1", "[x] **A.1").replace("[ ] **A.2", "[X] **A.2")
    assert path.read_bytes().decode() == done.replace("[ ] **A.3", "[x] **A.3")
    assert f"plan {plan_id}  {path}" in cli.run("sync", "status")
    assert cli.data("sync", "stop", "tale") == {"stopped": [str(plan_id)]}
    cli.run("cancel", "--plan", "tale")


def test_what_went_apart_while_sync_was_stopped_is_reconciled(cli: CommandLine) -> None:
    text = "# Apart\n\n- [ ] **A.1** One\n  - manual: yes\n- [ ] **A.2** Two\n  - manual: yes\n"
    path = submit(cli, text, "apart")
    cli.run("sync", "start", str(path), "--plan", "apart")
    cli.run("sync", "stop")
    assert cli.data("sync", "status")["pid"] is None
    until_state(cli, "apart", "A.1", "held")
    cli.run("finish", "A.1", "--plan", "apart")
    edit(path, "[ ] **A.2**", "[x] **A.2**")
    told = cli.data("reconcile", str(path), "--plan", "apart")
    assert told["healed"] is False
    assert "[ ] **A.1**" in path.read_text()
    at_server = ("--url", f"http://127.0.0.1:{cli.http_port}", "--token", str(cli.home / TOKEN_FILE))
    told = cli.data("reconcile", str(path), "--plan", "apart", "--yes", *at_server)
    assert (told["written"], told["sent"]) == (1, ["A.2"])
    assert path.read_text() == text.replace("[ ]", "[x]")
    assert cli.data("show", "A.2", "--plan", "apart")["reason"] == "by file"
    assert cli.data("reconcile", str(path), "--plan", "apart") == {"drift": []}
    cli.run("reconcile", str(path), "--url", "http://127.0.0.1:1", code=2)


def test_a_folder_of_files_is_one_plan(cli: CommandLine) -> None:
    folder = cli.folder / "tracks"
    folder.mkdir()
    (folder / "a.md").write_text("# Track A\n\n- [ ] **A.1** First\n  - run: `true`\n")
    (folder / "b.md").write_text("# Track B\n\n- [ ] **B.1** Second\n  - depends: A.1\n  - manual: look\n")
    cli.run("submit", str(folder), "--name", "tracks")
    cli.run("sync", "start", str(folder), "--plan", "tracks")
    until_text(folder / "a.md", "[x] **A.1**")
    edit(folder / "b.md", "[ ] **B.1**", "[x] **B.1**")
    until_state(cli, "tracks", "B.1", "done")
    edit(folder / "a.md", "- [x] **A.1**", "- [ ] **A.2** New\n  - run: `true`\n- [x] **A.1**")
    until_text(folder / "a.md", "[x] **A.2**")
    cli.run("sync", "stop", "tracks")
