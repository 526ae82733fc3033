"""The dependencies of a plan while they are collected: each once, what is written before what is inferred."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import PlanError
from orchestrator.plan.dependencies.lookup import Lookup
from orchestrator.plan.draft import Node
from orchestrator.plan.model import DependencyKind, PlanDependency

DEPENDENCIES_MAX = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a text says about two tasks, whichever they are; the attributes are those of PlanDependency."""

    kind: DependencyKind
    evidence: str
    line: int
    start: int = 0
    end: int = 0
    is_explicit: bool = True
    confidence: float = 1.0


class Edges:
    """Collects dependencies between the nodes of a lookup."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._steps = 0
        self._explicit: dict[tuple[str, str, DependencyKind], PlanDependency] = {}
        self._written: set[tuple[str, str]] = set()
        self._inferred: dict[tuple[str, str], PlanDependency] = {}

    @property
    def dependencies(self) -> tuple[PlanDependency, ...]:
        """The dependencies so far, each once, the explicit ones first."""
        return (*self._explicit.values(), *self._inferred.values())

    @property
    def is_full(self) -> bool:
        """Whether no more should be inferred; what is stated has as much room again."""
        return self._steps > DEPENDENCIES_MAX

    def connect(self, task: Node, on: Node, said: Said) -> None:
        """Make one dependency; that of a container holds for every leaf below it.

        Of several inferred ones between two tasks the surest is kept, and none beside an explicit one.

        Raises:
            PlanError: the plan has more than `DEPENDENCIES_MAX` dependencies.
        """
        for leaf in self._lookup.leaves(task) if said.kind is DependencyKind.BLOCKS else (task,):
            self._make(self._lookup.keys[leaf], self._lookup.keys[on], said)

    def count(self, line: int) -> None:
        """Count a step of work, whether or not it makes a dependency, so that the time has a bound."""
        self._steps += 1
        if self._steps > 2 * DEPENDENCIES_MAX:
            message = f"The plan has more than {DEPENDENCIES_MAX:,} dependencies (line {line})."
            raise PlanError(message, remedy="Depend on a section instead of on each of its tasks.")

    def _make(self, task: str, on: str, said: Said) -> None:
        self.count(said.line)
        if not said.is_explicit:
            known = self._inferred.get((task, on))
            if (task, on) in self._written or (known is not None and known.confidence >= said.confidence):
                return
        edge = PlanDependency(
            task=task,
            on=on,
            kind=said.kind,
            is_explicit=said.is_explicit,
            evidence=said.evidence,
            line=said.line,
            start=said.start,
            end=said.end,
            confidence=said.confidence,
        )
        if said.is_explicit:
            self._explicit.setdefault((task, on, said.kind), edge)
            self._written.add((task, on))
        else:
            self._inferred[task, on] = edge
