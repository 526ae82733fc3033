"""`curl` alone hands the example in and follows it to its end; Ray's own command line shows every actor."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.stack import TOKEN_FILE, Stack, require_stack
from tests.support.command_line import CommandLine

pytestmark = [
    pytest.mark.ray,
    pytest.mark.postgres,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("curl") is None, reason="NOT RUN: there is no curl on this machine"),
]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "first-light.md"
AGENT_TYPES_MIN = 5
FOLLOW_MAX_S = 240


class Curl:
    """Runs `curl` as the guide shows it."""

    def __init__(self, stack: CommandLine, *, token: str = "") -> None:
        self.root = f"http://127.0.0.1:{stack.http_port}"
        token = token or (stack.home / TOKEN_FILE).read_text().strip()
        self._auth = ("-H", f"Authorization: Bearer {token}")

    def __call__(self, path: str, *arguments: str, status: int = 200) -> Any:
        """Return the JSON of an answer, which must have this status."""
        command = ["curl", "-s", "-S", *self._auth, *arguments, "-w", "\n%{http_code} %{content_type}"]
        ended = subprocess.run(
            [*command, f"{self.root}{path}"], capture_output=True, text=True, timeout=60, check=True
        )
        body, _, told = ended.stdout.rpartition("\n")
        found, _, content_type = told.partition(" ")
        assert int(found) == status, ended.stdout
        wanted = "application/json" if status < 400 else "application/problem+json"
        assert content_type.startswith(wanted)
        return json.loads(body)

    def follow(self, path: str, *, until: str) -> list[dict[str, Any]]:
        """Return the events of a stream up to the first of the type `until`."""
        command = ["curl", "-s", "-S", "-N", *self._auth, "--max-time", str(FOLLOW_MAX_S)]
        events = []
        with subprocess.Popen([*command, f"{self.root}{path}"], stdout=subprocess.PIPE, text=True) as curl:
            assert curl.stdout is not None
            for line in curl.stdout:
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))
                    if events[-1]["type"] == until:
                        break
            curl.kill()
        assert events[-1]["type"] == until, f"the stream ended with {events[-1]}"
        return events


@pytest.fixture(scope="module")
def curl(stack: CommandLine) -> Curl:
    return Curl(stack)


def test_the_stack_says_that_it_is_alive_and_ready_to_whoever_asks(stack: CommandLine) -> None:
    nobody = Curl(stack, token="nobody")
    assert nobody("/healthz")
    assert nobody("/readyz")


@pytest.mark.parametrize("path", ["/api/v1/plans", "/api/v1/status", "/api/v1/events", "/openapi.json"])
def test_a_wrong_token_is_refused_with_a_problem(stack: CommandLine, path: str) -> None:
    problem = Curl(stack, token="wrong")(path, status=401)
    assert problem["status"] == 401
    assert problem["remedy"]


def test_the_example_is_handed_in_followed_and_done(stack: CommandLine, curl: Curl) -> None:
    workdir = stack.folder / "curled"
    submitted = curl(
        f"/api/v1/plans?workdir={workdir}",
        *("-H", "Content-Type: text/markdown", "-H", "Idempotency-Key: one"),
        *("--data-binary", f"@{EXAMPLE}"),
        status=202,
    )
    plan_id = submitted["plan_id"]
    events = curl.follow(f"/api/v1/plans/{plan_id}/events?after=0", until="plan.done")
    seqs = [event["seq"] for event in events]
    assert seqs == sorted(set(seqs))
    assert {event["plan_id"] for event in events} == {plan_id}
    leaves = {
        task["key"] for task in curl(f"/api/v1/plans/{plan_id}/tasks")["items"] if task["kind"] == "leaf"
    }
    done = [event["task_key"] for event in events if event["type"] == "task.done"]
    assert len(done) == len(set(done))
    assert leaves <= set(done)
    assert len(leaves) == submitted["tasks_total"]
    plan = curl(f"/api/v1/plans/{plan_id}")
    assert (plan["state"], plan["tasks"]) == ("done", {"done": submitted["tasks_total"]})
    assert len(plan["agent_types"]) >= AGENT_TYPES_MIN
    assert (workdir / "dist" / "unitbox.pyz").exists()
    flaky = curl(f"/api/v1/tasks/C.2.2?plan={plan_id}")
    work = [attempt["state"] for attempt in flaky["attempts"] if attempt["kind"] == "work"]
    assert work == ["failed", "succeeded"]
    assert_every_actor_has_a_name(stack, {found["agent_type"] for found in plan["agent_types"]})
    middle = seqs[len(seqs) // 2]
    rest = curl.follow(f"/api/v1/plans/{plan_id}/events?after={middle}", until="plan.done")
    assert [event["seq"] for event in rest] == [seq for seq in seqs if seq > middle]


def assert_every_actor_has_a_name(stack: CommandLine, agent_types: set[str]) -> None:
    """`ray list actors`, with the environment that the guide names."""
    names = {actor["name"] for actor in ray_actors(stack, require_stack(stack.home))}
    assert "" not in names
    assert {"scheduler", "pools", "metrics"} <= names
    assert any(name.startswith("node-") for name in names)
    for agent_type in (*agent_types, "gate"):
        assert any(name.startswith(f"executor-{agent_type}-") for name in names), (agent_type, names)


def ray_actors(stack: CommandLine, found: Stack) -> list[dict[str, Any]]:
    """Return what `ray list actors` prints."""
    ended = subprocess.run(
        [
            *(Path(sys.executable).with_name("ray"), "list", "actors"),
            *("--address", found.dashboard_url, "--format", "json", "--limit", "200"),
        ],
        env={
            "PATH": "/usr/bin:/bin",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(stack.home / "ray-token"),
        },
        cwd=stack.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    actors: list[dict[str, Any]] = json.loads(ended.stdout)
    return actors
