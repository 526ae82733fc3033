"""From what authors state in fields and notes (`Dependencies: 1.2, Phase 0`) to dependencies.

Rule: nothing is guessed; an id that no task has is an error, a thing outside the plan a warning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.errors import Finding
from orchestrator.plan.dependencies.edges import Edges, Said
from orchestrator.plan.dependencies.lookup import Lookup
from orchestrator.plan.dependencies.references import Reference, ReferenceKind, references
from orchestrator.plan.draft import Node, Statement
from orchestrator.plan.findings import Code

_NAME_SIGN = re.compile(r"[-_/.\d]")
_REMEDIES = {
    Code.UNKNOWN_DEPENDENCY: "Correct the id or add the task.",
    Code.OUTSIDE_DEPENDENCY: "If a task of this plan is meant, write its id.",
}


class Statements:
    """Makes the dependencies that statements state, and finds what is wrong with them."""

    def __init__(self, lookup: Lookup, edges: Edges) -> None:
        self._lookup = lookup
        self._edges = edges
        self.findings: list[Finding] = []

    def take(self, node: Node, statement: Statement) -> None:
        """Make the dependencies that one statement of one node states.

        Raises:
            PlanError: the plan has too many dependencies.
        """
        named = [Reference(kind=ReferenceKind.KEY, text=key, first=key) for key in statement.keys]
        unknown = []
        named = named or references(self._without_titles(node, statement))
        for reference in named:
            targets = self._lookup.targets(node, reference)
            for target in targets or ():
                self._connect(node, target, statement, evidence=reference.text)
            if targets is None:
                unknown.append(reference)
        if statement.is_strict:
            self._report_unknown(node, statement, unknown, is_all=len(unknown) == len(named))

    def _without_titles(self, node: Node, statement: Statement) -> str:
        """Make the dependencies on tasks that are called by their whole title; return the other words.

        An id such as `na` reads like a word for none, so it is taken here too.
        """
        others = []
        for part in statement.text.split(","):
            named = references(part)
            is_name = any(reference.kind is ReferenceKind.OUTSIDE for reference in named)
            target = self._lookup.titled(part) if statement.is_strict and is_name else None
            if not named and statement.is_strict:
                target = self._lookup.given(part.strip(), node)
            if target is None:
                others.append(part)
            else:
                self._connect(node, target, statement, evidence=part.strip())
        return ",".join(others)

    def _connect(self, node: Node, target: Node, statement: Statement, *, evidence: str) -> None:
        task, on = (target, node) if statement.is_reverse else (node, target)
        self._edges.count(statement.line)
        if fault := self._fault(task, on):
            self._report(task, statement, *fault)
        else:
            self._edges.connect(task, on, Said(kind=statement.kind, evidence=evidence, line=statement.line))

    def _fault(self, task: Node, on: Node) -> tuple[Code, str] | None:
        key, on_key = self._lookup.keys[task], self._lookup.keys[on]
        if task is on:
            return Code.SELF_DEPENDENCY, f"{key} depends on itself."
        if self._lookup.holds(on, task):
            return Code.CYCLE, f"{key} depends on {on_key} ({on.place}), which contains it."
        if self._lookup.holds(task, on):
            return Code.CYCLE, f"{key} depends on {on_key} ({on.place}), which stands inside it."
        return None

    def _report_unknown(
        self, node: Node, statement: Statement, unknown: Sequence[Reference], *, is_all: bool
    ) -> None:
        key, outside = self._lookup.keys[node], []
        for reference in unknown:
            is_id = reference.kind in (ReferenceKind.KEY, ReferenceKind.RANGE)
            if reference.first in self._lookup.unused_keys:
                line = self._lookup.unused_keys[reference.first]
                self._outside(node, statement, f"{reference.text} (line {line}), which has no tasks")
            elif statement.keys or (is_id and self._lookup.has_form(reference.first)):
                message = f"{key} depends on {reference.text}, and no task has that id."
                self._report(node, statement, Code.UNKNOWN_DEPENDENCY, message)
            elif is_all or reference.kind is not ReferenceKind.OUTSIDE or _NAME_SIGN.search(reference.text):
                outside.append(reference.text)
        if outside:
            self._outside(node, statement, f"“{' '.join(outside)[:100]}”, which is outside this plan")

    def _outside(self, node: Node, statement: Statement, what: str) -> None:
        message = f"{self._lookup.keys[node]} depends on {what}: nothing waits for it."
        self._report(node, statement, Code.OUTSIDE_DEPENDENCY, message)

    def _report(self, node: Node, statement: Statement, code: Code, message: str) -> None:
        remedy = _REMEDIES.get(code, "Remove that dependency.")
        self.findings.append(code.at(statement.line, message, remedy=remedy, source=node.source))
