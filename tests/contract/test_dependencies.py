"""`deps` against the real front end on a real PostgreSQL: what a plan says, and what a person decides."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.program import run
from orchestrator.core.commands import SaveDependency
from orchestrator.core.words import DependencyDecision
from orchestrator.errors import Conflict
from orchestrator.store.urls import DatabaseUrls
from tests.support.service import RememberingScheduler, execute
from tests.support.stores import PostgresStores

pytestmark = pytest.mark.postgres

PLAN = """\
---
name: bridge
---
- [ ] T001 Survey
- [ ] T002 Foundations
  Ideally after T001.
- [ ] T003 Deck (depends on T002)
- [ ] T004 Paint
  See T003, and wait for T002.
"""


@pytest.fixture(autouse=True)
def plan(home: Path, tmp_path: Path) -> None:
    """The plan is stored."""
    (tmp_path / "bridge.md").write_text(PLAN)
    assert run(["submit", str(tmp_path / "bridge.md")]) == 0


def _json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run([*arguments, "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    return found["error" if code else "data"]


def _rows(edges: Any) -> list[tuple[object, ...]]:
    names = ("task", "on", "kind", "is_explicit", "evidence", "line", "confidence")
    return [tuple(edge[name] for name in names) for edge in edges]


def test_a_plan_tells_its_dependencies_with_their_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    assert _rows(_json(capsys, "deps", "bridge")) == [
        ("T002", "T001", "informs", False, "after T001", 6, 0.59),
        ("T003", "T002", "blocks", True, "T002", 7, 1.0),
        ("T004", "T002", "blocks", False, "wait for T002", 9, 0.9),
        ("T004", "T003", "relates", False, "See T003", 9, 0.5),
    ]
    inferred = _json(capsys, "deps", "bridge", "list", "T004", "--inferred", "--kind", "blocks")
    assert [edge["on"] for edge in inferred] == ["T002"]
    assert run(["deps", "bridge"]) == 0
    assert "wait for T002" in capsys.readouterr().out


def test_decisions_are_asked_of_the_scheduler(
    scheduler: RememberingScheduler, database: DatabaseUrls, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = {key: task_id for task_id, key in execute(database, "SELECT id, key FROM tasks")}
    for action, kind in (("accept", "add"), ("add", "add"), ("drop", "drop")):
        _json(capsys, "deps", "bridge", action, "T002", "T001", "--reason", "seen")
        asked, args, _ = scheduler.requests[-1]
        assert (asked, args["task_id"], args["on_task"]) == (f"{kind}_dependency", ids["T002"], ids["T001"])
        assert args["reason"] == "seen"


def test_what_is_not_there_is_neither_accepted_nor_dropped(
    scheduler: RememberingScheduler, capsys: pytest.CaptureFixture[str]
) -> None:
    for action in ("accept", "drop"):
        error = _json(capsys, "deps", "bridge", action, "T001", "T004", code=4)
        assert "T001 has no dependency on T004" in error["message"]
    assert _json(capsys, "deps", "bridge", "add", "T001", "T9", code=4)["code"] == "NotFound"
    assert _json(capsys, "deps", "bridge", "add", "T001", code=2)["code"] == "SettingsError"
    assert scheduler.requests == []


def test_a_refusal_calls_the_tasks_by_their_keys(
    scheduler: RememberingScheduler, database: DatabaseUrls, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = {key: task_id for task_id, key in execute(database, "SELECT id, key FROM tasks")}
    way = f"task {ids['T003']} → task {ids['T002']} → task {ids['T003']}"
    scheduler.error = Conflict(f"These tasks would wait for each other: {way}.")
    error = _json(capsys, "deps", "bridge", "add", "T002", "T003", code=1)
    assert "task T003 → task T002 → task T003" in error["message"]
    scheduler.error = Conflict(f"A session works on task {ids['T002']}.", remedy="Wait for its end.")
    error = _json(capsys, "skip", "T002", "--plan", "bridge", code=1)
    assert (error["message"], error["remedy"]) == ("A session works on task T002.", "Wait for its end.")


def test_a_decision_takes_the_place_of_what_was_read_and_keeps_its_words(
    database: DatabaseUrls, capsys: pytest.CaptureFixture[str]
) -> None:
    _decide(database, ("T002", "T001", "blocks"), ("T004", "T003", "dropped"), ("T004", "T001", "blocks"))
    _decide(database, ("T002", "T001", "blocks"), ("T003", "T002", "dropped"))
    assert _rows(_json(capsys, "deps", "bridge")) == [
        ("T002", "T001", "blocks", True, "by hand: after T001", 6, 1.0),
        ("T003", "T002", "dropped", True, "by hand: T002", 7, 1.0),
        ("T004", "T001", "blocks", True, "by hand", 0, 1.0),
        ("T004", "T002", "blocks", False, "wait for T002", 9, 0.9),
        ("T004", "T003", "dropped", True, "by hand: See T003", 9, 1.0),
    ]
    task = _json(capsys, "show", "T003", "--plan", "bridge")
    assert (task["depends_on"], task["unmet_dependencies"]) == ([], 0)


def _decide(database: DatabaseUrls, *decisions: tuple[str, str, str]) -> None:
    """Commit decisions as the scheduler does."""
    ids = {key: task_id for task_id, key in execute(database, "SELECT id, key FROM tasks")}
    ((plan_id,),) = execute(database, "SELECT id FROM plans")
    rows = [
        SaveDependency(
            tenant_id="local",
            plan_id=int(str(plan_id)),
            task_id=int(str(ids[task])),
            on_task_id=int(str(ids[on])),
            decision=DependencyDecision(decision),
        )
        for task, on, decision in decisions
    ]

    async def commit() -> None:
        stores = PostgresStores(database)
        store = stores.scheduler()
        await store.take_term(incarnation="s", is_starting=True, patience_s=60)
        await store.commit(1, rows)
        await stores.close()

    asyncio.run(commit())
