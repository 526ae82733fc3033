"""How long tasks take when so many sessions work on them, and which tasks get in each other's way.

The rule is the dispatcher's: whenever a session is free, the first ready task of the list starts. That is
list scheduling, which takes less than twice as long as the best order there is (Graham, "Bounds on
multiprocessing timing anomalies", SIAM Journal on Applied Mathematics 17, 1969).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush

_WILD = frozenset("*?[{")


class TaskList:
    """Tasks in the order in which they are to start as soon as they can.

    Args:
        tasks: how many there are; they are numbered by their place in the list.
        joins: how many points follow them in number: they take no time, as the ends of containers.
        edges: `(first, then)`.
    """

    def __init__(self, *, tasks: int, joins: int, edges: Iterable[tuple[int, int]]) -> None:
        self._tasks = tasks
        self._after: list[list[int]] = [[] for _ in range(tasks + joins)]
        self._waits_for = [0] * (tasks + joins)
        for first, then in edges:
            self._after[first].append(then)
            self._waits_for[then] += 1
        self._first = [number for number in range(tasks) if not self._waits_for[number]]

    def makespan(self, duration: Sequence[float], width: int) -> float:
        """Return when the last task ends if `width` of them run at once, in the unit of `duration`."""
        after, tasks = self._after, self._tasks
        waits_for = self._waits_for.copy()
        ready = self._first.copy()
        heapify(ready)
        running: list[tuple[float, int]] = []
        now = 0.0
        while ready or running:
            while ready and len(running) < width:
                task = heappop(ready)
                heappush(running, (now + duration[task], task))
            now, task = heappop(running)
            ended = [task]
            for number in ended:  # it grows by the containers that end with it
                for following in after[number]:
                    waits_for[following] -= 1
                    if not waits_for[following]:
                        if following < tasks:
                            heappush(ready, following)
                        else:
                            ended.append(following)
        return now


def touching_edges(touches: Sequence[Iterable[str]]) -> Iterator[tuple[int, int]]:
    """Yield `(first, then)` for tasks that must not run at once, because both touch the same files.

    Two patterns are taken to meet when the fixed part of one, up to its first wildcard, is the other's or a
    folder above it: rather too often than too seldom.

    Args:
        touches: the patterns of each task, in the order in which the tasks could be done.
    """
    last: dict[tuple[str, ...], int] = {}
    below: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for task, patterns in enumerate(touches):
        for path in sorted({_fixed(pattern) for pattern in patterns}):
            above = [path[:depth] for depth in range(len(path))]
            inside = below.pop(path, set())
            met = {last[other] for other in (path, *above, *inside) if other in last}
            yield from ((first, task) for first in sorted(met) if first != task)
            for other in inside:  # whoever waits for this task waits for those too
                last.pop(other, None)
            last[path] = task
            for folder in above:
                below.setdefault(folder, set()).add(path)


def _fixed(pattern: str) -> tuple[str, ...]:
    """The folders and file of a pattern up to the first that has a wildcard."""
    parts = [part for part in pattern.strip().strip("`").split("/") if part not in ("", ".")]
    wild = next((number for number, part in enumerate(parts) if _WILD & set(part)), len(parts))
    return tuple(parts[:wild])
