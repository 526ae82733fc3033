"""`orchestrator diff`, through the real front end on a real PostgreSQL and in a real repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.cli.program import run
from orchestrator.client import Client
from orchestrator.store.urls import DatabaseUrls
from orchestrator.views import SubmitRequest
from tests.support.repositories import commit, git, new_repository
from tests.support.service import PLAN, execute

pytestmark = pytest.mark.postgres

_ATTEMPT = """
INSERT INTO attempts (
    token, plan_id, task_id, number, kind, agent_type, backend, executor, cluster_id, epoch, state
)
SELECT %s, plan_id, id, 1, 'work', 'coder', 'command', 'x', 'c', 1, 'succeeded' FROM tasks WHERE key = 'A.2'
"""
_COMMITS = """
INSERT INTO attempt_commits (token, base_sha, head_sha, branch, files)
VALUES (%s, %s, %s, 'b/1', '[["greeting", 1, 0], ["image", null, null]]')
"""


def test_what_an_attempt_changed_is_shown_with_its_lines(
    home: Path, database: DatabaseUrls, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    origin = new_repository(tmp_path / "origin")
    base, head = git(origin, "rev-parse", "HEAD"), commit(origin, greeting="hello\n")
    with Client.of_home(home) as client:
        plan_id = client.submit(SubmitRequest(text=PLAN, repository=str(origin))).plan_id
        assert client.plan(str(plan_id)).repository == str(origin)
    assert run(["diff", "A.2"]) == 4
    assert "has left commits" in capfd.readouterr().err
    execute(database, _ATTEMPT, 7)
    execute(database, _COMMITS, 7, base, head)
    assert run(["diff", "A.2"]) == 0
    shown = capfd.readouterr().out
    assert f"b/1  {base[:12]}..{head[:12]}\n  greeting  +1 -0\n  image  binary\n" in shown
    assert "+hello" in shown
    assert run(["diff", "A.2", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["data"]["head_sha"] == head
    assert run(["diff", "A.2", "--attempt", "2"]) == 4
