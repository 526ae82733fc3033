"""Nodes of a Ray cluster fail in three ways: dead, given up by Ray while they work on, and merely silent.

Only the first is a loss that may run again by itself: Ray calls the node dead and the leases of its sessions
stand still. Sessions that still renew are not lost, whatever Ray says; and where nothing proves that a
session is gone, a person decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.options import node_name
from orchestrator.workspace.launcher_main import descendants, living_processes
from tests.support.actor_stack import ActorStack
from tests.support.cluster_stack import cluster_stack
from tests.support.extent import only_in_full
from tests.support.history import EffectLog, check_history
from tests.support.host import wait_until
from tests.support.rows import Rows
from tests.support.stopping import stopped

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(600)]

TTL_S, GRACE_S = 10, 2
SETTINGS = {
    "retry": {"backoff_ms": [100]},
    "leases": {"ttl_s": TTL_S, "beat_s": 1, "margin_s": 2, "grace_s": GRACE_S},
    "sessions": {"grace_s": 0.5},
    "pools": {"default": {"slots": 5}, "agent_types": {"safe": {"resource": "safe"}}},
    "logging": {"level": "warning"},
}

SESSIONS = 10

#: For what has no event to wait for, on a machine with other work.
PATIENCE_S = 120.0

#: The first attempt does not end by itself, the second at once.
STUCK_ONCE = "test $ORCHESTRATOR_ATTEMPT -gt 1 || sleep 300"


@pytest.fixture
def stack(home: Path) -> Iterator[ActorStack]:
    with cluster_stack(home, SETTINGS) as running:
        yield running


@pytest.fixture
def rows(stack: ActorStack) -> Rows:
    return Rows(stack.urls)


@pytest.fixture
def effects(home: Path) -> EffectLog:
    folder = home / "effects"
    folder.mkdir()
    return EffectLog(folder)


def submit(stack: ActorStack, name: str, line: str, *, tasks: int, agent: str = "mortal") -> int:
    """Hand in a plan of independent tasks that all run the same line; return its id."""
    items = "".join(
        f"- [ ] **T.{n}** Task {n}\n  - agent: {agent}\n  - run: `{line}`\n" for n in range(1, tasks + 1)
    )
    return int(stack.do("submit", f"# Plan\n\n{items}", name, "", "auto"))


def ended(rows: Rows, plan_id: int) -> list[tuple[int, str, str]]:
    """Return (number, state, failure class) of the attempts of a plan, by task."""
    found = rows.all(
        "SELECT number, state, coalesce(failure_class, '') AS class FROM attempts WHERE plan_id = %s "
        "ORDER BY task_id, number",
        plan_id,
    )
    return [(row["number"], row["state"], row["class"]) for row in found]


def wait_for_sessions(rows: Rows, effects: EffectLog, plan_id: int, count: int) -> None:
    """Wait until so many sessions of a plan have told of their start."""

    def started() -> bool:
        tokens = set(rows.column("SELECT token FROM attempts WHERE plan_id = %s", plan_id))
        return sum(effect.edge == "start" and effect.token in tokens for effect in effects.read()) == count

    wait_until(started, timeout_s=PATIENCE_S, what=f"{count} sessions run")


def wait_for_plan(rows: Rows, plan_id: int, state: str) -> float:
    """Wait until a plan is in a state; return how long it took."""
    return wait_until(
        lambda: rows.column("SELECT state FROM plans WHERE id = %s", plan_id) == [state],
        timeout_s=PATIENCE_S,
        what=f"plan {plan_id} is {state}",
    )


def test_sessions_of_a_killed_node_run_again_elsewhere_and_the_others_go_on(
    stack: ActorStack, rows: Rows, effects: EffectLog, home: Path
) -> None:
    doomed = stack.do("add_node", {"executor": 2}, {})
    lost = submit(stack, "lost", effects.line(STUCK_ONCE), tasks=SESSIONS)
    wait_for_sessions(rows, effects, lost, SESSIONS)
    stack.do("add_node", {"executor": 2, "safe": 1}, {})
    go = home / "effects" / "go"
    waiting = effects.line(f"while ! test -e {go}; do sleep 0.1; done")
    kept = submit(stack, "kept", waiting, tasks=3, agent="safe")
    wait_for_sessions(rows, effects, kept, 3)
    stack.do("kill_node", doomed)
    took_s = wait_for_plan(rows, lost, "done")
    assert ended(rows, lost) == [(1, "lost", "infrastructure"), (2, "succeeded", "")] * SESSIONS
    assert ended(rows, kept) == [(1, "started", "")] * 3
    go.touch()
    wait_for_plan(rows, kept, "done")
    assert ended(rows, kept) == [(1, "succeeded", "")] * 3
    history = check_history(stack.urls.service, effects=effects)
    bound_s = TTL_S + GRACE_S
    print(
        f"{SESSIONS} sessions of a killed node done again after {took_s:.1f} s, of which their leases "
        f"had to stand still for {bound_s} s: {history.summary}"
    )


@only_in_full
def test_sessions_that_renew_are_not_lost_though_ray_gave_their_node_up(
    stack: ActorStack, rows: Rows, effects: EffectLog, home: Path
) -> None:
    node = stack.do("add_node", {"executor": 2}, {})
    go = home / "effects" / "go"
    waiting = effects.line(f"while ! test -e {go}; do sleep 0.1; done")
    plan = submit(stack, "cut off", waiting, tasks=SESSIONS)
    wait_for_sessions(rows, effects, plan, SESSIONS)
    with stopped(stack.do("raylet", node)):
        wait_until(
            lambda: node not in stack.do("living_nodes"), timeout_s=PATIENCE_S, what="Ray gave the node up"
        )
        wait_for_beats(rows, TTL_S + GRACE_S + 2)
        assert ended(rows, plan) == [(1, "started", "")] * SESSIONS
        go.touch()
        wait_for_plan(rows, plan, "done")
    assert ended(rows, plan) == [(1, "succeeded", "")] * SESSIONS
    print(f"a node given up: {check_history(stack.urls.service, effects=effects).summary}")


@only_in_full
def test_sessions_of_a_silent_node_are_held_until_a_person_decides(
    stack: ActorStack, rows: Rows, effects: EffectLog
) -> None:
    node = stack.do("add_node", {"executor": 2}, {})
    plan = submit(stack, "silent", effects.line(STUCK_ONCE), tasks=SESSIONS)
    wait_for_sessions(rows, effects, plan, SESSIONS)
    raylet = stack.do("raylet", node)
    silent = {process.pid for process in descendants({raylet}, living_processes())} - {raylet}
    assert int(stack.do("call", node_name(node), "ping")["pid"]) in silent
    with stopped(*silent):
        wait_until(
            lambda: set(reasons(rows, plan)) == {("held", "cannot-prove-dead")},
            timeout_s=PATIENCE_S,
            what="every task is held",
        )
        assert node in stack.do("living_nodes")
    assert ended(rows, plan) == [(1, "lost", "infrastructure")] * SESSIONS
    for task_id in rows.column("SELECT id FROM tasks WHERE plan_id = %s", plan):
        stack.do("request", "release_task", {"plan_id": plan, "task_id": task_id})
    wait_for_plan(rows, plan, "done")
    assert ended(rows, plan) == [(1, "lost", "infrastructure"), (2, "succeeded", "")] * SESSIONS
    print(f"a silent node: {check_history(stack.urls.service, effects=effects).summary}")


def reasons(rows: Rows, plan_id: int) -> list[tuple[str, str]]:
    """Return (state, reason) of every task of a plan."""
    found = rows.all("SELECT state, reason FROM task_states WHERE plan_id = %s", plan_id)
    return [(row["state"], row["reason"]) for row in found]


def wait_for_beats(rows: Rows, count: int) -> None:
    """Wait until every lease has been renewed so many times more."""

    def least() -> int:
        return int(rows.column("SELECT coalesce(min(beat), 0) FROM leases")[0])

    wanted = least() + count
    wait_until(lambda: least() >= wanted, timeout_s=PATIENCE_S, what=f"{count} beats more")
