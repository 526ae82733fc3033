"""Turns a plan as read into the rows of a plan as stored: pure, one list per column.

The states are those of an import: what the author ticked is done, what he marked as taken or blocked is
held, what waits for nothing is ready, and everything else waits. The plan is inert until the scheduler takes
it; that writes few rows, however large the plan is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from orchestrator.core.words import CLOSED, SATISFIED, TaskKind, TaskState
from orchestrator.plan.model import DependencyKind, Mark, Plan, PlanDependency, PlanTask
from orchestrator.plan.sources import digest_of
from orchestrator.plan.standing import STANDING_BY_MARK, Standing
from orchestrator.ports import Repository


class RoutingDecision(Protocol):
    """Which agent type a task got, by which rule and on what evidence."""

    @property
    def agent_type(self) -> str: ...
    @property
    def rule(self) -> str: ...
    @property
    def evidence(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPlan:
    """A plan that is ready to be stored.

    Attributes:
        workdir: absolute folder of the work; empty if the plan has none.
        repository: in whose clones the work is done instead; None if it has none.
        files: the text of each file, by its path below the plan's folder; the only one by an empty path.
        decisions: routing decision of each leaf, by key.
        ranks: longest downstream time of each task in ms, by key.
        is_taken: tasks marked in progress are worked on too.
    """

    plan: Plan
    name: str
    workdir: str
    backend: str
    budget_micros: int
    until_key: str
    files: Mapping[str, str]
    decisions: Mapping[str, RoutingDecision]
    ranks: Mapping[str, int] = field(default_factory=dict)
    is_taken: bool = False
    repository: Repository | None = None

    @property
    def digest(self) -> str:
        """Digest of its files: two plans of one name are the same plan if it is equal."""
        return digest_of(self.files)

    @property
    def tasks_total(self) -> int:
        """How many leaves it has."""
        return sum(task.kind is TaskKind.LEAF for task in self.plan.tasks)


def file_columns(new: NewPlan, *, plan_id: int) -> dict[str, Sequence[Any]]:
    """Return the rows of `plan_files`."""
    return {
        "plan_id": [plan_id] * len(new.files),
        "path": list(new.files),
        "text": list(new.files.values()),
    }


def task_columns(new: NewPlan, *, plan_id: int, ids: Mapping[str, int]) -> dict[str, Sequence[Any]]:
    """Return the rows of `tasks`; `ids` are their ids by key."""
    tasks = new.plan.tasks
    return {
        "id": [ids[task.key] for task in tasks],
        "plan_id": [plan_id] * len(tasks),
        "key": [task.key for task in tasks],
        "has_own_key": [task.has_own_key for task in tasks],
        "parent_id": [ids.get(task.parent) for task in tasks],
        "ordinal": range(len(tasks)),
        "kind": [task.kind.value for task in tasks],
        "title": [task.title for task in tasks],
        "body": [task.body for task in tasks],
        "priority": [task.priority for task in tasks],
        "rank": [new.ranks.get(task.key, 0) for task in tasks],
        "estimate_ms": [task.estimate_ms for task in tasks],
        "task_type": [task.task_type for task in tasks],
        "domain": [task.domain for task in tasks],
        "agent_override": [task.agent for task in tasks],
        "agent_type": [_agent_type(new, task) for task in tasks],
        "acceptance": [task.acceptance for task in tasks],
        "touches": [task.touches for task in tasks],
        "run": [task.run for task in tasks],
        "verify": [task.verify for task in tasks],
        "manual": [task.manual for task in tasks],
        "approve": [task.approve for task in tasks],
        "options": [dict(task.options) for task in tasks],
        "source_file": [task.source for task in tasks],
        "line": [task.line for task in tasks],
        "mark": [task.mark.value for task in tasks],
        "mark_start": [task.span.start if task.span else None for task in tasks],
        "mark_end": [task.span.end if task.span else None for task in tasks],
        "notation": [task.span.notation.value if task.span else "" for task in tasks],
    }


def state_columns(new: NewPlan, *, plan_id: int, ids: Mapping[str, int]) -> dict[str, Sequence[Any]]:
    """Return the rows of `task_states`."""
    tasks = new.plan.tasks
    states = initial_states(tasks, is_taken=new.is_taken)
    unmet = _unmet(known_dependencies(new.plan, ids), states)
    for task in tasks:
        if states[task.key].state is TaskState.WAITING and not unmet[task.key] and _needs_nobody(task):
            states[task.key] = Standing(TaskState.READY)
    return {
        "task_id": [ids[task.key] for task in tasks],
        "plan_id": [plan_id] * len(tasks),
        "state": [states[task.key].state.value for task in tasks],
        "reason": [str(states[task.key].reason) for task in tasks],
    }


def dependency_columns(new: NewPlan, *, plan_id: int, ids: Mapping[str, int]) -> dict[str, Sequence[Any]]:
    """Return the rows of `task_dependencies`."""
    edges = known_dependencies(new.plan, ids)
    return {
        "plan_id": [plan_id] * len(edges),
        "task_id": [ids[edge.task] for edge in edges],
        "on_task_id": [ids[edge.on] for edge in edges],
        "kind": [edge.kind.value for edge in edges],
        "is_explicit": [edge.is_explicit for edge in edges],
        "evidence": [edge.evidence for edge in edges],
        "line": [edge.line for edge in edges],
        "confidence": [edge.confidence for edge in edges],
    }


def decision_columns(new: NewPlan, *, ids: Mapping[str, int]) -> dict[str, Sequence[Any]]:
    """Return the rows of `routing_decisions`."""
    decisions = [(ids[key], decision) for key, decision in new.decisions.items() if key in ids]
    return {
        "task_id": [task_id for task_id, _ in decisions],
        "agent_type": [decision.agent_type for _, decision in decisions],
        "rule": [str(decision.rule) for _, decision in decisions],
        "evidence": [decision.evidence for _, decision in decisions],
    }


def initial_states(tasks: Sequence[PlanTask], *, is_taken: bool) -> dict[str, Standing]:
    """Return where every task stands, by key, from the author's marks.

    A container has no mark of its own: it is done when no leaf below it is open.
    """
    states = {task.key: STANDING_BY_MARK[task.mark] for task in tasks}
    if is_taken:
        states |= {task.key: STANDING_BY_MARK[Mark.OPEN] for task in tasks if task.mark is Mark.IN_PROGRESS}
    leaves = [task for task in tasks if task.kind is TaskKind.LEAF]
    has_open = _ancestors({task.key: task.parent for task in tasks}, _open(leaves, states))
    for task in tasks:
        if task.kind is TaskKind.CONTAINER:
            states[task.key] = Standing(TaskState.WAITING if task.key in has_open else TaskState.DONE)
    return states


def known_dependencies(plan: Plan, ids: Mapping[str, int]) -> list[PlanDependency]:
    """Return the edges between tasks of the plan, each once; one that leads outside is only a finding."""
    edges: dict[tuple[str, str, DependencyKind], PlanDependency] = {}
    for edge in plan.dependencies:
        if edge.task in ids and edge.on in ids:
            edges.setdefault((edge.task, edge.on, edge.kind), edge)
    return list(edges.values())


def _needs_nobody(task: PlanTask) -> bool:
    """Tell whether a task may start without a person, once its dependencies are met."""
    return task.kind is TaskKind.LEAF and not task.manual and not task.approve


def _agent_type(new: NewPlan, task: PlanTask) -> str:
    decision = new.decisions.get(task.key)
    return decision.agent_type if decision else ""


def _open(leaves: Iterable[PlanTask], states: Mapping[str, Standing]) -> Iterable[PlanTask]:
    return (task for task in leaves if states[task.key].state not in CLOSED)


def _ancestors(parents: Mapping[str, str], tasks: Iterable[PlanTask]) -> set[str]:
    found: set[str] = set()
    for task in tasks:
        key = task.parent
        while key and key not in found:
            found.add(key)
            key = parents.get(key, "")
    return found


def _unmet(edges: Iterable[PlanDependency], states: Mapping[str, Standing]) -> Counter[str]:
    return Counter(
        edge.task
        for edge in edges
        if edge.kind is DependencyKind.BLOCKS and states[edge.on].state not in SATISFIED
    )
