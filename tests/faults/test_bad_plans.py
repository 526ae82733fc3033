"""Plans that no scheduler should ever see, over HTTP: refused with field and task, and nothing is stored.

What is only large is no fault: 100,000 tasks are taken, and so is a text that looks like JSON or SQL. The
plans with which people err are in tests/acceptance/test_bad_input.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from orchestrator.stack import TOKEN_FILE
from orchestrator.store.embedded import attach
from tests.support.command_line import CommandLine, read_until, running_stack
from tests.support.extent import EXTENT, IS_FULL
from tests.support.host import wait_until
from tests.support.processes import ROOT, foreign_environment
from tests.support.rows import Rows

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(600)]

#: Tasks of the largest plan, and dependencies of the densest.
TASKS = 100_000 if IS_FULL else 5_000
EDGES = 100_000 if IS_FULL else 10_000

MARKDOWN, JSON = "text/markdown", "application/json"
LOOKS_LIKE = '\'); DROP TABLE tasks; -- {"plan_version": 1}'


def markdown(*fields: str) -> tuple[bytes, str]:
    """A plan of one task with these fields, the last of them wrong."""
    lines = [f"  - {field}\n" for field in ("run: `true`", *fields)]
    return f"# Bad\n\n- [ ] **A.1** One\n{''.join(lines)}".encode(), MARKDOWN


def native(**fields: object) -> tuple[bytes, str]:
    """A native plan of one task with these fields."""
    task = {"key": "A.1", "title": "One", "run": ["true"], **fields}
    return json.dumps({"plan_version": 1, "name": "bad", "tasks": [task]}).encode(), JSON


def request(**fields: object) -> tuple[bytes, str]:
    """A request with a good plan and these fields."""
    return json.dumps({"text": markdown()[0].decode(), "name": "bad", **fields}).encode(), JSON


def deep(levels: int) -> tuple[bytes, str]:
    """A native plan with so many containers in each other."""
    task: dict[str, object] = {"key": "K", "title": "Leaf"}
    for level in range(levels):
        task = {"key": f"K{level}", "title": "Container", "tasks": [task]}
    return json.dumps({"plan_version": 1, "name": "bad", "tasks": [task]}).encode(), JSON


def chained(count: int, *, needs: int, first: str = "") -> tuple[bytes, str]:
    """A plan in which each task depends on the `needs` tasks before it; `first` is a field of the first."""
    lines = ["# Dense\n", "- [ ] **T.1** Task", "  - run: `true`", *([f"  - {first}"] if first else [])]
    for n in range(2, count + 1):
        on = ", ".join(f"T.{k}" for k in range(max(1, n - needs), n))
        lines += [f"- [ ] **T.{n}** Task", "  - run: `true`", f"  - depends: {on}"]
    return ("\n".join(lines) + "\n").encode(), MARKDOWN


#: Name of the case → body, content type; status; words of the answer: field or place, and task.
SMALL: Mapping[str, tuple[tuple[bytes, str], int, tuple[str, ...]]] = {
    "self-dependency": (markdown("depends: A.1"), 422, ("A.1 depends on itself.",)),
    "self-dependency-native": (native(depends_on=["A.1"]), 422, ("A.1 depends on itself.",)),
    "unknown-id-native": (native(depends_on=["Z.9"]), 422, ("A.1 depends on Z.9", "no task has that id")),
    "negative-timeout": (markdown("timeout: -5 min"), 422, ("line 5", "`timeout` of A.1 is '-5 min'")),
    "zero-timeout": (markdown("timeout: 0 s"), 422, ("line 5", "`timeout` of A.1 is '0 s'")),
    "huge-timeout": (markdown("timeout: 9999999999 h"), 422, ("`timeout` of A.1", "below 1000 weeks")),
    "negative-timeout-native": (native(timeout="-5 min"), 422, ("tasks[0]", "`timeout` of A.1")),
    "number-as-timeout": (native(timeout=-5), 422, ("`tasks[0].timeout`",)),
    "negative-attempts": (markdown("attempts: -1"), 422, ("line 5", "`attempts` of A.1 is '-1'")),
    "nan-estimate": (native(estimate=float("nan")), 422, ("`tasks[0].estimate",)),
    "infinite-priority": (native(priority=float("inf")), 422, ("`tasks[0].priority`",)),
    "nan-budget": (request(budget_micros=float("nan")), 400, ("budget_micros",)),
    "negative-budget": (request(budget_micros=-1), 400, ("budget_micros",)),
    "huge-budget": (request(budget_micros=10**30), 400, ("budget_micros",)),
    "nul-in-title": (native(title="One\0"), 422, ("`tasks[0].title`", "NUL")),
    "nul-in-command": (native(run=["true", "echo \0"]), 422, ("`tasks[0].run[1]`", "NUL")),
    "surrogate-in-title": (native(title="One\ud800"), 422, ("`tasks[0].title`", "surrogate")),
    "surrogate-in-request": (request(source="\ud800"), 400, ("malformed",)),
    "surrogate-as-bytes": ((b"# Bad\n\n- [ ] **A.1** One \xed\xa0\x80\n", MARKDOWN), 422, ("byte 25",)),
    "tasks-too-deep": (deep(60), 422, ("nested deeper than 50 levels",)),
    "brackets-too-deep": ((b'{"plan_version": 1, "tasks": ' + b"[" * 100_000, JSON), 400, ("recursion",)),
    "objects-too-deep": ((b'{"a":' * 50_000, JSON), 400, ("recursion",)),
    "number-too-long": ((b'{"text": ' + b"9" * 100_000 + b"}", JSON), 400, ("malformed",)),
}
LARGE: Mapping[str, tuple[tuple[bytes, str], int, tuple[str, ...]]] = {
    "10-mb-of-prose": ((b"# Bad\n\n" + b"x" * 10_000_000, MARKDOWN), 422, ("The plan has no tasks.",)),
    "10-mb-of-boxes": ((b"# Bad\n\n" + b"[ ]" * 3_300_000, MARKDOWN), 422, ("The plan has no tasks.",)),
    "21-mb": ((b"x" * 21_000_000, MARKDOWN), 413, ("larger than 20000000 bytes",)),
    "a-cycle-of-many": (chained(EDGES // 50, needs=50, first="depends: T.9"), 422, ("wait for each other",)),
}


@pytest.fixture(scope="module")
def cli() -> Iterator[CommandLine]:
    with running_stack() as found:
        yield found


@pytest.fixture(scope="module")
def http(cli: CommandLine) -> Iterator[httpx2.Client]:
    token = (cli.home / TOKEN_FILE).read_text()
    url = f"http://127.0.0.1:{cli.http_port}/api/v1"
    headers = {"authorization": f"Bearer {token}"}
    with httpx2.Client(base_url=url, headers=headers, timeout=300, trust_env=False) as client:
        yield client


@pytest.fixture
def rows(cli: CommandLine) -> Rows:
    address = attach(cli.home)
    assert address is not None, cli.log()
    return Rows(address.urls())


def hand_in(http: httpx2.Client, body: tuple[bytes, str], *, name: str = "") -> tuple[int, Any, float]:
    """Hand in a plan; return status, answer and how long it took in ms."""
    content, kind = body
    start_s = time.monotonic()
    answer = http.post(
        "/plans", content=content, headers={"content-type": kind}, params={"name": name} if name else {}
    )
    return answer.status_code, answer.json(), (time.monotonic() - start_s) * 1000


def everything(rows: Rows) -> list[int]:
    """Count the rows of every table that a plan could leave something in."""
    tables = ("plans", "tasks", "task_states", "task_dependencies", "attempts", "events", "routing_decisions")
    return [rows.column(f"SELECT count(*) FROM {table}")[0] for table in tables]


@contextmanager
def pings(cli: CommandLine) -> Iterator[dict[str, float]]:
    """Ping the scheduler meanwhile; the round trips are told when the block has ended."""
    told: dict[str, float] = {}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.scheduler_pings", str(cli.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=foreign_environment(),
        cwd=ROOT,
        text=True,
    )
    try:
        read_until(process, "ready")
        yield told
    finally:
        out, _ = process.communicate(timeout=120)
    told.update({name: round(value, 1) for name, value in json.loads(out).items()})


def _told(finding: Mapping[str, str]) -> str:
    return f"{finding['message']} {finding['remedy']}"


@pytest.mark.parametrize("cases", [pytest.param(SMALL, id="small"), pytest.param(LARGE, id="large")])
def test_a_bad_plan_is_refused_at_the_door(
    cli: CommandLine,
    http: httpx2.Client,
    rows: Rows,
    cases: Mapping[str, tuple[tuple[bytes, str], int, tuple[str, ...]]],
) -> None:
    before, took_ms = everything(rows), {}
    with pings(cli) as round_trips:
        for name, (body, status, words) in cases.items():
            found, problem, took_ms[name] = hand_in(http, body)
            assert found == status, (name, problem)
            told = " ".join([problem["detail"], *map(_told, problem.get("findings", ()))])
            for part in words:
                assert part in told, name
    assert everything(rows) == before
    slowest = max(took_ms, key=lambda name: took_ms[name])
    print(
        f"{EXTENT}: {len(cases)} bad plans refused, the slowest ({slowest}) after {took_ms[slowest]:.0f} ms; "
        f"round trips to the scheduler meanwhile: {round_trips}"
    )


def test_what_only_looks_wrong_or_is_only_large_is_a_plan(
    cli: CommandLine, http: httpx2.Client, rows: Rows
) -> None:
    looks = native(title=LOOKS_LIKE, body=LOOKS_LIKE, run=["true"])
    status, answer, _ = hand_in(http, looks)
    assert status == 202, answer
    plan_id = answer["plan_id"]
    wait_until(
        lambda: rows.column("SELECT state FROM plans WHERE id = %s", plan_id) == ["done"],
        timeout_s=120,
        what="the plan is done",
    )
    assert rows.column("SELECT title FROM tasks WHERE plan_id = %s", plan_id) == [LOOKS_LIKE]
    with pings(cli) as round_trips:
        took_ms = {}
        for name, body, tasks in (
            ("dense", chained(EDGES // 50, needs=50), EDGES // 50),
            ("many", held(TASKS), TASKS),
        ):
            status, answer, took_ms[name] = hand_in(http, body, name=name)
            assert (status, answer.get("tasks_total")) == (202, tasks), answer
            assert http.post(f"/plans/{name}/cancel").status_code in (200, 409, 503)
    count = "SELECT count(*) FROM tasks AS t JOIN plans AS p ON p.id = t.plan_id WHERE p.name = 'many'"
    assert rows.column(count) == [TASKS]
    print(
        f"{EXTENT}: {EDGES} dependencies taken in {took_ms['dense']:.0f} ms, {TASKS} tasks in "
        f"{took_ms['many']:.0f} ms; round trips to the scheduler meanwhile: {round_trips}"
    )


def held(count: int) -> tuple[bytes, str]:
    """A plan of so many tasks, none of which starts before somebody approves the first."""
    lines = ["# Many\n", "- [ ] **T.1** Task", "  - approve: the owner", "  - run: `true`"]
    for n in range(2, count + 1):
        lines += [f"- [ ] **T.{n}** Task", "  - depends: T.1", "  - run: `true`"]
    return ("\n".join(lines) + "\n").encode(), MARKDOWN
