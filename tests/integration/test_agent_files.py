"""Agent type files under a stack that runs: dropped, changed, broken and gone, or beside a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.client import Client
from tests.support.command_line import CommandLine
from tests.support.host import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(900)]

SLEEPS = "# {name}\n\n- [ ] **A.1** Sleep\n  - agent: poet\n  - attempts: 1\n  - run: `sleep {seconds}`\n"
HASTY = "---\nname: poet\nlimits:\n  sessions: 1\n  timeout: 1s\n---\nYou write in haste.\n"
DREAMER = "---\nname: poet\nbackend: simulated\nkeywords: [ode]\n---\nYou dream.\n"


@pytest.fixture
def cli(stack: CommandLine) -> CommandLine:
    return stack


def drop(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "poet.md").write_text(text, encoding="utf-8")
    return folder / "poet.md"


def seen(cli: CommandLine, is_so: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Wait until the stack says so of `poet`; nobody tells when it has looked at the files."""
    with Client.of_home(cli.home) as client:

        def told() -> dict[str, Any]:
            listed = {view.pool: view.model_dump() for view in client.agent_types()}
            return listed.get("poet", {})

        wait_until(lambda: bool(is_so(told())), timeout_s=120, what="the stack has looked at the files")
    listed = {found["pool"]: found for found in cli.data("agents", "list")}
    return listed.get("poet", {})


def attempt(cli: CommandLine, plan: str) -> dict[str, Any]:
    return cli.data("show", "A.1", "--plan", plan)["attempts"][-1]


def test_a_file_that_is_dropped_binds_and_one_that_goes_no_longer_does(cli: CommandLine) -> None:
    file = drop(cli.home / "agents", HASTY)
    found = seen(cli, bool)
    assert found["live"] == {"running": 0, "queued": 0, "sessions_max": 1, "breaker": "closed"}
    assert (found["file"], found["lines"]["limits"]) == (str(file), 3)
    cli.run("run", str(cli.plan(SLEEPS.format(name="hasty", seconds=600), "hasty.md")), code=5)
    assert (attempt(cli, "hasty")["state"], attempt(cli, "hasty")["agent_type"]) == ("timed_out", "poet")

    drop(cli.home / "agents", HASTY.replace("1s", "soon"))
    broken = seen(cli, lambda found: found["fault"])
    assert f"{file}:5: `timeout: soon` is no time." in broken["fault"]
    assert broken["limits"]["timeout_s"] == 1, "what it said before holds until it is mended"
    assert "still holds" in cli.run("agents", "show", "poet", code=1)

    file.unlink()
    seen(cli, lambda found: not found)
    assert cli.data("agents", "show", "poet", code=4)["code"] == "NotFound"
    cli.run("run", str(cli.plan(SLEEPS.format(name="calm", seconds=4), "calm.md")))
    assert attempt(cli, "calm")["state"] == "succeeded"


def test_a_file_beside_a_plan_is_its_own(cli: CommandLine) -> None:
    drop(cli.folder / "dreams" / "agents", DREAMER)
    plan = cli.plan("# Dreams\n\n- [ ] **A.1** An ode\n  - review: poet\n", "dreams/dreams.md")
    (preview,) = cli.data("run", str(plan), "--dry-run")["tasks"]
    assert (preview["agent_type"], preview["backend"], preview["rule"]) == ("poet", "simulated", "keyword")
    plan_id = cli.data("run", str(plan))["plan"]["id"]
    last = attempt(cli, "Dreams")
    assert (last["kind"], last["agent_type"], last["backend"]) == ("review", f"poet@{plan_id}", "simulated")
    listed = {found["pool"] for found in cli.data("agents", "list", "--plan", "Dreams")}
    assert f"poet@{plan_id}" in listed
    assert "poet" not in listed
    assert cli.data("agents", "show", f"poet@{plan_id}")["prompt"] == "You dream."
