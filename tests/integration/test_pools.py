"""Executors that cannot start yet, on a real Ray whose nodes come later: they hold up nobody and say why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors.options import executor_name, node_name
from tests.support.actor_stack import ActorStack
from tests.support.cluster_stack import cluster_stack
from tests.support.host import wait_until
from tests.support.own_home import own_home
from tests.support.rows import Rows

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(600)]

PATIENCE_S = 90.0

#: Agent types whose executors need what no node has at first; as many as may start at the same time.
BOXED = ("boxed-1", "boxed-2")

#: Agent types whose executors are soon given up.
BRIEF = ("short-lived", "unlucky")

SETTINGS = {
    "retry": {"backoff_ms": [100]},
    "pools": {
        "default": {"slots": 1, "idle_s": 600},
        "agent_types": {
            **{name: {"resource": "gpu-box"} for name in BOXED},
            **{name: {"idle_s": 1} for name in BRIEF},
        },
    },
    "logging": {"level": "warning"},
}


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with own_home() as folder:
        yield folder


@pytest.fixture(scope="module")
def stack(home: Path) -> Iterator[ActorStack]:
    with cluster_stack(home, SETTINGS) as running:
        running.do("add_node", {"executor": 2}, {})
        yield running


@pytest.fixture
def rows(stack: ActorStack) -> Rows:
    return Rows(stack.urls)


def submit(stack: ActorStack, name: str, *agents: str) -> int:
    """Hand in a plan with one simulated task for each agent type."""
    tasks = [
        f"- [ ] **T.{n}** Task\n  - agent: {agent}\n  - simulate: 10ms\n" for n, agent in enumerate(agents)
    ]
    return int(stack.do("submit", f"# {name}\n\n" + "".join(tasks), name, "", "simulated"))


def done(rows: Rows, plan_id: int, count: int) -> Callable[[], bool]:
    """Whether so many tasks of a plan are done."""
    query = "SELECT count(*) FROM task_states WHERE plan_id = %s AND state = 'done'"
    return lambda: rows.column(query, plan_id) == [count]


def waits(stack: ActorStack) -> dict[str, str]:
    """What keeps executors from starting, by agent type, as the status of the service tells it."""
    return {
        pool["agent_type"]: pool["waits_for"] for pool in stack.do("status")["pools"] if pool["waits_for"]
    }


def test_pools_without_a_place_hold_up_no_other_and_start_when_there_is_one(
    stack: ActorStack, rows: Rows
) -> None:
    boxed = submit(stack, "boxed", *BOXED)
    wait_until(lambda: set(waits(stack)) == set(BOXED), timeout_s=PATIENCE_S, what="both say what they lack")
    assert set(waits(stack).values()) == {"no node has 1 gpu-box (at most 0 gpu-box)"}
    plain = submit(stack, "plain", "plain-1", "plain-2")
    wait_until(done(rows, plain, 2), timeout_s=PATIENCE_S, what="the others are done")
    assert done(rows, boxed, 0)()

    crowded = submit(stack, "crowded", "plain-3")
    taken = "1 executor must become free (now 0 executor)"
    wait_until(
        lambda: waits(stack).get("plain-3") == taken, timeout_s=PATIENCE_S, what="it says that all is in use"
    )

    stack.do("add_node", {"gpu-box": 2, "executor": 1}, {})
    wait_until(done(rows, boxed, 2), timeout_s=PATIENCE_S, what="they have found their place")
    wait_until(done(rows, crowded, 1), timeout_s=PATIENCE_S, what="so has the other")
    wait_until(lambda: not waits(stack), timeout_s=PATIENCE_S, what="nothing waits any more")


def test_an_executor_without_a_place_is_given_up_when_nobody_needs_it(stack: ActorStack) -> None:
    plan_id = submit(stack, "unneeded", "short-lived")
    wait_until(lambda: "short-lived" in waits(stack), timeout_s=PATIENCE_S, what="it waits for its place")
    stack.do("request", "cancel_plan", {"plan_id": plan_id})
    wait_until(
        lambda: not stack.do("call", "pools", "ping")["waits"], timeout_s=PATIENCE_S, what="it is given up"
    )


def test_an_executor_that_does_not_start_is_told_of_and_tried_again(stack: ActorStack) -> None:
    plan_id = submit(stack, "unlucky", "unlucky")

    def made() -> set[str]:
        return set(stack.do("names", executor_name("unlucky", "")))

    wait_until(lambda: bool(made()), timeout_s=PATIENCE_S, what="an executor is made")
    dead = made()
    for name in dead:
        stack.do("end_actor", name)
    wait_until(
        lambda: "one did not start" in waits(stack).get("unlucky", ""),
        timeout_s=PATIENCE_S,
        what="the status tells it",
    )
    wait_until(lambda: bool(made() - dead), timeout_s=PATIENCE_S, what="another one is made")
    stack.do("request", "cancel_plan", {"plan_id": plan_id})
    wait_until(lambda: not made(), timeout_s=PATIENCE_S, what="it is given up")


def test_an_executor_takes_no_session_before_the_node_actor_of_its_node_answers(
    stack: ActorStack, rows: Rows
) -> None:
    node = stack.do("add_node", {"executor": 1}, {})
    stack.do("end_actor", node_name(node))
    plan_id = submit(stack, "guarded", "guarded")
    reason = "the Node actor of its node does not answer yet"
    wait_until(
        lambda: waits(stack) == {"guarded": reason}, timeout_s=PATIENCE_S, what="it waits for its Node"
    )
    assert rows.column("SELECT count(*) FROM attempts WHERE plan_id = %s", plan_id) == [0]
    stack.do("ensure_node", node)
    wait_until(done(rows, plan_id, 1), timeout_s=PATIENCE_S, what="it has run")
    ended = rows.all("SELECT number, state FROM attempts WHERE plan_id = %s", plan_id)
    assert ended == [{"number": 1, "state": "succeeded"}]
