"""A plan without `run:` lines is worked on by Claude sessions, here against a local Messages API."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.words import HoldReason
from orchestrator.settings import Price, Settings
from orchestrator.store.address import read_record
from tests.support.command_line import CommandLine
from tests.support.messages_api import (
    Block,
    MessagesApi,
    Reply,
    Request,
    Scenario,
    call,
    done,
    text,
    write_files,
)
from tests.support.package_plan import PACKAGE, PARTS, assert_shipped, ship

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(600)]

API_KEY = "sk-ant-acceptance-7788"
KEYS = ("A.1", "A.2", "A.3")
REQUESTS = 2 + 2 + 3
GATES = 2

PLAN = """---
name: poem
workdir: work
---
# Write a poem of two lines

- [ ] **A.1** Write the first line
  - agent: codi-documentation-writer
  - verify: `grep -qx roses first.txt`

  write first.txt: roses
- [ ] **A.2** Write the second line

  write second.txt: violets
- [ ] **A.3** Combine both lines
  - depends: A.1, A.2
  - verify: `test "$(cat poem.txt)" = "$(cat first.txt second.txt)"`

  combine first.txt and second.txt into poem.txt
"""


def work(request: Request) -> Reply:
    """Write what the task asks for; look at the environment; combine what the other tasks have written."""
    if "combine" not in request.task:
        return write_files(request)
    match request.turn:
        case 0:
            return Reply(
                [
                    text("I read both lines first."),
                    call("read_file", path="first.txt"),
                    call("read_file", path="second.txt"),
                    call("bash", command="env; tr '\\0' '\\n' < /proc/$PPID/environ"),
                ]
            )
        case 1:
            lines = [re.sub(r"^\d+\t", "", str(found["content"])) for found in request.results[:2]]
            return Reply(
                [call("write_file", path="poem.txt", content="".join(f"{line}\n" for line in lines))]
            )
    return Reply([done("Combined them.", files=["poem.txt"])])


class CountingApi(MessagesApi):
    """Keeps what it said that each request used, with the model that answered."""

    def __init__(self, scenario: Scenario = work) -> None:
        super().__init__(scenario, api_key=API_KEY)
        self.used: list[tuple[str, dict[str, int]]] = []

    def usage(self, body: dict[str, Any], content: Sequence[Block]) -> dict[str, int]:
        """Count as the service does."""
        found = super().usage(body, content)
        self.used.append((body["model"], found))
        return found

    def cost_micros(self) -> int:
        """What all of it costs by the price list, each request rounded up."""
        prices = Settings().anthropic.prices
        return sum(math.ceil(_exact_micros(prices[model], usage)) for model, usage in self.used)


def _exact_micros(price: Price, usage: dict[str, int]) -> Fraction:
    per_token = {
        "input_tokens": price.input,
        "output_tokens": price.output,
        "cache_read_input_tokens": price.cache_read,
        "cache_creation_input_tokens": price.cache_write,
    }
    return sum((Fraction(str(per_token[name])) * count for name, count in usage.items()), Fraction())


@pytest.fixture
def api() -> Iterator[CountingApi]:
    with CountingApi() as found:
        yield found
        assert found.problems == []


def with_credentials(cli: CommandLine, api: MessagesApi) -> CommandLine:
    return cli.with_environment(ANTHROPIC_API_KEY=API_KEY, ANTHROPIC_BASE_URL=api.base_url)


def test_files_are_written_and_every_token_is_paid_for(cli: CommandLine, api: CountingApi) -> None:
    claude = with_credentials(cli, api)
    claude.run("up")
    data = claude.data("run", str(cli.plan(PLAN)))
    assert (data["plan"]["state"], data["exit_code"]) == ("done", 0)
    assert {task["state"] for task in data["tasks"]} == {"done"}
    assert (cli.folder / "work" / "poem.txt").read_text() == "roses\nviolets\n"
    assert len(api.requests) == REQUESTS
    assert all(request.body["stream"] for request in api.requests)
    details = [claude.data("show", key, "--plan", "poem") for key in KEYS]
    logs = {key: claude.run("logs", key, "--plan", "poem") for key in KEYS}
    assert_paid(data["plan"], details, api)
    assert "write_file: first.txt" in logs["A.1"]
    assert "I read both lines first." in logs["A.3"]
    assert "ORCHESTRATOR_TASK=A.3" in logs["A.3"], "the environment of a session's command"
    claude.run("down")
    claude.assert_nothing_is_left()
    assert_the_key_is_kept(claude, api, logs)


def test_ten_tasks_ship_a_package(cli: CommandLine) -> None:
    with CountingApi(ship) as api:
        claude = with_credentials(cli, api)
        data = claude.data("run", str(cli.plan(PACKAGE)))
        assert api.problems == []
    assert (data["plan"]["state"], data["plan"]["tasks"]) == ("done", {"done": len(PARTS)})
    assert_shipped(cli.folder / "work", api)
    assert data["plan"]["cost_micros"] == api.cost_micros()
    cli.assert_nothing_is_left()


def test_without_credentials_it_is_held_and_goes_on_when_they_have_come(
    cli: CommandLine, api: CountingApi
) -> None:
    plan = cli.plan(PLAN)
    told = cli.run("run", str(plan), code=8)
    for key in ("A.1", "A.2"):
        assert f"held    {key}" in told
    assert f"{HoldReason.NO_CREDENTIALS}: anthropic: set ANTHROPIC_API_KEY, then" in told
    cli.assert_nothing_is_left()
    assert not api.requests
    data = with_credentials(cli, api).data("run", str(plan))
    assert (data["plan"]["state"], data["plan"]["tasks"]) == ("done", {"done": len(KEYS)})
    assert data["plan"]["attempts"] == len(KEYS) + GATES, "none was begun without credentials"
    assert (cli.folder / "work" / "poem.txt").read_text() == "roses\nviolets\n"
    cli.assert_nothing_is_left()


def assert_paid(plan: dict[str, Any], details: list[dict[str, Any]], api: CountingApi) -> None:
    """Tokens and cost of plan and attempts are those that the API counted."""
    attempts = [attempt for detail in details for attempt in detail["attempts"]]
    sessions = [attempt for attempt in attempts if attempt["kind"] == "work"]
    assert [(attempt["backend"], attempt["state"]) for attempt in sessions] == [
        ("anthropic", "succeeded")
    ] * len(KEYS)
    for name in ("input_tokens", "output_tokens", "cost_micros"):
        assert all(attempt[name] > 0 for attempt in sessions)
        assert all(attempt[name] == 0 for attempt in attempts if attempt["kind"] == "gate")
        assert sum(attempt[name] for attempt in sessions) == plan[name]
    assert plan["output_tokens"] == sum(usage["output_tokens"] for _, usage in api.used)
    assert plan["input_tokens"] == sum(usage["input_tokens"] for _, usage in api.used)
    assert plan["cost_micros"] == api.cost_micros()


def assert_the_key_is_kept(cli: CommandLine, api: CountingApi, logs: dict[str, str]) -> None:
    """No child was given the key, and nothing that is shown or stays on disk has it."""
    told = "".join(request.last for request in api.requests)
    assert "ORCHESTRATOR_TOKEN=" in told
    assert API_KEY not in told
    assert API_KEY not in "".join(logs.values())
    record = read_record(cli.home)
    assert record is not None
    for folder in (cli.home, Path(record.data_dir)):
        for path in (path for path in folder.rglob("*") if path.is_file()):
            assert API_KEY.encode() not in path.read_bytes(), path
