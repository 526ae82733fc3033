"""The commands that speak HTTP, against the real front end on a real PostgreSQL."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.following_logs import follow_logs
from orchestrator.cli.program import run
from orchestrator.client import Client
from orchestrator.core.requests import TASK_REQUESTS
from orchestrator.ports import TranscriptChunk
from orchestrator.stack import TOKEN_FILE
from orchestrator.store.crypto import NO_KEYS
from orchestrator.store.transcript_chunks import fold
from orchestrator.store.urls import DatabaseUrls
from tests.support.service import PLAN, RememberingScheduler, commit_events, execute

pytestmark = [pytest.mark.postgres, pytest.mark.usefixtures("home")]


@pytest.fixture
def plan_file(tmp_path: Path) -> str:
    path = tmp_path / "ship.md"
    path.write_text(PLAN)
    return str(path)


def _json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert run([*arguments, "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["schema_version"] == 1
    return found["error" if code and "error" in found else "data"]


def _set_plan(database: DatabaseUrls, state: str) -> None:
    execute(database, "UPDATE plans SET state = %s", state)


def test_a_plan_is_submitted_once_and_goes_on(
    plan_file: str, scheduler: RememberingScheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _json(capsys, "submit", plan_file)
    assert (first["name"], first["is_new"], first["tasks_total"]) == ("Ship it", True, 5)
    assert _json(capsys, "submit", plan_file)["is_new"] is False
    assert scheduler.nudges >= 1


def test_a_name_in_use_by_another_plan_is_a_conflict(
    plan_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["submit", plan_file])
    Path(plan_file).write_text(PLAN + "- [ ] **A.6** One more\n")
    capsys.readouterr()
    error = _json(capsys, "submit", plan_file, code=1)
    assert error["code"] == "Conflict"
    assert "--fresh" in error["remedy"]


def test_the_faults_of_a_file_that_revises_name_the_file(
    plan_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["submit", plan_file])
    Path(plan_file).write_text(PLAN + "- [ ] **A.6** One more\n  - depends: A.99\n")
    line = len(Path(plan_file).read_text().splitlines())
    capsys.readouterr()
    assert run(["import", plan_file, "--yes"]) == 3
    assert f"{plan_file}:{line}: error: A.6 depends on A.99" in capsys.readouterr().err


def test_a_limit_of_a_finished_plan_is_kept_and_said_to_wait(
    plan_file: str, database: DatabaseUrls, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["submit", plan_file])
    _set_plan(database, "done")
    capsys.readouterr()
    assert run(["limits", "--plan", "Ship it=2"]) == 0
    assert "Plan 'Ship it' is done: its limit counts if it goes on." in capsys.readouterr().err


def test_tasks_and_one_task_are_shown(plan_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(["submit", plan_file])
    capsys.readouterr()
    keys = [task["key"] for task in _json(capsys, "tasks", "Ship it") if task["kind"] == "leaf"]
    assert keys == ["A.1", "A.2", "A.3", "A.4", "A.5"]
    assert [task["key"] for task in _json(capsys, "tasks", "Ship it", "--state", "held")] == ["A.4", "A.5"]
    assert _json(capsys, "show", "A.2", "--plan", "Ship it")["run"] == ["true"]
    assert run(["show", "A.2"]) == 0
    out = capsys.readouterr().out
    assert "backend-development by override" in out
    assert "retry lost  never" in out
    assert "  waits     its plan is" in out or "  waits     the scheduler has not taken" in out
    assert [wait["reason"] for wait in _json(capsys, "show", "A.4")["waits"]] == ["in progress elsewhere"]
    assert run(["tasks", "Ship it"]) == 0
    assert "in progress elsewhere" in capsys.readouterr().out
    assert run(["show", "Ship it"]) == 0
    assert "Ship it (plan" in capsys.readouterr().out


def _write(database: DatabaseUrls, seq: int, text: str) -> None:
    """Store a piece of the transcript of token 5."""
    chunk = TranscriptChunk(token=5, seq=seq, lines=[(seq, "stdout", text)])
    ((_, packed),) = fold([chunk], keys=NO_KEYS)
    execute(database, "INSERT INTO transcript_chunks (token, seq, bytes) VALUES (5, %s, %s)", seq, packed)


def test_logs_are_followed_until_the_task_has_ended(
    plan_file: str, home: Path, database: DatabaseUrls, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["submit", plan_file])
    capsys.readouterr()
    execute(
        database,
        "INSERT INTO attempts (token, plan_id, task_id, number, kind, agent_type, backend, executor,"
        " cluster_id, epoch, state) SELECT 5, plan_id, id, 1, 'work', agent_type, 'command', 'executor-1',"
        " 'c', 1, 'started' FROM tasks WHERE key = 'A.2'",
    )
    _write(database, 1, "one\n")
    with Client.of_home(home) as client:
        pieces = follow_logs(client, client.task("A.2").id, on_waiting=lambda _: None)
        assert next(pieces).text == "one\n"
        _write(database, 2, "two\n")  # while the other side waits for more
        assert next(pieces).text == "two\n"
        _write(database, 3, "three\n")
        execute(database, "UPDATE attempts SET state = 'succeeded', ended_at = now()")
        execute(
            database,
            "UPDATE task_states SET state = 'done' WHERE task_id = (SELECT id FROM tasks WHERE key = 'A.2')",
        )
        assert [piece.text for piece in pieces] == ["three\n"]
    assert run(["logs", "A.2", "-f"]) == 0
    assert capsys.readouterr().out == "── work 1 (token 5)\none\ntwo\nthree\n"
    assert run(["logs", "A.2", "--follow", "--json"]) == 0
    said = [json.loads(line)["data"] for line in capsys.readouterr().out.splitlines()]
    assert [(line["seq"], line["text"]) for line in said] == [(1, "one\n"), (2, "two\n"), (3, "three\n")]


def test_what_does_not_exist_exits_4(plan_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _json(capsys, "tasks", "nothing", code=4)["code"] == "NotFound"
    run(["submit", plan_file])
    capsys.readouterr()
    assert _json(capsys, "show", "Z.9", code=4)["code"] == "NotFound"
    assert _json(capsys, "logs", "Z.9", "--plan", "Ship it", code=4)["code"] == "NotFound"
    assert (
        "attempt 9" in _json(capsys, "logs", "A.1", "--plan", "Ship it", "--attempt", "9", code=4)["message"]
    )


def test_a_wrong_token_exits_7(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / TOKEN_FILE).write_text("guess")
    assert _json(capsys, "status", code=7)["code"] == "Unauthorized"


def test_changes_reach_the_scheduler(
    plan_file: str, scheduler: RememberingScheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["submit", plan_file])
    # What sync says, and what takes a sum instead of a reason:
    for kind in sorted(TASK_REQUESTS - {"tick_task", "untick_task", "set_task_budget"}):
        assert run([kind.removesuffix("_task"), "A.5", "--plan", "Ship it", "--reason", "because"]) == 0
        asked, arguments, key = scheduler.requests[-1]
        assert (asked, arguments["reason"], arguments["tenant_id"]) == (kind, "because", "local")
        assert key
    assert run(["cancel", "--plan", "Ship it"]) == 0
    assert scheduler.requests[-1][0] == "cancel_plan"
    assert "Ship it: accepted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "kind", "said"),
    [
        (["pause", "Ship it", "--reason", "r"], "pause_plan", {"plan_id": 1, "reason": "r"}),
        (["resume", "Ship it"], "resume_plan", {"plan_id": 1}),
        (["pause", "--all", "--reason", "r"], "pause_all", {"reason": "r"}),
        (["resume", "--all"], "resume_all", {}),
        (
            [
                "limits",
                "--total",
                "8",
                "--agent",
                "code-reviewer=2",
                "--tenant",
                "x=3",
                "--plan",
                "Ship it=0",
                "--tenant-budget",
                "x=2.50",
                "--day-budget",
                "9",
            ],
            "set_limits",
            {
                "limits": {
                    "sessions_max": 8,
                    "agents": {"code-reviewer": 2},
                    "tenants": {"x": 3},
                    "plans": {"1": 0},
                    "tenant_budgets": {"x": 2_500_000},
                    "day_budget": 9_000_000,
                }
            },
        ),
    ],
)
def test_what_is_asked_of_a_plan_or_of_everything_reaches_the_scheduler(
    command: list[str], kind: str, said: dict[str, Any], plan_file: str, scheduler: RememberingScheduler
) -> None:
    run(["submit", plan_file])
    assert run(command) == 0
    asked, arguments, key = scheduler.requests[-1]
    assert key
    assert asked == kind
    told = {name: value for name, value in arguments.items() if value}
    assert json.loads(json.dumps(told)) == {"tenant_id": "local", **said}


def test_a_budget_is_set_in_dollars(
    plan_file: str, scheduler: RememberingScheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["submit", plan_file])
    standing = {"budget_micros": 2_500_000, "spent_micros": 1_000_000}
    scheduler.answer = {**standing, "reserved_micros": 0, "ending": 0}
    capsys.readouterr()
    assert run(["budget", "Ship it", "2.5"]) == 0
    assert scheduler.requests[-1][1]["budget_micros"] == 2_500_000
    assert capsys.readouterr().out == "Ship it: $1.00 of $2.50 spent\n"
    scheduler.answer = {**standing, "reserved_micros": 5_000_000, "ending": 1}
    assert run(["budget", "Ship it", "2.5"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Ship it: $1.00 of $2.50 spent, $5.00 set aside for sessions; that is too little")
    assert run(["budget", "Ship it", "3", "--task", "A.1"]) == 0
    kind, asked, _ = scheduler.requests[-1]
    assert (kind, asked["budget_micros"]) == ("set_task_budget", 3_000_000)
    assert capsys.readouterr().out.startswith("A.1: ")
    assert run(["submit", plan_file, "--budget", "7"]) == 0  # a known plan takes the budget it comes with
    assert (scheduler.requests[-1][0], scheduler.requests[-1][1]["budget_micros"]) == (
        "set_budget",
        7_000_000,
    )


@pytest.mark.parametrize(
    "command",
    [
        ["pause"],
        ["pause", "Ship it", "--all"],
        ["resume", "--all", "--until", "A.2"],
        ["limits", "--total", "-1"],
        ["limits", "--total", "99999999"],
        ["limits", "--agent", "coder"],
        ["limits", "--agent", "coder=many"],
        ["limits", "--tenant-budget", "x=much"],
        ["limits", "--day-budget", "-1"],
        ["limits", "--agent", "a b=2"],
        ["budget", "Ship it", "-1"],
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(
    command: list[str], plan_file: str, scheduler: RememberingScheduler
) -> None:
    run(["submit", plan_file])
    assert run(command) == 2
    assert scheduler.requests == []


def test_limits_and_a_status_that_needs_people_are_shown(
    plan_file: str, scheduler: RememberingScheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["submit", plan_file])
    pool = {"agent_type": "coder", "executors": 1, "slots": 2, "running": 0, "queued": 3}
    total = {"scope": "total", "name": "", "live": 2, "sessions_max": 8, "is_set": True}
    coder = {"scope": "agent", "name": "coder", "live": 2, "sessions_max": None, "is_set": False}
    scheduler.told = {
        "is_paused": True,
        "pause_reason": "the disk is full",
        "unknown_commits": 1,
        "limits": [{**total, "tenant_id": ""}, {**coder, "tenant_id": ""}],
        "pools": [{**pool, "breaker": "open", "breaker_failures": 5}],
    }
    capsys.readouterr()
    assert _json(capsys, "limits") == [total, coder]
    assert run(["limits"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [["total", "2", "8", "request"], ["agent", "coder", "2", "no", "limit", "settings"]]
    status = _json(capsys, "status")
    assert status["status"]["unknown_commits"] == 1
    assert [task["key"] for task in status["held"]["Ship it"]] == ["A.4", "A.5"]
    assert run(["status"]) == 0
    out = capsys.readouterr().out
    assert "everything is paused (the disk is full): nothing starts until `orchestrator resume --all`" in out
    assert "the breaker of coder is open: 5 tasks failed one after the other" in out
    assert "held    Ship it: A.5  Sell it" in out
    assert run(["show", "Ship it"]) == 0
    assert "everything is paused (the disk is full)" in capsys.readouterr().out


def test_status_tells_stack_sessions_and_plans(plan_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(["submit", plan_file])
    capsys.readouterr()
    data = _json(capsys, "status")
    assert data["status"]["epoch"] == 3
    assert [plan["name"] for plan in data["plans"]] == ["Ship it"]
    assert data["stack"]["mode"] == "up"
    assert run(["status"]) == 0
    assert "Ship it" in capsys.readouterr().out


def test_up_on_a_running_stack_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    assert _json(capsys, "up")["is_new"] is False
    assert run(["up"]) == 0
    assert capsys.readouterr().out.startswith("Up already")


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("stalled", 8), ("cancelled", 5), ("paused", 8)])
def test_watching_a_plan_that_has_ended_tells_how(
    state: str, code: int, plan_file: str, database: DatabaseUrls, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["submit", plan_file])
    _set_plan(database, state)
    capsys.readouterr()
    assert run(["watch", "Ship it"]) == code
    out = capsys.readouterr().out
    assert f"Ship it: {state}" in out
    assert "in progress elsewhere: to work on it here as well, `orchestrator release A.4" in out


def test_a_run_is_handed_to_the_stack_and_followed_to_its_end(
    plan_file: str, database: DatabaseUrls, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    following = threading.Thread(target=lambda: codes.append(run(["run", plan_file])))
    following.start()
    with Client.of_home(home) as client:
        while not (plans := client.plans().items):
            pass
        plan_id = plans[0].id
        commit_events(database, "plan.active", plan_id=plan_id)
        _set_plan(database, "done")
        following.join(20)
    assert codes == [0]
    out = capsys.readouterr().out
    assert "Ship it: done" in out
