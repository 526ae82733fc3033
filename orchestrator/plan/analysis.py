"""What can be done now, what waits and why, how long it takes at least, and what everything hangs on.

An `Analysis` is made once, linear in the size of the plan, and then follows the plan: `complete` costs the
dependents of the task and a few steps in a heap, whatever the size of the plan. That is possible because a
completed task changes no length behind it: the longest way that is left begins at an open task whose length
was known from the start. Only a task that is completed before what it waits for changes lengths, of what
comes before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush

from orchestrator.core.words import CLOSED, SATISFIED, HoldReason, TaskState
from orchestrator.plan.model import ESTIMATE_MS_DEFAULT, PlanTask
from orchestrator.plan.order import Order
from orchestrator.plan.standing import Standing, standings_by_marks

#: Leaves that are counted at a time: 512 bytes for each task.
_REACH_BITS = 4096
_UNTOUCHED = frozenset({TaskState.WAITING, TaskState.READY})
_NEEDS_PERSON = frozenset({TaskState.HELD, TaskState.FAILED})


class Analysis:
    """Where a plan stands and what is left of it.

    Args:
        order: the plan's tasks and dependencies.
        standings: of the leaves, by key; by default what the marks of the file say.
    """

    def __init__(self, order: Order, standings: Mapping[str, Standing] | None = None) -> None:
        self.order = order
        given = standings_by_marks(order.tasks) if standings is None else standings
        size = range(len(order))
        self._standings = [given[order.tasks[n].key] if order.is_leaf(n) else None for n in size]
        self._unmet = list(map(len, order.needs))
        self._open_children = [len(order.before[n]) - len(order.needs[n]) for n in size]
        self._has_met_child = [False] * len(order)
        self._is_closed = [False] * len(order)
        self._not_clear = list(map(len, order.before))
        self._is_clear = [False] * len(order)
        self._duration_ms = [self._estimate_ms(n) for n in size]
        self._ready: set[int] = set()
        for n in size:
            if (standing := self._standings[n]) is not None and standing.state in CLOSED:
                self._close(n, is_met=standing.state in SATISFIED)
        self._ready = {n for n in size if self._can_start(n)}
        self._longest_ms = order.longest_after(self._duration_ms)
        self._position = [0] * len(order)
        for position, n in enumerate(order.sequence):
            self._position[n] = position
        self._by_length = [(-self._longest_ms[n], n) for n in size if self._is_open(n)]
        heapify(self._by_length)

    # --- following the plan

    def complete(self, key: str) -> tuple[str, ...]:
        """Take a task as done, and return the keys of the tasks that became ready by it, in no order.

        Completing a task again changes nothing.
        """
        number = self.order.number[key]
        if self._is_closed[number]:
            return ()
        self._standings[number] = Standing(TaskState.DONE)
        self._ready.discard(number)
        released = self._close(number, is_met=True)
        self._duration_ms[number] = 0
        self._shorten(number)
        started = [n for n in released if self._can_start(n)]
        self._ready.update(started)
        return tuple(self.order.tasks[n].key for n in started)

    def _close(self, number: int, *, is_met: bool) -> list[int]:
        """Close a task and the containers that end with it; return what waits for nothing any more."""
        released = []
        closing = [(number, is_met)]
        while closing:
            number, is_met = closing.pop()
            self._is_closed[number] = True
            self._clear(number)
            if is_met:
                for dependent in self.order.dependents[number]:
                    self._unmet[dependent] -= 1
                    if not self._unmet[dependent]:
                        released.append(dependent)
            parent = self.order.parent[number]
            if parent >= 0:
                self._open_children[parent] -= 1
                self._has_met_child[parent] |= is_met
                if not self._open_children[parent]:
                    closing.append((parent, self._has_met_child[parent]))
        return released

    def _clear(self, number: int) -> None:
        """A task is clear when it is closed and all that comes before it is: no open task has a way to it."""
        clearing = [] if self._not_clear[number] else [number]
        while clearing:
            number = clearing.pop()
            self._is_clear[number] = True
            for following in self.order.after[number]:
                self._not_clear[following] -= 1
                if self._is_closed[following] and not self._not_clear[following]:
                    clearing.append(following)

    def _shorten(self, number: int) -> None:
        """Bring the lengths up to date that lead from open tasks over a task that takes no time any more."""
        waiting = [(-self._position[number], number)]
        seen = {number}
        while waiting:
            _, number = heappop(waiting)
            after_ms = max(map(self._longest_ms.__getitem__, self.order.after[number]), default=0)
            longest_ms = self._duration_ms[number] + after_ms
            if longest_ms == self._longest_ms[number]:
                continue
            self._longest_ms[number] = longest_ms
            if self._is_open(number):
                heappush(self._by_length, (-longest_ms, number))
            for first in self.order.before[number]:
                if not self._is_clear[first] and first not in seen:
                    seen.add(first)
                    heappush(waiting, (-self._position[first], first))

    # --- what there is to do

    def ready(self) -> tuple[str, ...]:
        """Keys of the tasks that may start now, in the order of the plan."""
        return tuple(self.order.tasks[n].key for n in sorted(self._ready))

    def held(self) -> Iterator[tuple[str, str]]:
        """Yield `(key, reason)` of what only a person can set going: held, failed, manual, to be approved."""
        for n in range(len(self.order)):
            if self._is_open(n) and (reason := self._person_needed(n)):
                yield self.order.tasks[n].key, reason

    def blocked(self) -> Iterator[tuple[str, tuple[str, ...], str]]:
        """Yield `(key, waits for, behind)` of the tasks whose dependencies are not met.

        `behind` is a task that needs a person before this one can ever start; empty if none does.
        """
        behind = self._behind()
        for n in range(len(self.order)):
            if self._is_open(n) and self._unmet[n]:
                unmet = tuple(self.order.tasks[on].key for on in self.order.needs[n] if not self._is_met(on))
                culprit = behind[n]
                yield self.order.tasks[n].key, unmet, "" if culprit < 0 else self.order.tasks[culprit].key

    def _behind(self) -> list[int]:
        """For each task, a task before it or itself that needs a person; -1 for none."""
        behind = [-1] * len(self.order)
        for n in self.order.sequence:
            firsts = (behind[first] for first in self.order.before[n] if not self._is_met(first))
            behind[n] = max(firsts, default=-1)
            standing = self._standings[n]
            if standing is not None and (standing.state is TaskState.CANCELLED or self._person_needed(n)):
                behind[n] = n
        return behind

    # --- how long it takes

    @property
    def work_ms(self) -> int:
        """Estimates of all open tasks together."""
        return sum(self._duration_ms)

    @property
    def critical_path_ms(self) -> int:
        """The longest way through what is left: no number of sessions is faster."""
        top = self._top()
        return 0 if top is None else self._longest_ms[top]

    def critical_path(self) -> tuple[str, ...]:
        """The open leaves of the longest way, in order; empty when nothing is left to do."""
        path, number = [], self._top()
        while number is not None:
            path.append(number)
            following = self.order.after[number]
            number = min(following, key=lambda n: (-self._longest_ms[n], n), default=None)
        return tuple(self.order.tasks[n].key for n in path if self._is_open(n))

    def downstream_ms(self) -> dict[str, int]:
        """The longest time from the start of each task to the end of the plan, by key."""
        return {task.key: self._longest_ms[n] for n, task in enumerate(self.order.tasks)}

    def slack_ms(self) -> dict[str, int]:
        """By how much each open leaf may be late without the plan being late, by key; 0 = critical."""
        start_ms = self.order.earliest_start(self._duration_ms)
        end_ms = self.critical_path_ms
        return {
            task.key: end_ms - start_ms[n] - self._longest_ms[n]
            for n, task in enumerate(self.order.tasks)
            if self._is_open(n)
        }

    def waves(self) -> list[tuple[str, ...]]:
        """The open leaves in generations: each waits for leaves of earlier ones only."""
        depth = [0] * len(self.order)
        waves: dict[int, list[int]] = {}
        for n in self.order.sequence:
            is_open = self._is_open(n)
            depth[n] = max(map(depth.__getitem__, self.order.before[n]), default=0) + is_open
            if is_open:
                waves.setdefault(depth[n], []).append(n)
        return [tuple(self.order.tasks[n].key for n in sorted(waves[depth])) for depth in sorted(waves)]

    # --- what hangs on what

    def bottlenecks(self, count: int = 10) -> list[tuple[str, int, int]]:
        """Return `(key, open leaves behind it, their estimates in ms)` of those with the most behind them."""
        behind = self._leaves_behind()
        held_up = [n for n in range(len(self.order)) if self._is_open(n) and behind[n]]
        worst = sorted(held_up, key=lambda n: (-behind[n], n))
        return [(self.order.tasks[n].key, behind[n], self._work_behind_ms(n)) for n in worst[:count]]

    def _leaves_behind(self) -> list[int]:
        """For each task, how many open leaves wait for it, directly or not.

        Sets are bits of integers, and only so many leaves are looked at in one pass that memory stays small.
        """
        behind = [0] * len(self.order)
        leaves = [n for n in self.order.sequence if self._is_open(n)]
        for first in range(0, len(leaves), _REACH_BITS):
            counted = leaves[first : first + _REACH_BITS]
            reach = [0] * len(self.order)
            for place, n in enumerate(counted):
                reach[n] = 1 << place
            for n in self.order.sequence[self._position[counted[-1]] :: -1]:
                found = 0
                for following in self.order.after[n]:
                    found |= reach[following]
                if found:
                    behind[n] += found.bit_count()
                    reach[n] |= found
        return behind

    def _work_behind_ms(self, number: int) -> int:
        found, front = {number}, [number]
        while front:
            for following in self.order.after[front.pop()]:
                if following not in found:
                    found.add(following)
                    front.append(following)
        return sum(map(self._duration_ms.__getitem__, found)) - self._duration_ms[number]

    # --- states

    def standing(self, key: str) -> Standing:
        """Where a leaf stands; a waiting one that waits for nothing is ready."""
        number = self.order.number[key]
        standing = self._standings[number]
        assert standing is not None, f"{key} is a container"
        return Standing(TaskState.READY) if number in self._ready else standing

    def _is_open(self, number: int) -> bool:
        return self._standings[number] is not None and not self._is_closed[number]

    def _is_met(self, number: int) -> bool:
        """Whether what depends on it may start."""
        if (standing := self._standings[number]) is not None:
            return standing.state in SATISFIED
        return self._is_closed[number] and self._has_met_child[number]

    def _can_start(self, number: int) -> bool:
        standing = self._standings[number]
        is_untouched = standing is not None and standing.state in _UNTOUCHED
        return is_untouched and not self._unmet[number] and not self._person_needed(number)

    def _person_needed(self, number: int) -> str:
        """Why a person must act before this open leaf can go on; empty if none must, or not yet."""
        task, standing = self.order.tasks[number], self._standings[number]
        if standing is None:
            return ""
        if standing.state in _NEEDS_PERSON:
            return standing.reason or standing.state
        if standing.state is not TaskState.WAITING or self._unmet[number]:
            return ""
        return HoldReason.MANUAL if task.manual else HoldReason.APPROVAL if task.approve else ""

    def _estimate_ms(self, number: int) -> int:
        standing = self._standings[number]
        is_open = standing is not None and standing.state not in CLOSED
        return estimate_ms(self.order.tasks[number]) if is_open else 0

    def _top(self) -> int | None:
        """The open leaf with the longest way to the end, of equals the first of the plan."""
        while self._by_length:
            length_ms, number = self._by_length[0]
            if self._is_open(number) and -length_ms == self._longest_ms[number]:
                return number
            heappop(self._by_length)
        return None


def estimate_ms(task: PlanTask) -> int:
    """What the author says that a task takes, or half an hour."""
    return ESTIMATE_MS_DEFAULT if task.estimate_ms is None else task.estimate_ms
