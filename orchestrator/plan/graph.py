"""The dependency graph of a plan: cycles, waves, longest way to the end. The only user of networkx.

Containers are nodes of no duration that finish when their children have; a task that depends on one waits
for all of it. Only `blocks` orders tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import networkx as nx

from orchestrator.errors import PlanError
from orchestrator.plan.analysis import Analysis
from orchestrator.plan.model import DependencyKind, Mark, PlanDependency, PlanTask
from orchestrator.plan.order import Order

#: Marks of tasks that will not run, so that nothing waits for them.
SETTLED_MARKS = frozenset({Mark.DONE, Mark.CANCELLED, Mark.DEFERRED, Mark.SKIPPED})

#: From how many tasks of a knot its shortest cycle is looked for; one that passes through none is not seen.
_STARTS_MAX = 50


@dataclass(frozen=True, slots=True)
class Cycle:
    """Tasks that wait for each other in a ring.

    Attributes:
        keys: from a task to the one it waits for, and so on; the first key is repeated at the end.
        dependencies: what each key says about the next; None where the next is only part of it.
    """

    keys: tuple[str, ...]
    dependencies: tuple[PlanDependency | None, ...]

    @property
    def weakest(self) -> PlanDependency:
        """The dependency to remove: inferred before written, then the least sure, then the last one."""
        said = [edge for edge in self.dependencies if edge is not None]
        return min(said, key=lambda edge: (edge.is_explicit, edge.confidence, -edge.line))


class PlanGraph:
    """The graph of a plan's tasks; edges lead from what comes first to what waits for it.

    Args:
        tasks: leaves and containers.
        dependencies: those of other kinds than `blocks`, and those whose ends are unknown, are left out.
    """

    def __init__(self, tasks: Sequence[PlanTask], dependencies: Iterable[PlanDependency]) -> None:
        self._tasks = {task.key: task for task in tasks}
        graph = nx.DiGraph()
        graph.add_nodes_from(self._tasks)
        graph.add_edges_from((task.key, task.parent) for task in tasks if task.parent in self._tasks)
        self._said = {
            (edge.task, edge.on): edge
            for edge in dependencies
            if edge.kind is DependencyKind.BLOCKS and edge.on in self._tasks and edge.task in self._tasks
        }
        graph.add_edges_from((on, task) for task, on in self._said)
        self._graph = graph

    def cycles(self) -> list[Cycle]:
        """One whole cycle, the shortest, for each knot of tasks that wait for each other."""
        return sorted(map(self._shortest_cycle, self._knots()), key=lambda cycle: cycle.keys)

    def inferred_in_knots(self) -> list[PlanDependency]:
        """All inferred dependencies between tasks of one knot: without them every cycle left is written."""
        knot = {key: number for number, members in enumerate(self._knots()) for key in members}
        return [
            edge
            for (task, on), edge in self._said.items()
            if not edge.is_explicit and task in knot and knot[task] == knot.get(on)
        ]

    def _knots(self) -> list[set[str]]:
        return [members for members in nx.strongly_connected_components(self._graph) if len(members) > 1]

    def _shortest_cycle(self, members: set[str]) -> Cycle:
        shortest: list[str] = []
        for start in sorted(members)[:_STARTS_MAX]:
            ring = self._ring(start, members, len(shortest) or len(members) + 1)
            shortest = ring or shortest
        least = shortest.index(min(shortest))
        keys = (*shortest[least:], *shortest[: least + 1])
        return Cycle(keys=keys, dependencies=tuple(self._said.get(step) for step in pairwise(keys)))

    def _ring(self, start: str, members: set[str], less_than: int) -> list[str]:
        """The shortest way from a task over what it waits for back to it; empty if it is not short enough."""
        came_from, depth = {start: ""}, {start: 1}
        waiting = deque([start])
        while waiting:
            key = waiting.popleft()
            if depth[key] >= less_than:
                return []
            for on in self._graph.predecessors(key):
                if on == start:
                    ring = [key]
                    while ring[-1] != start:
                        ring.append(came_from[ring[-1]])
                    return ring[::-1]
                if on in members and on not in depth:
                    came_from[on], depth[on] = key, depth[key] + 1
                    waiting.append(on)
        return []

    def needed_for(self, key: str) -> frozenset[str]:
        """The tasks that a task needs, directly or not, with itself and what is below its containers.

        Raises:
            PlanError: the plan has no such task.
        """
        if key not in self._tasks:
            raise PlanError(
                f"The plan has no task {key!r} to stop at.", remedy="Name the key of one of its tasks."
            )
        return frozenset({key, *nx.ancestors(self._graph, key)})

    def waves(self) -> list[tuple[str, ...]]:
        """The leaves that are left to do, in generations; see Analysis.waves. Raises PlanError on a cycle."""
        return self._analysis.waves()

    def downstream_ms(self) -> Mapping[str, int]:
        """The longest time from the start of each task to the end of the plan, along what waits for it.

        A task's own estimate is included (30 minutes where there is none); settled tasks take no time.

        Raises:
            PlanError: the plan has a cycle.
        """
        return self._analysis.downstream_ms()

    def critical_path(self) -> tuple[str, ...]:
        """The leaves of the longest way through the plan, in order; empty when nothing is left to do."""
        return self._analysis.critical_path()

    @cached_property
    def _analysis(self) -> Analysis:
        return Analysis(Order(tuple(self._tasks.values()), self._said.values()))
