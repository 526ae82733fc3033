"""Makes a search over large mutable things cheap: each distinct one is kept once, each step computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Interned(Generic[T]):
    """Distinct things by number. Those that were given out must never be changed: copy, change, put back.

    Args:
        copy: returns a thing of its own.
        key: tells things apart; things of one key are interchangeable.
        check: is shown each new thing.
    """

    def __init__(
        self, *, copy: Callable[[T], T], key: Callable[[T], Hashable], check: Callable[[T], None]
    ) -> None:
        self._copy, self._key, self._check = copy, key, check
        self._numbers: dict[Hashable, int] = {}
        self._things: list[T] = []
        self._steps: dict[tuple[int, Hashable], tuple[int, Any]] = {}

    def __getitem__(self, number: int) -> T:
        return self._things[number]

    def __len__(self) -> int:
        return len(self._things)

    def put(self, thing: T) -> int:
        """Keep a thing; return the number of it or of its like."""
        key = self._key(thing)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._things)
            self._things.append(thing)
            self._check(thing)
        return number

    def step(self, number: int, name: Hashable, change: Callable[[T], Any]) -> tuple[int, Any]:
        """Change a copy of a thing; return the number of what came out, and what `change` returned.

        `name` stands for the change: the same name always means the same change.
        """
        known = self._steps.get((number, name))
        if known is None:
            thing = self._copy(self._things[number])
            answer = change(thing)
            known = self._steps[number, name] = (self.put(thing), answer)
        return known
