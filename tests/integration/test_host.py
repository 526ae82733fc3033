"""The Host: a real one, with its own PostgreSQL, Ray and actors, over its pipes and its files."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.home import HostHome
from cluster.sockets import listening_sockets
from tests.support.command_line import CommandLine, own_command_line
from tests.support.host import LONG_PLAN, is_alive, postmaster_pid, running_host
from tests.support.ports import free_port

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(600)]

SHORT_PLAN = """---
name: short
---
# A short plan

- [ ] **A.1** Say it
  - agent: backend-development
  - run: `echo said`
- [ ] **A.2** Fail
  - depends: A.1
  - attempts: 1
  - run: `echo cannot; false`
"""


@pytest.fixture
def cli() -> Iterator[CommandLine]:
    with own_command_line() as found:
        yield found


def test_a_plan_is_stored_before_ray_is_up_and_followed_to_its_end(cli: CommandLine) -> None:
    with running_host(cli) as host:
        host.submit(SHORT_PLAN)
        submitted = host.hear_kind("submitted")
        assert submitted["is_new"]
        assert "actors" not in {message.get("step") for message in host.heard}
        assert [task["state"] for task in host.hear_kind("tasks")["items"]] == ["ready", "waiting"]
        host.hear_event("task.done", "A.1")
        host.hear_event("task.failed", "A.2")
        assert [task["state"] for task in host.hear_kind("tasks")["items"]] == ["done", "failed"]
        logs = host.hear_kind("logs")
        assert logs["task_key"] == "A.2"
        assert "cannot\n" in [line["text"] for line in logs["items"]]
        assert host.hear_kind("ended")["plan"]["state"] == "stalled"
        assert host.wait() == 0
    postmaster_gone(cli)
    cli.assert_nothing_is_left()
    assert not (cli.home / "stack.json").exists()
    assert not HostHome(cli.home).ray_folder.exists()
    assert list((cli.home / "ray").iterdir()) == []


def test_sigterm_in_mid_plan_ends_all_and_the_next_start_goes_on(cli: CommandLine) -> None:
    with running_host(cli) as host:
        host.submit(LONG_PLAN)
        host.hear_event("attempt.started", "A.2")
        with running_host(cli) as second:
            refused = second.hear_kind("error")
            assert f"process {host.stack().pid}" in refused["message"]
            assert second.wait() == refused["exit_code"] == 6
        os.kill(host.stack().pid, signal.SIGTERM)
        assert host.wait() == 0
    postmaster_gone(cli)
    cli.assert_nothing_is_left()
    (cli.folder / "word").touch()
    with running_host(cli) as host:
        host.submit(LONG_PLAN)
        assert not host.hear_kind("submitted")["is_new"]
        assert host.hear_kind("ended")["plan"]["state"] == "done"
    assert (cli.folder / "ended").read_text() == "ended\n"


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


def test_a_daemon_serves_http_and_the_dashboard_on_this_machine_alone(cli: CommandLine) -> None:
    with running_host(cli, "--daemon") as host:
        wait_ready(cli)
        stack = host.stack()
        assert urllib.request.urlopen(f"{stack.url}/readyz", timeout=60).status == 200
        token = (cli.home / "ray-token").read_text()
        request = urllib.request.Request(
            f"{stack.dashboard_url}/api/version", headers={"Authorization": f"Bearer {token}"}
        )
        assert json.load(urllib.request.urlopen(request, timeout=60))["ray_version"]
        for name in ("stack.json", "token", "ray-token", "encryption-keys", "postgres.json"):
            assert stat.S_IMODE((cli.home / name).stat().st_mode) == 0o600
        assert listed_actors(cli, stack.dashboard_url) >= {"scheduler", "pools", "metrics"}
        sockets = listening_sockets(set(cli.processes()))
        assert len(sockets) > 10
        assert [found for found in sockets if not found.is_loopback] == []
        os.kill(stack.pid, signal.SIGTERM)
        assert host.wait() == 0
    postmaster_gone(cli)
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


def listed_actors(cli: CommandLine, dashboard_url: str) -> set[str]:
    """The names that `ray list actors` shows to the holder of the token."""
    environment = cli._environment() | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(cli.home / "ray-token"),
    }
    program = str(Path(sys.executable).with_name("ray"))
    command = [program, "list", "actors", "--format", "json", "--address", dashboard_url]
    out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=120, check=True).stdout
    return {actor["name"] for actor in json.loads(out)}


def wait_ready(cli: CommandLine) -> None:
    """Wait until the stack says that it is ready, as the command line does."""
    deadline_s = time.monotonic() + 120
    while '"state": "ready"' not in _content(cli.home / "stack.json"):
        assert time.monotonic() < deadline_s, cli.log()
        time.sleep(0.1)


def _content(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def postmaster_gone(cli: CommandLine) -> None:
    """PostgreSQL has ended, and in good order: it removed its pid file."""
    with pytest.raises(FileNotFoundError):
        assert not is_alive(postmaster_pid(cli.home))
