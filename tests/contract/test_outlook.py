"""Graph, forecast and export of a stored plan, through the HTTP API on a real PostgreSQL."""

from __future__ import annotations

import csv
import io
import json

import pytest

from orchestrator.client import Client
from orchestrator.client.transport import Endpoint
from orchestrator.errors import NotFound, PlanError
from orchestrator.plan.read import read_plan
from orchestrator.views import SubmitRequest
from tests.support.http_server import TOKEN, serving
from tests.support.service import RememberingScheduler, execute

pytestmark = pytest.mark.postgres

PLAN = """---
name: ship
workdir: /srv/ship
---
# Ship it

## Track A: Build

- [x] **A.1** Design it (1 h)
- [ ] **A.2** Build it (2 h)
  - agent: backend-development
  - depends: A.1
  - verify: `true`
- [ ] **A.3** Test "it", all | of it (1 h)
  - agent: testing-specialist
  - depends: A.2
  - informs: A.4
- [ ] **A.4** Paint it (1 h)
- [ ] **A.5** Sign it (1 h)
  - depends: A.3, A.4
  - manual: sign
"""


@pytest.fixture
def client(database, tmp_path):
    with (
        serving(database, tmp_path, scheduler=RememberingScheduler()) as url,
        Client(Endpoint(url=url, token=TOKEN)) as client,
    ):
        client.submit(SubmitRequest(text=PLAN))
        yield client


def set_state(urls, key, state, reason=""):
    execute(
        urls,
        "UPDATE task_states SET state = %s, reason = %s"
        " WHERE task_id = (SELECT id FROM tasks WHERE key = %s)",
        *(state, reason, key),
    )


def attempt(
    urls, key, token, *, kind="work", backend="anthropic", state="succeeded", failure=None, minutes=60, cost=0
):
    execute(
        urls,
        "INSERT INTO attempts (token, plan_id, task_id, number, kind, agent_type, backend, executor,"
        " cluster_id, epoch, state, failure_class, cost_micros, started_at, ended_at)"
        " SELECT %s, plan_id, id, %s, %s, agent_type, %s, 'executor-1', 'c', 1, %s, %s, %s,"
        " now() - make_interval(mins => %s), now() FROM tasks WHERE key = %s",
        *(token, token, kind, backend, state, failure, cost, minutes, key),
    )


def test_the_graph_follows_the_states(client, database):
    found = client.graph("ship")
    assert found.ready == ("A.2", "A.4")
    assert [task.key for task in found.tasks] == ["A.2", "A.3", "A.4", "A.5"]
    assert found.critical_path == ("A.2", "A.3", "A.5")
    set_state(database, "A.2", "done")
    set_state(database, "A.3", "failed", "out of attempts")
    found = client.graph("ship")
    assert [(held.key, held.reason) for held in found.held] == [("A.3", "out of attempts")]
    assert [(each.key, each.waits_for, each.behind) for each in found.blocked] == [
        ("A.5", ("A.3", "A.4"), "A.3")
    ]
    assert {task.key: task.agent_type for task in found.tasks}["A.3"] == "testing-specialist"


def test_a_forecast_learns_from_past_attempts(client, database):
    first = client.forecast("ship", width=1, seed=1)
    assert (first.attempts_known, first.cost_micros, first.tasks) == (0, None, 4)
    for token in range(1, 101):
        attempt(database, "A.2", token, minutes=12, cost=1000)
    attempt(database, "A.2", 200, state="lost", minutes=1, cost=9_000_000)
    attempt(database, "A.2", 201, state="failed", failure="infrastructure", minutes=1, cost=9_000_000)
    found = client.forecast("ship", width=1, seed=1)
    assert found.attempts_known == 100
    assert found.finish_s.p50 < first.finish_s.p50 / 5  # a tenth of the estimate of two hours
    assert found.cost_micros is not None
    assert 4 * 900 < found.cost_micros.p50 < 4 * 1300


def test_work_that_a_gate_refused_is_no_success(client, database):
    for token in range(1, 101):
        attempt(database, "A.2", token, cost=1000)
    accepted = client.forecast("ship", width=1)
    for token in range(101, 151):
        attempt(database, "A.2", token, kind="gate", state="failed", failure="gate")
    refused = client.forecast("ship", width=1)
    assert refused.attempts_known == 100
    assert refused.finish_s.p50 > 1.2 * accepted.finish_s.p50


def test_what_was_simulated_teaches_nothing(client, database):
    attempt(database, "A.2", 1, backend="simulated", minutes=1)  # by its agent type, not by the plan
    assert client.forecast("ship").attempts_known == 0
    execute(database, "UPDATE plans SET backend = 'simulated'")
    attempt(database, "A.2", 2, minutes=1)
    assert client.forecast("ship").attempts_known == 1


def test_an_export_tells_the_states(client, database):
    set_state(database, "A.2", "done")
    set_state(database, "A.3", "running")
    set_state(database, "A.4", "skipped", "by request")
    plan = read_plan(client.export("ship", to="json"))
    assert not plan.errors
    assert (plan.name, plan.meta["workdir"]) == ("ship", "/srv/ship")
    marks = {task.key: task.mark.value for task in plan.tasks if task.key.startswith("A.")}
    assert marks == {"A.1": "done", "A.2": "done", "A.3": "in_progress", "A.4": "skipped", "A.5": "open"}
    edges = {(edge.task, edge.on, edge.kind.value) for edge in plan.dependencies}
    assert ("A.5", "A.3", "blocks") in edges
    assert ("A.4", "A.3", "informs") in edges
    again = read_plan(PLAN)
    assert [task.title for task in plan.tasks] == [task.title for task in again.tasks]
    rows = list(csv.DictReader(io.StringIO(client.export("ship", to="csv"), newline="")))
    assert rows[3]["title"] == 'Test "it", all | of it'
    assert len(client.export("ship", to="jsonl").splitlines()) == len(rows)


def test_what_cannot_be_asked(client):
    with pytest.raises(NotFound):
        client.graph("nowhere")
    with pytest.raises(PlanError, match="docx"):
        client.export("ship", to="docx")
    assert json.loads(client.export("1", to="json"))["name"] == "ship"
