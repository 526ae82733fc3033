"""Breadth-first search of everything that can happen, with the shortest way to whatever is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


class Violation(Exception):
    """Something happened that must never happen."""


@dataclass
class Found(Generic[S]):
    """What a search saw.

    Attributes:
        states: in the order of their discovery; `came_from` has the state before each and the step.
        depth: steps from the first state to the farthest.
        steps: transitions by the name of the step.
    """

    states: list[S] = field(default_factory=list)
    came_from: list[tuple[int, str]] = field(default_factory=list)
    depth: int = 0
    steps: Counter[str] = field(default_factory=Counter)

    def way_to(self, number: int) -> str:
        """Return the steps that lead to a state, one a line."""
        steps: list[str] = []
        while number > 0:
            number, step = self.came_from[number]
            steps.append(step)
        return "\n".join(f"{n:3} {step}" for n, step in enumerate(reversed(steps), start=1))


def search(
    start: S,
    *,
    steps: Callable[[S], Iterable[tuple[str, S]]],
    check: Callable[[S], None],
    is_rest: Callable[[S], bool],
) -> Found[S]:
    """Visit every state that can be reached; each must satisfy `check`, and a rest must stay reachable.

    Args:
        steps: yields what can happen in a state as (name, state after); a word and its details.
        check: raises Violation. So may `steps`.

    Raises:
        Violation: with the shortest way to it.
    """
    found: Found[S] = Found(states=[start], came_from=[(-1, "")])
    numbers, depths = {start: 0}, [0]
    before: list[list[int]] = [[]]
    at = 0
    while at < len(found.states):
        state = found.states[at]
        try:
            check(state)
            for name, after in steps(state):
                number = numbers.setdefault(after, len(found.states))
                if number == len(found.states):
                    found.states.append(after)
                    found.came_from.append((at, name))
                    depths.append(depths[at] + 1)
                    before.append([])
                before[number].append(at)
                found.steps[name.partition(" ")[0]] += 1
        except Violation as violation:
            raise Violation(f"{violation}\n{found.way_to(at)}\n    {state}") from violation
        at += 1
    found.depth = max(depths)
    _check_rest(found, before, is_rest)
    return found


def _check_rest(found: Found[S], before: list[list[int]], is_rest: Callable[[S], bool]) -> None:
    """From every state a rest can be reached: there is no deadlock and no endless detour."""
    front = [number for number, state in enumerate(found.states) if is_rest(state)]
    can_rest = set(front)
    while front:
        for number in before[front.pop()]:
            if number not in can_rest:
                can_rest.add(number)
                front.append(number)
    for number, state in enumerate(found.states):
        if number not in can_rest:
            raise Violation(f"nothing leads to a rest any more\n{found.way_to(number)}\n    {state}")
