"""What several notations need of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.plan.model import DependencyKind, Plan, PlanDependency, PlanTask


def known_edges(plan: Plan) -> list[PlanDependency]:
    """The dependencies between tasks of the plan, each once, by the order of the tasks that have them."""
    place = {task.key: number for number, task in enumerate(plan.tasks)}
    edges: dict[tuple[str, str, DependencyKind], PlanDependency] = {}
    for edge in plan.dependencies:
        if edge.task in place and edge.on in place:
            edges.setdefault((edge.task, edge.on, edge.kind), edge)
    return sorted(edges.values(), key=lambda edge: (place[edge.task], place[edge.on], edge.kind))


def edges_by_task(plan: Plan) -> Mapping[str, list[PlanDependency]]:
    """The same by the key of the task that has them."""
    found: dict[str, list[PlanDependency]] = {}
    for edge in known_edges(plan):
        found.setdefault(edge.task, []).append(edge)
    return found


def children_by_parent(plan: Plan) -> Mapping[str, Sequence[PlanTask]]:
    """The tasks below each container, by its key; those at the top under the empty key."""
    keys = {task.key for task in plan.tasks}
    found: dict[str, list[PlanTask]] = {}
    for task in plan.tasks:
        found.setdefault(task.parent if task.parent in keys else "", []).append(task)
    return found


def numbers(plan: Plan) -> Mapping[str, str]:
    """A name for each task that every notation takes without quotes: `n0`, `n1`, ..., by key."""
    return {task.key: f"n{number}" for number, task in enumerate(plan.tasks)}


def label(task: PlanTask) -> str:
    """What a diagram calls a task: its key, if that says anything, and its title."""
    return f"{task.key} · {task.title}" if task.has_own_key else task.title


def task_values(task: PlanTask) -> dict[str, str]:
    """What every notation with named values says of a task first; empty where the plan says nothing."""
    return {
        "key": task.key,
        "title": task.title,
        "kind": task.kind.value,
        "parent": task.parent,
        "mark": task.mark.value,
        "priority": str(task.priority),
        "estimate_ms": "" if task.estimate_ms is None else str(task.estimate_ms),
        "agent": task.agent,
        "task_type": task.task_type,
        "domain": task.domain,
    }
