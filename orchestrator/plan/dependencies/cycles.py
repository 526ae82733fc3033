"""What is inferred never stops a plan: an inferred dependency that closes a cycle only informs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.model import DependencyKind, PlanDependency, PlanTask

#: How often the graph is looked at for cycles; what is still in a knot then is demoted at once.
_ROUNDS_MAX = 20


def demote_inferred(
    tasks: Sequence[PlanTask], dependencies: Sequence[PlanDependency]
) -> tuple[tuple[PlanDependency, ...], list[PlanDependency]]:
    """Let the weakest inferred dependency of every cycle only inform, until no cycle has any.

    Returns:
        All dependencies in the same order, and those that were demoted, as they were.
    """
    demoted: list[PlanDependency] = []
    if all(edge.is_explicit for edge in dependencies):
        return tuple(dependencies), demoted
    for number in range(_ROUNDS_MAX + 1):
        graph = PlanGraph(tasks, dependencies)
        is_last = number == _ROUNDS_MAX
        weak = graph.inferred_in_knots() if is_last else [cycle.weakest for cycle in graph.cycles()]
        weak = [edge for edge in weak if not edge.is_explicit]
        if not weak:
            break
        demoted += weak
        dependencies = [
            replace(edge, kind=DependencyKind.INFORMS) if edge in weak else edge for edge in dependencies
        ]
    return tuple(dependencies), demoted
