"""The whole space of the lease protocol: everything that can happen, and nothing in it that must not.

Each bound is searched to its end. `python -m pytest tests/model -rP` prints what was visited.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from tests.model.lease_protocol import LeaseProtocol
from tests.model.search import Violation, search
from tests.model.world import Bounds, World
from tests.support.extent import IS_FULL

BOUNDED = {
    "one scheduler, two attempts, deaths unproven": Bounds(epochs=1, crashes=0, cancels=0, unproven=1),
    "one scheduler, two attempts, a cancel": Bounds(epochs=1, crashes=0),
    "one scheduler, one attempt, a crash and a cancel": Bounds(attempts=1, epochs=1),
    "one scheduler, one attempt, a crash": Bounds(attempts=1, epochs=1, cancels=0),
    "a takeover, one attempt": Bounds(attempts=1, crashes=0, cancels=0),
}
FULL = {
    "one scheduler, two attempts, a crash": Bounds(epochs=1, cancels=0),
    "a takeover, one attempt, a cancel": Bounds(attempts=1, crashes=0),
    "a takeover, one attempt, a crash": Bounds(attempts=1, cancels=0),
    "two takeovers, one attempt": Bounds(attempts=1, epochs=3, crashes=0, cancels=0),
    "a takeover, two attempts": Bounds(crashes=0, cancels=0),
    "a takeover, two attempts, a cancel": Bounds(crashes=0),
    "a takeover, two attempts, a crash": Bounds(cancels=0),
    "a takeover, two attempts, a crash and a cancel": Bounds(),
}

#: What must have happened somewhere: a search that never comes there proves nothing.
SEEN = {
    "commit-and-act",
    "store-start",
    "start-refused",
    "start-too-late",
    "launch",
    "store-result",
    "hear-result",
}
SEEN |= {"lose-trust", "expire", "time-out", "run-out", "ask", "kill", "fence"}


@pytest.mark.timeout(3600 if IS_FULL else 300)
@pytest.mark.parametrize("name", [*BOUNDED, *(FULL if IS_FULL else ())])
def test_nothing_that_can_happen_breaks_the_lease_protocol(name: str) -> None:
    bounds = (BOUNDED | FULL)[name]
    protocol, began_s = LeaseProtocol(bounds), time.monotonic()
    found = search(protocol.first(), steps=protocol.steps, check=protocol.check, is_rest=protocol.is_rest)
    took_s = time.monotonic() - began_s
    print(
        f"{name}: {len(found.states):,} states, {sum(found.steps.values()):,} transitions, "
        f"depth {found.depth}, {took_s:.0f} s"
    )
    seen = {*found.steps, *protocol.left_out}
    assert seen >= SEEN, f"never happened: {SEEN - seen}"


@pytest.mark.parametrize(
    "name",
    [
        "a takeover, one attempt",
        "one scheduler, two attempts, deaths unproven",
        "one scheduler, one attempt, a crash",
        *(["one scheduler, two attempts, a crash"] if IS_FULL else []),
    ],
)
def test_what_is_left_out_is_nothing_that_could_be_reached(name: str) -> None:
    whole, reduced = (_outcomes((BOUNDED | FULL)[name], is_whole=is_whole) for is_whole in (True, False))
    assert reduced == whole


def _outcomes(bounds: Bounds, *, is_whole: bool) -> set[str]:
    """Return what the states show: tables, sessions that run or may, the memory of who holds the term."""
    protocol = LeaseProtocol(bounds, is_whole=is_whole)
    found = search(protocol.first(), steps=protocol.steps, check=protocol.check, is_rest=protocol.is_rest)
    return {_renamed(_outcome(protocol, world)) for world in found.states}


def _outcome(protocol: LeaseProtocol, world: World) -> str:
    tables = protocol.tables[world.tables]
    sessions = {s[:3] for x in world.executors for s in x.sessions if s.phase in {"accepted", "running"}}
    memory = [
        replace(protocol.cores[s.core], executors={}, pools={})  # which executors idle makes no difference
        for s in world.schedulers
        if tables.term is not None and s.epoch == tables.term.epoch and s.core != -1 and s.batch == -1
    ]
    return repr((tables, sorted(sessions), sorted(world.orphans), world.cancel, memory))


def _renamed(outcome: str) -> str:
    """Number the executors as they are named: which of them did it makes no difference."""
    names: dict[str, str] = {}
    return re.sub("'(a+|b+)'", lambda found: names.setdefault(found[1], str(len(names))), outcome)


def test_a_search_tells_the_shortest_way_to_what_is_wrong() -> None:
    def check(state: int) -> None:
        if state == 4:
            raise Violation("four")

    with pytest.raises(Violation, match="four\n  1 add\n  2 double\n"):
        search(1, steps=_doubles_and_adds, check=check, is_rest=lambda _: True)


def test_a_search_finds_what_leads_nowhere() -> None:
    with pytest.raises(Violation, match="nothing leads to a rest"):
        search(1, steps=_doubles_and_adds, check=lambda _: None, is_rest=lambda state: state == 3)


def _doubles_and_adds(state: int) -> list[tuple[str, int]]:
    return [("add", state + 1), ("double", state * 2)] if state < 4 else []
