"""`orchestrator up` to `down`: one stack, and every command on it."""

from __future__ import annotations

import json
import stat
import urllib.request
from typing import Any

import pytest

from cluster.sockets import listening_sockets
from orchestrator.stack import TOKEN_FILE, require_stack
from tests.support.command_line import CommandLine

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(600)]

PLAN = """---
name: small
workdir: work
---
# A small plan

- [ ] **A.1** Say it
  - agent: backend-development
  - run: `echo said it`
- [ ] **A.2** Fail at it
  - attempts: 1
  - run: `test -e mended`
- [ ] **A.3** Wait for a person
  - manual: press the button
"""


@pytest.fixture
def cli(stack: CommandLine) -> CommandLine:
    return stack


def test_up_again_is_harmless(cli: CommandLine) -> None:
    data = cli.data("up")
    assert data["is_new"] is False
    assert data["stack"]["url"].startswith("http://127.0.0.1:")


def test_it_answers_on_this_machine_alone_and_keeps_its_secrets(cli: CommandLine) -> None:
    stack = require_stack(cli.home)
    assert urllib.request.urlopen(f"{stack.url}/readyz", timeout=60).status == 200
    authorization = f"Bearer {(cli.home / 'ray-token').read_text()}"
    request = urllib.request.Request(
        f"{stack.dashboard_url}/api/version", headers={"Authorization": authorization}
    )
    assert json.load(urllib.request.urlopen(request, timeout=60))["ray_version"]
    for name in ("stack.json", TOKEN_FILE, "ray-token", "encryption-keys", "postgres.json"):
        assert stat.S_IMODE((cli.home / name).stat().st_mode) == 0o600
    sockets = listening_sockets(set(cli.processes()))
    assert len(sockets) > 10
    assert [found for found in sockets if not found.is_loopback] == []


def test_a_plan_is_submitted_mended_released_and_done(cli: CommandLine) -> None:
    plan = cli.plan(PLAN)
    out = cli.run("submit", str(plan), "--watch", code=5)
    assert "small: stalled" in out
    assert "press the button" in cli.run("show", "A.3", "--plan", "small")
    assert "said it" in cli.run("logs", "A.1", "--plan", "small")
    assert [task["key"] for task in cli.data("tasks", "small", "--state", "failed")] == ["A.2"]
    (cli.folder / "work" / "mended").touch()
    cli.run("retry", "A.2", "--plan", "small")
    cli.run("watch", "small", code=8)
    cli.run("release", "A.3", "--plan", "small", "--reason", "pressed")
    assert cli.data("watch", "small")["plan"]["state"] == "done"
    assert "small" in [found["name"] for found in cli.data("status")["plans"]]


def test_a_run_is_handed_to_the_stack(cli: CommandLine) -> None:
    plan = cli.plan("# Other\n\n- [ ] **B.1** Do it\n  - run: `true`\n", "other.md")
    assert cli.data("run", str(plan))["plan"]["state"] == "done"


def test_a_plan_that_was_cancelled_is_over(cli: CommandLine) -> None:
    plan = cli.plan("# Endless\n\n- [ ] **C.1** Wait\n  - run: `sleep 600`\n", "endless.md")
    cli.run("submit", str(plan))
    cli.run("cancel", "--plan", "Endless")
    assert cli.data("watch", "Endless", code=5)["plan"]["state"] == "cancelled"


CARE = """---
name: care
backend: simulated
---
# Care

- [ ] **A.1** Draft it
  - simulate: 1ms
  - review: code-reviewer
- [ ] **A.2** Mend it
  - simulate: 1ms refuse 1
  - review: code-reviewer
- [ ] **A.3** Spend money
  - approve: the cost
  - simulate: 1ms
- [ ] **A.4** Delete everything
  - approve: the loss
  - simulate: 1ms
"""


def test_work_is_reviewed_and_people_decide_what_is_theirs(cli: CommandLine) -> None:
    cli.run("submit", str(cli.plan(CARE, "care.md")))
    cli.run("watch", "care", code=8)
    cli.run("approve", "A.3", "--plan", "care")
    cli.run("reject", "A.4", "--plan", "care", "--reason", "we need it")
    assert "cannot" not in cli.run("watch", "care", code=5)
    accepted, mended, approved, rejected = (
        cli.data("show", f"A.{number}", "--plan", "care") for number in (1, 2, 3, 4)
    )
    assert _attempts(accepted) == [("work", 1, "succeeded", None), ("review", 1, "succeeded", None)]
    assert _attempts(mended) == [
        ("work", 1, "succeeded", None),
        ("review", 1, "failed", "gate"),
        ("work", 2, "succeeded", None),
        ("review", 2, "succeeded", None),
    ]
    assert {attempt["agent_type"] for attempt in mended["attempts"] if attempt["kind"] == "review"} == {
        "code-reviewer"
    }
    assert (approved["state"], len(approved["attempts"])) == ("done", 1)
    assert (rejected["state"], rejected["reason"], rejected["attempts"]) == (
        "failed",
        "rejected: we need it",
        [],
    )


def test_a_pause_of_everything_outlives_the_stack(cli: CommandLine) -> None:
    cli.run("pause", "--all", "--reason", "the disk is nearly full")
    cli.run("limits", "--total", "3")
    cli.run("down")
    plan = cli.plan("# Later\n\n- [ ] **D.1** Do it\n  - run: `true`\n", "later.md")
    refused = cli.data("run", str(plan), code=1)  # it does not wait
    assert refused["code"] == "Conflict"
    assert "`orchestrator resume --all`" in refused["remedy"]
    cli.run("up")
    status = cli.data("status")["status"]
    assert (status["is_paused"], status["sessions_max"]) == (True, 3)
    cli.run("submit", str(plan))
    assert "(the disk is nearly full): nothing starts until `orchestrator resume --all`" in cli.run("status")
    assert cli.data("tasks", "Later")[0]["state"] == "ready"
    cli.run("resume", "--all")
    assert cli.data("watch", "Later")["plan"]["state"] == "done"
    cli.run("limits", "--total", "0")
    assert cli.data("status")["status"]["sessions_max"] == 16


def _attempts(task: dict[str, Any]) -> list[tuple[str, int, str, str | None]]:
    found = sorted(task["attempts"], key=lambda attempt: int(attempt["token"]))
    return [(each["kind"], each["number"], each["state"], each["failure_class"]) for each in found]
