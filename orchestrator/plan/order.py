"""The tasks of a plan by number, and the order in which they can be done.

A container is a number too: it takes no time and ends with its children, and what depends on it waits for
all of it. Only `blocks` orders tasks. Everything here is linear in tasks and dependencies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from orchestrator.core.words import TaskKind
from orchestrator.errors import PlanError
from orchestrator.plan.model import DependencyKind, PlanDependency, PlanTask


class Order:
    """Who comes before whom.

    Args:
        tasks: leaves and containers.
        dependencies: those of other kinds than `blocks`, and those whose ends are unknown, are left out.

    Attributes:
        tasks: as given; the place of a task is its number everywhere here.
        number: of each key.
        parent: of each number, -1 at the top.
        needs, dependents: of each number, what it depends on and what depends on it.
        before: what must end first: what it depends on, and the children of a container.
        after: what waits for it: what depends on it, and its container.
        sequence: all numbers, each behind everything that comes before it.

    Raises:
        PlanError: tasks wait for each other.
    """

    def __init__(self, tasks: Sequence[PlanTask], dependencies: Iterable[PlanDependency]) -> None:
        self.tasks = tuple(tasks)
        self.number = {task.key: number for number, task in enumerate(self.tasks)}
        self.parent = [self.number.get(task.parent, -1) if task.parent else -1 for task in self.tasks]
        children: list[list[int]] = [[] for _ in self.tasks]
        self.needs: list[list[int]] = [[] for _ in self.tasks]
        self.dependents: list[list[int]] = [[] for _ in self.tasks]
        for number, parent in enumerate(self.parent):
            if parent >= 0:
                children[parent].append(number)
        edges = {(edge.on, edge.task): None for edge in dependencies if edge.kind is DependencyKind.BLOCKS}
        for on, task in edges:
            if on in self.number and task in self.number:
                self.needs[self.number[task]].append(self.number[on])
                self.dependents[self.number[on]].append(self.number[task])
        self.before = [needs + below for needs, below in zip(self.needs, children, strict=True)]
        self.after = [
            dependents if parent < 0 else [*dependents, parent]
            for dependents, parent in zip(self.dependents, self.parent, strict=True)
        ]
        self.sequence = self._sequence()

    def __len__(self) -> int:
        return len(self.tasks)

    def is_leaf(self, number: int) -> bool:
        """Whether the task is executed."""
        return self.tasks[number].kind is TaskKind.LEAF

    def longest_after(self, duration_ms: Sequence[int]) -> list[int]:
        """The longest time from the start of each task to the end of the plan, its own included, in ms."""
        longest = [0] * len(self)
        for number in reversed(self.sequence):
            after_ms = max(map(longest.__getitem__, self.after[number]), default=0)
            longest[number] = duration_ms[number] + after_ms
        return longest

    def earliest_start(self, duration_ms: Sequence[int]) -> list[int]:
        """When each task can start if nothing but its dependencies keeps it, in ms from now."""
        start = [0] * len(self)
        for number in self.sequence:
            start[number] = max(
                (start[first] + duration_ms[first] for first in self.before[number]), default=0
            )
        return start

    def _sequence(self) -> list[int]:
        """Kahn's algorithm, first come first served, so that the order of the plan decides between equals."""
        open_before = list(map(len, self.before))
        sequence = [number for number, count in enumerate(open_before) if not count]
        for number in sequence:  # it grows meanwhile
            for following in self.after[number]:
                open_before[following] -= 1
                if not open_before[following]:
                    sequence.append(following)
        if len(sequence) < len(self):
            keys = [self.tasks[number].key for number, count in enumerate(open_before) if count]
            raise PlanError(
                f"Tasks wait for each other, so none of {len(keys)} can come first; {keys[0]} is one.",
                remedy="`orchestrator lint PLAN` names every cycle and what to remove.",
            )
        return sequence
