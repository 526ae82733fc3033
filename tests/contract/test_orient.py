"""`orient` and `notes` by the command line, through the real front end on a real PostgreSQL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.program import run
from orchestrator.client import Client
from orchestrator.errors import Conflict
from orchestrator.sessions.tokens import estimate_tokens
from orchestrator.store.urls import DatabaseUrls
from orchestrator.views import NewNote, NoteKind, SubmitRequest
from tests.support.served import served_home
from tests.support.service import PLAN, RememberingScheduler, execute

pytestmark = pytest.mark.postgres


@pytest.fixture
def client(database: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    with served_home(database, tmp_path / "home", scheduler=RememberingScheduler()) as home:
        monkeypatch.setenv("ORCHESTRATOR_HOME", str(home))
        with Client.of_home(home) as client:
            client.submit(SubmitRequest(text=PLAN))
            yield client


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run([*arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def told_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(told(capsys, *arguments, "--json"))["data"]


def test_a_task_is_told_as_its_session_is(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["orient", "A.2", "--plan", "Ship it"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("# Task A.2: Build it\n")
    assert "Ship it › Track A: Build" in captured.out
    assert "- A.1 Design it (done): by import, no evidence" in captured.out
    tokens = estimate_tokens(captured.out.removesuffix("\n"))
    assert captured.err == f"About {tokens:,} tokens of 3,000.\n"
    assert run(["orient", "A.2", "--tokens", "1", "--json"]) == 1
    refused = json.loads(capsys.readouterr().out)["error"]
    (least,) = re.findall(r"takes (\d+)\.", refused["message"])
    pack = told_json(capsys, "orient", "A.2", "--tokens", least)
    assert (str(pack["tokens"]), str(pack["tokens_max"]), pack["left_out"]) == (least, least, ["1 outcome"])
    assert run(["orient", "A.2", "--tokens", str(int(least) - 1)]) == 1
    assert run(["orient", "--plan", "Ship it", "--tokens", "1"]) == 1
    assert "or more" in capsys.readouterr().err
    assert "1 outcome. The tool `notes`" in pack["text"]


def test_a_plan_is_told_by_what_is_ready_blocked_and_decided(
    client: Client, database: DatabaseUrls, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(
        database,
        "UPDATE task_states SET state = 'failed', reason = 'out of attempts' WHERE task_id ="
        " (SELECT id FROM tasks WHERE key = 'A.3')",
    )
    told(capsys, "notes", "Ship it", "--write", "Ship on Friday.", "--decision")
    brief = told(capsys, "orient")
    assert brief == told(capsys, "orient", "--plan", "Ship it")
    for part in (
        "# Plan Ship it (submitted)",
        "1 of 5 tasks are done",
        "## Ready\n\n- A.2 Build it (ready, backend-development)",
        "- A.3 Test it (failed: out of attempts,",
        "- A.4 Paint it (held: in progress elsewhere,",
        "## Decisions\n\n- a person: Ship on Friday.",
    ):
        assert part in brief


def test_the_only_unfinished_plan_need_not_be_named(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.submit(SubmitRequest(text=PLAN, name="other"))
    assert "2 unfinished plans, such as 'other', 'Ship it'" in told(capsys, "orient", code=4)
    assert "# Plan other" in told(capsys, "orient", "--plan", "other")


def test_notes_are_left_and_listed_the_newest_first(
    client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    told(capsys, "notes", "Ship it", "--write", "The port is 8081.", "--task", "A.1")
    told(capsys, "notes", "Ship it", "--write", "UTC everywhere.", "--decision", "--task", "A.2")
    told(capsys, "notes", "Ship it", "--write", "Be quick.")
    listed = told_json(capsys, "notes", "Ship it")
    assert [(note["task_key"], note["kind"]) for note in listed] == [
        ("", "note"), ("A.2", "decision"), ("A.1", "note"),
    ]  # fmt: skip
    assert [note["text"] for note in told_json(capsys, "notes", "Ship it", "--task", "A.1")] == [
        "The port is 8081."
    ]
    assert "UTC everywhere." in told(capsys, "notes", "Ship it", "--decision")
    pack = told(capsys, "orient", "A.3")  # it depends on A.2 and not on A.1
    assert "UTC everywhere." in pack
    assert "Be quick." in pack
    assert "8081" not in pack
    assert "8081" in told(capsys, "orient", "A.2")


def test_what_is_no_note_is_refused(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no task 'Z.9'" in told(capsys, "notes", "Ship it", "--write", "x", "--task", "Z.9", code=4)
    assert "at most 2000" in told(capsys, "notes", "Ship it", "--write", "x" * 2_001, code=2)
    assert told_json(capsys, "notes", "Ship it") == []


def test_pages_of_notes_follow_each_other(client: Client) -> None:
    for n in range(5):
        client.write_note(client.plan("Ship it").id, NewNote(text=f"note {n}"))
    plan_id = client.plan("Ship it").id
    first = client.notes(plan_id, limit=3)
    rest = client.notes(plan_id, limit=3, after=first.next)
    assert [note.text for note in (*first.items, *rest.items)] == [f"note {n}" for n in (4, 3, 2, 1, 0)]
    assert rest.next == ""


def test_the_same_note_under_the_same_key_is_kept_once(client: Client) -> None:
    plan_id = client.plan("Ship it").id
    new = NewNote(text="once", kind=NoteKind.DECISION)
    assert client.write_note(plan_id, new, idempotency_key="k") == client.write_note(
        plan_id, new, idempotency_key="k"
    )
    assert len(client.notes(plan_id).items) == 1
    with pytest.raises(Conflict):
        client.write_note(plan_id, NewNote(text="twice"), idempotency_key="k")
