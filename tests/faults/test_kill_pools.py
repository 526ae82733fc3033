"""SIGKILL of the actors that look after executors, in mid-session: they find theirs again and nobody notices.

Killed are the pools, the Node actor, and both together with the scheduler. No session is lost or started
twice, executors stay who they are, and the demand is told again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.workspace import tree
from tests.support.actor_stack import SETTINGS, ActorStack, actor_stack
from tests.support.extent import IS_FULL
from tests.support.history import EffectLog, check_history
from tests.support.host import is_alive, wait_until
from tests.support.own_home import own_home
from tests.support.rows import Rows

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(900)]

PATIENCE_S = 120.0
ROUNDS = 10 if IS_FULL else 1
SESSIONS = 3

#: The first attempt never ends by itself, the second at once.
STUCK_ONCE = "test $ORCHESTRATOR_ATTEMPT -gt 1 || sleep 300"

BOXED = {"pools": {"default": {"slots": 4}, "agent_types": {"boxed": {"resource": "gpu-box"}}}}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A stack with its tables and the log of what its sessions did."""

    home: Path
    stack: ActorStack
    rows: Rows
    effects: EffectLog

    def submit(self, name: str, line: str, *, agent: str, tasks: int) -> int:
        """Hand in a plan of equal tasks; return its id."""
        items = [f"- [ ] **T.{n}** Task\n  - agent: {agent}\n  - run: `{line}`\n" for n in range(tasks)]
        return int(self.stack.do("submit", f"# {name}\n\n{''.join(items)}", name, "", "auto"))

    def started(self, plan_id: int) -> list[int]:
        """Return the tokens of a plan whose sessions have told of their start, as often as they told."""
        tokens = self.rows.column("SELECT token FROM attempts WHERE plan_id = %s", plan_id)
        return [one.token for one in self.effects.read() if one.edge == "start" and one.token in tokens]

    def attempts(self, plan_id: int) -> list[tuple[int, str, str]]:
        """Return number, state and executor of the attempts of a plan."""
        query = "SELECT number, state, executor FROM attempts WHERE plan_id = %s ORDER BY task_id, number"
        return [(row["number"], row["state"], row["executor"]) for row in self.rows.all(query, plan_id)]

    def wait_done(self, plan_id: int) -> float:
        """Wait until a plan is done; return how long it took."""
        return wait_until(
            lambda: self.rows.column("SELECT state FROM plans WHERE id = %s", plan_id) == ["done"],
            timeout_s=PATIENCE_S,
            what=f"plan {plan_id} is done",
        )

    def wait_sessions(self, plan_id: int, count: int) -> None:
        """Wait until so many sessions of a plan have told of their start."""
        wait_until(
            lambda: len(self.started(plan_id)) == count, timeout_s=PATIENCE_S, what=f"{count} sessions run"
        )

    def pid(self, actor: str) -> int:
        """Return the process of an actor."""
        return int(self.stack.do("call", actor, "ping")["pid"])

    def kill(self, *actors: str) -> None:
        """End the processes of actors at one moment."""
        pids = [self.pid(actor) for actor in actors]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, pids)), timeout_s=PATIENCE_S, what="they are dead")

    def node(self) -> str:
        """Return the name of the one Node actor."""
        (name,) = [name for name, *_ in self.stack.do("actors") if name.startswith("node-")]
        return str(name)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with own_home() as home, actor_stack(home, settings={**SETTINGS, **BOXED}) as stack:
        (home / "effects").mkdir()
        effects = EffectLog(home / "effects")
        yield World(home=home, stack=stack, rows=Rows(stack.urls), effects=effects)


@pytest.mark.parametrize("victims", [("pools",), ("node",), ("pools", "node", "scheduler")], ids="+".join)
def test_what_runs_goes_on_and_what_is_new_starts(world: World, victims: tuple[str, ...]) -> None:
    name = "-".join(victims)
    actors = [world.node() if victim == "node" else victim for victim in victims]
    go = world.home / f"go-{name}"
    line = world.effects.line(f"while ! test -e {go}; do sleep 0.1; done")
    running = world.submit(f"running-{name}", line, agent=f"agent-{name}", tasks=SESSIONS)
    world.wait_sessions(running, SESSIONS)
    (executor,) = {executor for _, _, executor in world.attempts(running)}
    pid = world.pid(executor)
    took_s = []
    for n in range(ROUNDS):
        world.kill(*actors)
        new = world.submit(
            f"new-{name}-{n}", world.effects.line(), agent=f"new-{name}-{n}", tasks=1
        )  # an agent type without executors: only pools that hear of the demand make one
        took_s.append(world.wait_done(new))
    assert world.pid(executor) == pid
    assert world.attempts(running) == [(1, "started", executor)] * SESSIONS
    go.touch()
    world.wait_done(running)
    assert world.attempts(running) == [(1, "succeeded", executor)] * SESSIONS
    assert len(world.started(running)) == SESSIONS
    history = check_history(world.stack.urls.service, effects=world.effects)
    print(
        f"{' + '.join(victims)} killed {ROUNDS} times, new work done after at most {max(took_s):.1f} s: "
        f"{history.summary}"
    )


def test_a_node_actor_that_was_killed_still_ends_the_trees_of_a_killed_executor(world: World) -> None:
    plan_id = world.submit("orphans", world.effects.line(STUCK_ONCE), agent="orphaned", tasks=SESSIONS)
    world.wait_sessions(plan_id, SESSIONS)
    tokens = world.rows.column("SELECT token FROM attempts WHERE plan_id = %s", plan_id)
    pids = [process.pid for token in tokens for process in tree.members(world.home / "records", token)]
    (executor,) = {executor for _, _, executor in world.attempts(plan_id)}
    world.kill(executor, world.node())
    world.wait_done(plan_id)
    assert [state for _, state, _ in world.attempts(plan_id)] == ["lost", "succeeded"] * SESSIONS
    assert [pid for pid in pids if is_alive(pid)] == []
    print(f"{len(pids)} processes: {check_history(world.stack.urls.service, effects=world.effects).summary}")


def test_an_executor_that_waits_for_its_place_is_found_again_too(world: World) -> None:
    world.submit("boxed", world.effects.line(), agent="boxed", tasks=1)

    def waiting() -> set[str]:
        found = world.stack.do("actors")
        return {name for name, *_, state in found if "-boxed-" in name and state == "PENDING_CREATION"}

    wait_until(lambda: bool(waiting()), timeout_s=PATIENCE_S, what="an executor waits for its place")
    before = waiting()
    world.kill("pools")
    new = world.submit("after-boxed", world.effects.line(), agent="after-boxed", tasks=1)
    world.wait_done(new)
    assert waiting() == before
