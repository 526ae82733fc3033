"""The dependencies of a plan while they are collected: each once, what is written before what is inferred."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from orchestrator.errors import Finding, PlanError
from orchestrator.plan.dependencies.lookup import Lookup
from orchestrator.plan.draft import Node
from orchestrator.plan.findings import Code
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
        self._stated: dict[Node, set[Node]] = {}
        self.findings: list[Finding] = []
        self._inferred: dict[tuple[str, str], PlanDependency] = {}

    @property
    def dependencies(self) -> tuple[PlanDependency, ...]:
        """The dependencies so far, each once, the explicit ones first."""
        return (*self._explicit.values(), *self._inferred.values())

    def stated_for(self, task: Node) -> Set[Node]:
        """What a leaf depends on because its author states it."""
        return self._stated.get(task, frozenset())

    def infer(self, first: Sequence[Node], then: Sequence[Node], said: Said, *, source: str) -> None:
        """Let every one of `then` wait for all of `first`, but for itself and what contains it.

        When the plan implies more than is taken, the rest is left out, which is a finding.

        Raises:
            PlanError: the plan has too many dependencies that are stated, as `connect`.
        """
        for task in then:
            for on in first:
                if self._steps > DEPENDENCIES_MAX:
                    self._report_full(said.line, source)
                    return
                self.count(said.line)
                if task is not on and not self._lookup.holds(task, on) and not self._lookup.holds(on, task):
                    self.connect(task, on, said)

    def connect(self, task: Node, on: Node, said: Said) -> None:
        """Make one dependency; that of a container holds for every leaf below it.

        Of several inferred ones between two tasks the surest is kept, and none beside an explicit one.

        Raises:
            PlanError: the plan has more than `DEPENDENCIES_MAX` dependencies.
        """
        for leaf in self._lookup.leaves(task) if said.kind is DependencyKind.BLOCKS else (task,):
            self._make(leaf, on, said)

    def count(self, line: int) -> None:
        """Count a step of work, whether or not it makes a dependency, so that the time has a bound."""
        self._steps += 1
        if self._steps > 2 * DEPENDENCIES_MAX:
            message = f"The plan has more than {DEPENDENCIES_MAX:,} dependencies (line {line})."
            raise PlanError(message, remedy="Depend on a section instead of on each of its tasks.")

    def _report_full(self, line: int, source: str) -> None:
        if not self.findings:  # what is stated has as much room again
            message = "The words of the plan imply more dependencies than are inferred; the rest is left out."
            remedy = "State them in `Dependencies:` lines, of sections where you can."
            self.findings.append(Code.TOO_MUCH_INFERRED.at(line, message, remedy=remedy, source=source))

    def _make(self, node: Node, on_node: Node, said: Said) -> None:
        self.count(said.line)
        task, on = self._lookup.keys[node], self._lookup.keys[on_node]
        if not said.is_explicit:
            known = self._inferred.get((task, on))
            is_surer = known is not None and known.confidence >= said.confidence
            if is_surer or on_node in self.stated_for(node):
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
            self._stated.setdefault(node, set()).add(on_node)
        else:
            self._inferred[task, on] = edge
