"""What a person gets wrong is told in one message with its remedy, quickly, and leaves nothing half done."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from orchestrator.stack import STACK_FILE, TOKEN_FILE
from orchestrator.store.address import Address
from tests.support.command_line import CommandLine
from tests.support.ports import free_port
from tests.support.postgres import running_server
from tests.support.small_disk import small_disk

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(600)]

QUICK_S = 60.0  # on a machine with other work; alone they take a second

GOOD = "# Good\n\n- [ ] **A.1** Do it\n  - run: `true`\n"
CYCLE = """# A cycle

- [ ] **A.1** First
  - depends: A.3
- [ ] **A.2** Second
  - depends: A.1
- [ ] **A.3** Third
  - depends: A.2
- [ ] **A.4** Not in it
  - depends: A.1
"""

#: Name of the case → the plan, the code of the finding, and words of it: the thing, then the remedy.
PLANS = {
    "empty": ("", "empty-plan", ("The plan is empty.", "Write at least one task")),
    "no-tasks": ("# Only prose\n\nNothing to do.\n", "no-tasks", ("has no tasks.", "Write at least one")),
    "self": (
        "# Itself\n\n- [ ] **A.1** One\n  - depends: A.1\n",
        "self-dependency",
        ("A.1 depends on itself.", "Remove that dependency."),
    ),
    "unknown": (
        "# Unknown\n\n- [ ] **A.1** One\n  - depends: A.7\n",
        "unknown-dependency",
        ("A.1 depends on A.7, and no task has that id.", "Correct the id or add the task."),
    ),
    "cycle": (
        CYCLE,
        "cycle",
        (
            "A.1 (line 3) → A.3 (line 7) → A.2 (line 5) → A.1 (line 3).",
            "Remove one of these dependencies; the weakest is",
        ),
    ),
}
each_plan = pytest.mark.parametrize(("text", "code", "words"), PLANS.values(), ids=PLANS)


def refused(cli: CommandLine, *arguments: str, code: int) -> str:
    """Run a command that must end with `code`, one message and nothing submitted; return the message."""
    started_s = time.monotonic()
    process = cli.start(*arguments)
    out, err = process.communicate(timeout=120)
    took_s = time.monotonic() - started_s
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}\n{cli.log()}"
    assert "error" not in out
    assert "submitted" not in out
    assert sum(line.startswith("error: ") for line in err.splitlines()) == 1, err
    assert "Traceback" not in err
    assert took_s < QUICK_S
    return err


def assert_nothing_was_begun(cli: CommandLine) -> None:
    """No process, no stack and no database."""
    cli.assert_nothing_is_left()
    assert not (cli.home / STACK_FILE).exists()
    assert not list(cli.home.glob("*postgres*/*"))


# --- plans


@each_plan
@pytest.mark.parametrize("command", ["run", "submit"])
def test_a_plan_with_errors_starts_nothing(
    cli: CommandLine, command: str, text: str, code: str, words: tuple[str, ...]
) -> None:
    plan = cli.plan(text)
    err = refused(cli, command, str(plan), code=3)
    for part in (*words, f" {code}]", str(plan), "has 1 error.", "nothing was started"):
        assert part in err
    assert not cli.home.exists()
    assert list(cli.folder.iterdir()) == [plan]


@each_plan
def test_a_plan_with_errors_is_told_to_programs(
    cli: CommandLine, text: str, code: str, words: tuple[str, ...]
) -> None:
    error = cli.data("run", str(cli.plan(text)), code=3)
    assert (error["code"], error["exit_code"]) == ("PlanError", 3)
    (finding,) = error["findings"]
    assert finding["code"] == code
    for part in words:
        assert part in f"{finding['message']} {finding['remedy']}"


def test_a_cycle_is_named_whole_and_without_who_only_waits_for_it(cli: CommandLine) -> None:
    err = refused(cli, "run", str(cli.plan(CYCLE)), code=3)
    assert "A.4" not in err


@each_plan
def test_http_refuses_a_plan_with_errors_and_stores_nothing(
    stack: CommandLine, text: str, code: str, words: tuple[str, ...]
) -> None:
    with http(stack) as client:
        before = client.get("/plans").json()
        problem = the_problem(client.post("/plans", content=text, headers=MARKDOWN), 422)
        assert client.get("/plans").json() == before
    assert code in [finding["code"] for finding in problem["findings"]]
    told = " ".join(f"{finding['message']} {finding['remedy']}" for finding in problem["findings"])
    for part in words:
        assert part in told


def test_a_plan_that_cannot_be_read_starts_nothing(cli: CommandLine) -> None:
    (cli.folder / "odd.md").write_bytes(b"\xff\xfe-")
    (cli.folder / "folder").mkdir()
    for name, words in {
        "absent.md": ("'absent.md' cannot be read: No such file", "Check the path and its permissions."),
        "odd.md": ("is no UTF-16 text: byte 2.", "Save it as UTF-8."),
        "folder": (
            "'folder' has no Markdown file and no plan of a tracker.",
            "Name a folder with Markdown files",
        ),
        os.devnull: ("/dev/null is no ordinary file.", "Name a file or a folder."),
    }.items():
        err = refused(cli, "run", name, code=3)
        assert all(part in err for part in words), err
    assert not cli.home.exists()


def test_a_plan_without_read_permission_starts_nothing(bound: CommandLine) -> None:
    plan = bound.plan(GOOD)
    plan.chmod(0)
    err = refused(bound, "run", str(plan), code=3)
    assert f"'{plan}' cannot be read: Permission denied." in err
    assert "Check the path and its permissions." in err
    assert not bound.home.exists()


@pytest.mark.parametrize(
    ("body", "content_type", "status", "words"),
    [
        (b"{", "application/json", 400, "/openapi.json"),
        (b'{"txt": "a"}', "application/json", 400, "txt: Extra inputs are not permitted"),
        (b"# Caf\xe9\n", "text/markdown", 422, "Save it as UTF-8."),
        (GOOD.encode(), "image/png", 415, "send text/markdown"),
    ],
)
def test_http_refuses_a_body_that_is_none(
    stack: CommandLine, body: bytes, content_type: str, status: int, words: str
) -> None:
    with http(stack) as client:
        answer = client.post("/plans", content=body, headers={"content-type": content_type})
        problem = the_problem(answer, status)
    assert words in f"{problem['detail']} {problem['remedy']}"


# --- token


def test_a_wrong_token_is_refused(stack: CommandLine, tmp_path: Path) -> None:
    with http(stack) as client:
        for authorization in ("Bearer wrong", "Basic wrong", ""):
            answer = client.get("/plans", headers={"authorization": authorization})
            problem = the_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert TOKEN_FILE in problem["remedy"]
    other = replace(stack, home=tmp_path)
    shutil.copy(stack.home / STACK_FILE, tmp_path)
    (tmp_path / TOKEN_FILE).write_text("wrong")
    err = refused(other, "tasks", "any", code=7)
    assert "token" in err
    (tmp_path / TOKEN_FILE).unlink()
    assert TOKEN_FILE in refused(other, "tasks", "any", code=7)


# --- database


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    with running_server() as found:
        yield found


def test_a_database_that_does_not_answer_is_named(cli: CommandLine) -> None:
    port = free_port()
    lost = cli.with_environment(DATABASE_URL=f"postgresql://ada:s3cret@127.0.0.1:{port}/work")
    err = refused(lost, "run", str(cli.plan(GOOD)), code=6)
    assert f"127.0.0.1:{port}/work" in err
    assert "Connection refused" in err
    assert "Check that the server runs" in err
    assert "s3cret" not in err + cli.log()
    assert_nothing_was_begun(cli)


@pytest.mark.parametrize("command", ["run", "up"])
def test_a_wrong_password_of_the_database_is_named_and_not_shown(
    cli: CommandLine, server: Address, command: str
) -> None:
    url = f"postgresql://postgres:s3cret@{server.host}:{server.port}/postgres"
    arguments = [str(cli.plan(GOOD))] if command == "run" else []
    err = refused(cli.with_environment(DATABASE_URL=url), command, *arguments, code=6)
    assert f"{server.host}:{server.port}/postgres" in err
    assert 'password authentication failed for user "postgres"' in err
    assert "Check that the server runs and DATABASE_URL names its host, user, password and database." in err
    assert "s3cret" not in err + cli.log()
    assert_nothing_was_begun(cli)


def test_a_database_url_that_is_none_is_refused_and_not_shown(cli: CommandLine) -> None:
    wrong = cli.with_environment(DATABASE_URL="mysql://ada:s3cret@127.0.0.1/work")
    err = refused(wrong, "run", str(cli.plan(GOOD)), code=2)
    assert "DATABASE_URL is no URL of a PostgreSQL." in err
    assert "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in err
    assert "s3cret" not in err + cli.log()
    assert_nothing_was_begun(cli)


# --- the machine


def test_a_port_in_use_is_named(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", cli.http_port)):
        err = refused(cli, "up", code=6)
    assert f"HTTP cannot listen on 127.0.0.1:{cli.http_port}: Address already in use." in err
    assert "choose another port with --port" in err
    assert_nothing_was_begun(cli)


@pytest.fixture
def bound(cli: CommandLine) -> CommandLine:
    """A command line that heeds permissions, for root too."""
    if os.geteuid() != 0:
        return cli
    if shutil.which("setpriv") is None:
        pytest.skip("NOT RUN: root heeds permissions only under setpriv, which is missing")
    return replace(cli, prefix=("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"))


@pytest.mark.parametrize("command", ["init", "run", "up"])
def test_a_home_without_permission_is_named(bound: CommandLine, command: str) -> None:
    locked = bound.folder / "locked"
    locked.mkdir(mode=0o555)
    arguments = [str(bound.plan(GOOD))] if command == "run" else []
    err = refused(replace(bound, home=locked / "home"), command, *arguments, code=6)
    assert str(locked / "home") in err
    assert "Permission denied" in err
    assert list(locked.iterdir()) == []


@pytest.mark.parametrize("command", ["init", "run", "up"])
def test_a_home_that_is_a_file_is_named(cli: CommandLine, command: str) -> None:
    cli.home.write_text("mine")
    arguments = [str(cli.plan(GOOD))] if command == "run" else []
    err = refused(cli, command, *arguments, code=6)
    assert str(cli.home) in err
    assert cli.home.read_text() == "mine"


def test_a_disk_that_is_full_at_init_is_told_and_nothing_stays(cli: CommandLine) -> None:
    with small_disk(cli.home, size="4k"):
        err = refused(cli, "init", code=6)
        assert list(cli.home.iterdir()) == []
    assert f"The home {cli.home} cannot be written: No space left on device." in err
    assert "Free some space" in err


@pytest.mark.parametrize("size", ["4k", "64k", "20m"])
@pytest.mark.parametrize("command", ["run", "up"])
def test_a_disk_that_is_full_at_the_first_start_leaves_no_half_database(
    cli: CommandLine, command: str, size: str
) -> None:
    arguments = [str(cli.plan(GOOD))] if command == "run" else []
    with small_disk(cli.home, size=size):
        err = refused(cli, command, *arguments, code=6)
        assert "No space left on device" in err or "is full" in err
        assert_nothing_was_begun(cli)


# --- HTTP

MARKDOWN = {"content-type": "text/markdown"}


@contextmanager
def http(stack: CommandLine) -> Iterator[httpx2.Client]:
    """A plain HTTP client with the token of the stack."""
    token = (stack.home / TOKEN_FILE).read_text()
    url = f"http://127.0.0.1:{stack.http_port}/api/v1"
    with httpx2.Client(
        base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=60, trust_env=False
    ) as client:
        yield client


def the_problem(answer: httpx2.Response, status: int) -> dict[str, Any]:
    """Return what an answer of this status says as problem+json (RFC 9457)."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem: dict[str, Any] = json.loads(answer.text)
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem
