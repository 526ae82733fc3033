"""The Host: a real one, with its own PostgreSQL, Ray and actors, over its pipes and its files."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from cluster.home import HostHome
from tests.support.command_line import CommandLine, own_command_line
from tests.support.host import Message, is_alive, postmaster_pid, running_host
from tests.support.ports import free_port

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(600)]

#: `A.2` waits until somebody makes the file `word`.
PLAN = """---
name: told
---
# A plan that takes long and fails

- [ ] **A.1** Say it
  - agent: backend-development
  - run: `echo said`
- [ ] **A.2** Wait for the word
  - depends: A.1
  - run: `while ! test -e word; do sleep 0.1; done`
- [ ] **A.3** Fail
  - depends: A.2
  - attempts: 1
  - run: `echo cannot; false`
"""


@pytest.fixture
def cli() -> Iterator[CommandLine]:
    with own_command_line() as found:
        yield found


def test_a_plan_is_followed_to_its_end_over_a_sigterm_in_mid_plan(cli: CommandLine) -> None:
    with running_host(cli) as host:
        host.submit(PLAN)
        submitted = host.hear_kind("submitted")
        assert submitted["is_new"]
        assert "actors" not in {message.get("step") for message in host.heard}, (
            "it is stored before Ray is up"
        )
        assert states(host.hear_kind("tasks")) == ["ready", "waiting", "waiting"]
        host.hear_event("task.done", "A.1")
        host.hear_event("attempt.started", "A.2")
        with running_host(cli) as second:
            refused = second.hear_kind("error")
            assert f"process {host.stack().pid}" in refused["message"]
            assert second.wait() == refused["exit_code"] == 6
        os.kill(host.stack().pid, signal.SIGTERM)
        assert host.wait() == 0
    assert_gone(cli)
    (cli.folder / "word").touch()
    with running_host(cli) as host:
        host.submit(PLAN)
        assert not host.hear_kind("submitted")["is_new"]
        host.hear_event("task.done", "A.2")
        host.hear_event("task.failed", "A.3")
        assert states(host.hear_kind("tasks")) == ["done", "done", "failed"]
        logs = host.hear_kind("logs")
        assert logs["task_key"] == "A.3"
        assert "cannot\n" in [line["text"] for line in logs["items"]]
        assert host.hear_kind("ended")["plan"]["state"] == "stalled"
        assert host.wait() == 0
    assert_gone(cli)


def states(tasks: Message) -> list[str]:
    """The states that a message tells of a plan's tasks."""
    return [task["state"] for task in tasks["items"]]


def assert_gone(cli: CommandLine) -> None:
    """A stack has ended in good order."""
    postmaster_gone(cli)
    cli.assert_nothing_is_left()
    assert not (cli.home / "stack.json").exists()
    assert not HostHome(cli.home).ray_folder.exists()
    assert list((cli.home / "ray").iterdir()) == []


def test_a_refused_plan_is_told_with_its_findings(cli: CommandLine) -> None:
    with running_host(cli) as host:
        host.submit("# Nothing to do\n")
        error = host.hear_kind("error")
        assert error["code"] == "PlanError"
        assert error["findings"]
        assert host.wait() == error["exit_code"] == 3
    cli.assert_nothing_is_left()


def test_the_end_of_stdin_is_the_end(cli: CommandLine) -> None:
    with running_host(cli) as host:
        host.hear(lambda message: message.get("step") == "postgres")
        host.process.stdin.close()
        assert host.wait() == 0
    cli.assert_nothing_is_left()


def test_a_port_in_use_keeps_everything_from_starting(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", cli.http_port)), running_host(cli, "--daemon") as host:
        assert host.wait() == 6
    told = (cli.home / "logs" / "host.progress").read_text().splitlines()
    error = json.loads(told[-1])
    assert f"127.0.0.1:{cli.http_port}" in error["message"]
    assert "--port" in error["remedy"]
    assert not (cli.home / "postgres.json").exists()
    cli.assert_nothing_is_left()


def test_a_wrong_database_url_is_told_and_ends_ray_too(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    environment = cli._environment() | {"DATABASE_URL": f"postgresql://me:secret@127.0.0.1:{port}/none"}
    monkeypatch.setattr(CommandLine, "_environment", lambda _: environment)
    with running_host(cli) as host:
        error = host.hear_kind("error")
        assert error["code"] == "DatabaseUnavailable"
        assert f"127.0.0.1:{port}" in error["message"]
        assert "secret" not in json.dumps(error)
        assert host.wait() == error["exit_code"] == 6
    cli.assert_nothing_is_left()


def test_a_ray_cluster_that_does_not_answer_is_told(cli: CommandLine) -> None:
    address = f"127.0.0.1:{free_port()}"
    with running_host(cli, "--stdio", "--address", address) as host:
        error = host.hear_kind("error")
        assert address in error["message"]
        assert host.wait() == error["exit_code"] == 6
    postmaster_gone(cli)
    cli.assert_nothing_is_left()


def postmaster_gone(cli: CommandLine) -> None:
    """PostgreSQL has ended, and in good order: it removed its pid file."""
    with pytest.raises(FileNotFoundError):
        assert not is_alive(postmaster_pid(cli.home))
