"""What commands do with plans and files against a real service: sync that stays here, import, decompose."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from orchestrator.client import Client
from orchestrator.stack import TOKEN_FILE
from tests.support.command_line import CommandLine, read_until
from tests.support.messages_api import API_KEY, MessagesApi, Reply, Request, call, write_files
from tests.support.own_server import own_server
from tests.support.own_stack import write_own_stack
from tests.support.service_process import AGENT_TYPE, TOKEN, service_process

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(900)]

WAIT_S = 240.0


@pytest.fixture(scope="module")
def api() -> Iterator[MessagesApi]:
    """A model that proposes two subtasks if it is to propose, and else does what it is told."""

    def reply(request: Request) -> Reply:
        if not is_question(request):
            return write_files(request)
        halves = [
            {"title": f"Make the {part} half", "acceptance": ["It is there"], "estimate_min": 30}
            for part in ("left", "right")
        ]
        return Reply([call("propose", subtasks=halves)])

    with MessagesApi(reply) as api:
        yield api
        assert api.problems == []


def is_question(request: Request) -> bool:
    """Tell whether a request asks for subtasks."""
    return any(tool["name"] == "propose" for tool in request.body["tools"])


@pytest.fixture(scope="module")
def cli(api: MessagesApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    folder = tmp_path_factory.mktemp("commands")
    with pytest.MonkeyPatch.context() as patch, own_server() as server:
        patch.setenv("ANTHROPIC_API_KEY", API_KEY)
        patch.setenv("ANTHROPIC_BASE_URL", api.base_url)
        with service_process(server) as service:
            home = folder / "home"
            write_own_stack(home, url=service.url, token=TOKEN)
            port = urlsplit(service.url).port or 0
            yield CommandLine(home=home, folder=folder, http_port=port, dashboard_port=0)


def submit(cli: CommandLine, tasks: str, name: str) -> Path:
    """Write a plan of this name and hand it in."""
    path = cli.plan(f"---\nname: {name}\n---\n# {name}\n\n{tasks}", f"{name}.md")
    cli.run("submit", str(path))
    return path


def edit(path: Path, old: str, new: str) -> None:
    """Edit a file by hand."""
    text = path.read_text()
    assert text.count(old) == 1, text
    path.write_text(text.replace(old, new))


def states(cli: CommandLine, plan: str) -> dict[str, str]:
    """The state of each task of a plan, by key."""
    with Client.of_home(cli.home) as client:
        return {task.key: task.state for task in client.all_tasks(client.plan(plan).id)}


def until_state(cli: CommandLine, plan: str, key: str, state: str) -> None:
    """Wait until there is a task of this key and it is in a state."""
    deadline_s = time.monotonic() + WAIT_S
    while (found := states(cli, plan)).get(key) != state:
        assert time.monotonic() < deadline_s, found
        time.sleep(0.1)


@pytest.mark.parametrize("place", ["here", "a-server"])
def test_sync_in_the_foreground_ends_with_ctrl_c(cli: CommandLine, place: str) -> None:
    path = submit(cli, "- [ ] **A.1** One\n  - manual: yes\n", place)
    at_server = ("--url", f"http://127.0.0.1:{cli.http_port}", "--token", str(cli.home / TOKEN_FILE))
    where = ("--foreground",) if place == "here" else at_server
    process = cli.start("sync", "start", str(path), *where)
    try:
        edit(path, "[ ] **A.1**", "[x] **A.1**")
        until_state(cli, place, "A.1", "done")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT_S)
        assert (process.returncode, "Ctrl-C ends it" in err, "in step" in err) == (0, True, True)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("answer", ["y", "n"])
def test_an_import_asks_before_it_revises(cli: CommandLine, answer: str) -> None:
    name = f"asked-{answer}"
    path = submit(cli, "- [ ] **A.1** One\n  - manual: yes\n", name)
    edit(path, "- [ ] **A.1**", "- [ ] **A.2** Two\n  - manual: yes\n- [ ] **A.1**")
    agents = path.parent / "agents"
    agents.mkdir(exist_ok=True)
    (agents / f"poet-{answer}.md").write_text(f"---\nname: poet-{answer}\n---\nRhyme.\n")
    ours, terminal = os.openpty()
    process = cli.start("import", str(path), stdin=terminal)
    os.close(terminal)
    try:
        read_until(process, "added    A.2")
        read_until(process, f"poet-{answer}.md")  # they go along
        os.write(ours, f"{answer}\n".encode())
        out, err = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
        process.communicate()
        os.close(ours)
    assert "Apply it?" in err
    assert process.returncode == 0
    assert ("Nothing was stored." in out) == (answer == "n")
    if answer == "y":
        until_state(cli, name, "A.2", "held")
    else:
        assert "A.2" not in states(cli, name)
    with Client.of_home(cli.home) as client:
        known = {view.name for view in client.agent_types(plan=name)}
    assert (f"poet-{answer}" in known) == (answer == "y")


def test_subtasks_that_were_shown_are_applied_and_worked_on(cli: CommandLine, api: MessagesApi) -> None:
    tasks = (
        "- [ ] **A.1** Look\n  - manual: yes\n"
        f"- [ ] **A.2** Make it\n  - agent: {AGENT_TYPE}\n  - depends: A.1\n"
    )
    path = submit(cli, tasks, "split")
    before = path.read_text()
    cli.run("decompose", str(path), "A.2")
    assert path.read_text() == before
    told = cli.data("decompose", str(path), "A.2", "--yes")
    assert (told["applied"], told["proposal"]["is_new"]) == (True, False)
    assert "  - [ ] **A.2.1** Make the left half\n" in path.read_text()
    until_state(cli, "split", "A.2.1", "waiting")
    cli.run("finish", "A.1", "--plan", "split")
    until_state(cli, "split", "A.2", "done")
    assert sum(map(is_question, api.requests)) == 1
    with Client.of_home(cli.home) as client:
        plan = client.plan("split")
        worked = [client.task(key, plan_id=plan.id).attempts for key in ("A.2.1", "A.2.2")]
    spent = [attempt.cost_micros for attempts in worked for attempt in attempts]
    assert min(spent) > 0
    assert plan.cost_micros == sum(spent) + told["proposal"]["cost_micros"]
