"""From what authors say about dependencies to edges between tasks.

Notations: ids, ranges (`4.1-4.5`), sections (`Phase 1 complete`, `All Week 4 tasks`), `All tasks`,
`All backend tasks`, `None`. A group is kept as a dependency on its container. Rule: nothing is guessed; an id
that no task has is an error, a thing outside the plan a warning.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.errors import Finding, PlanError
from orchestrator.plan.draft import Node, Statement
from orchestrator.plan.findings import Code
from orchestrator.plan.keys import KEY, split_number
from orchestrator.plan.model import DependencyKind, PlanDependency

DEPENDENCIES_MAX = 500_000

_REMEDIES = {
    Code.UNKNOWN_DEPENDENCY: "Correct the id or add the task.",
    Code.OUTSIDE_DEPENDENCY: "If a task of this plan is meant, write its id.",
}


class ReferenceKind(StrEnum):
    """What a part of a statement names."""

    KEY = "key"
    RANGE = "range"
    SECTION = "section"  #: `Phase 0`, `All Week 4 tasks`
    ALL = "all"  #: `All tasks`
    TOPIC = "topic"  #: `All backend tasks`
    OUTSIDE = "outside"  #: a name that is neither


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One thing that a statement names; `last` is the end of a range."""

    kind: ReferenceKind
    text: str
    first: str
    last: str = ""


_NONE = re.compile(
    r"\W*(?:(?:none|nothing|n/?a|no|no (?:other )?dependencies)(?![\w-]).*)?", re.IGNORECASE | re.DOTALL
)
_ENCLOSED = re.compile(r"\s*\(([^()]*)\)\s*")
_NAME_SIGN = re.compile(r"[-_/.\d]")
_REFERENCE = re.compile(
    rf"""
      (?P<all>(?i:\ball\s+(?:other\s+|previous\s+|prior\s+|preceding\s+|the\s+)?(?:tasks|above)\b))
    | (?i:\ball\s+)?\b(?P<unit>(?i:phase|week|sprint|track|part|stage|milestone|epic|wave))(?i:s)?\s+
        (?P<from>[A-Z]{{1,2}}(?![\w.])|\d+(?:\.\d+)*)(?:\s*(?:[-–—]|to)\s*(?P<to>\d+(?:\.\d+)*))?(?i:\s+tasks?\b)?
    | (?i:\ball\s+(?P<topic>[a-z][\w-]*)\s+tasks?\b)
    | (?<![\w.-])(?P<first>{KEY})(?:\s*(?:-|–|—|\.\.\.?|\bto\b|\bthrough\b)\s*(?P<last>{KEY}))?(?![\w-])
    | (?<![\w.-])(?P<name>[A-Za-z0-9][\w./-]*)
    """,
    re.VERBOSE,
)
_NOISE = frozenset(
    {"task", "tasks", "track", "subtask", "subtasks", "and", "or", "the", "all", "above", "only", "none"}
    | {"complete", "completed", "done", "finished", "merged", "ready", "is", "are", "be", "must"}
    | {"after", "with", "on", "of"}
)
_BRACKETS = re.compile(r"\([^()]*\)")


def references(text: str) -> list[Reference]:
    """Read what a statement names, in order; empty for `None` and the like. Linear in the text."""
    text = text.replace("`", " ").replace("#", " ").replace("*", " ")
    if enclosed := _ENCLOSED.fullmatch(text):
        text = enclosed[1]
    if _NONE.fullmatch(text):
        return []
    return [
        reference
        for match in _REFERENCE.finditer(_BRACKETS.sub(" ", text))
        if (reference := _reference(match))
    ]


def _reference(match: re.Match[str]) -> Reference | None:
    text = match[0].strip()
    if match["all"]:
        return Reference(kind=ReferenceKind.ALL, text=text, first="")
    if match["unit"]:
        unit = match["unit"].lower()
        last = f"{unit} {match['to']}" if match["to"] else ""
        return Reference(
            kind=ReferenceKind.SECTION, text=text, first=f"{unit} {match['from'].lower()}", last=last
        )
    if match["topic"]:
        return Reference(kind=ReferenceKind.TOPIC, text=text, first=match["topic"].lower())
    if match["first"]:
        kind = ReferenceKind.RANGE if match["last"] else ReferenceKind.KEY
        return Reference(kind=kind, text=text, first=match["first"], last=match["last"] or "")
    name = match["name"].rstrip(".-/")
    if name.lower() in _NOISE:
        return None
    return Reference(kind=ReferenceKind.OUTSIDE, text=name, first=name)


class Resolver:
    """Finds the tasks that statements name.

    Args:
        nodes: every node of the plan, parents before children, in the order of the source.
        keys: the key of each node.
        unused_keys: ids on headings that are no task.
    """

    def __init__(
        self, nodes: Sequence[Node], keys: Mapping[Node, str], unused_keys: Mapping[str, int]
    ) -> None:
        self._nodes = nodes
        self._keys = keys
        self._unused_keys = unused_keys
        self._start = {node: position for position, node in enumerate(nodes)}
        self._end = dict(self._start)
        for node in reversed(nodes):
            self._end[node] = self._end[node.children[-1]] if node.children else self._start[node] + 1
        self._by_key = {key: node for node, key in keys.items()}
        titles = Counter(_plain_title(node.title) for node in nodes)
        self._by_title = {
            title: node for node in nodes if titles[title := _plain_title(node.title)] == 1 and title
        }
        self._by_alias = {node.alias: node for node in reversed(nodes) if node.alias}
        self._numbered: dict[str, list[tuple[int, Node]]] = {}
        for node in nodes:
            if parts := split_number(keys[node]):
                self._numbered.setdefault(parts[0], []).append((parts[1], node))
        self._forms = {_form(node.own_key) for node in nodes if node.own_key}
        for numbered in self._numbered.values():
            numbered.sort(key=_number)
        self._topics: dict[str, tuple[list[Node], list[int]]] = {}
        self._steps = 0
        self._made: dict[tuple[str, str, DependencyKind], PlanDependency] = {}
        self.findings: list[Finding] = []

    @property
    def dependencies(self) -> tuple[PlanDependency, ...]:
        """The dependencies made so far, each once, in the order of the statements."""
        return tuple(self._made.values())

    def take(self, node: Node, statement: Statement) -> None:
        """Make the dependencies that one statement of one node states.

        Raises:
            PlanError: the plan has more than `DEPENDENCIES_MAX` dependencies.
        """
        named = [Reference(kind=ReferenceKind.KEY, text=key, first=key) for key in statement.keys]
        unknown = []
        named = named or references(self._without_titles(node, statement))
        for reference in named:
            targets = self._targets(node, reference)
            for target in targets or ():
                task, on = (target, node) if statement.is_reverse else (node, target)
                self._connect(task, on, statement=statement, evidence=reference.text)
            if targets is None:
                unknown.append(reference)
        if statement.is_strict:
            self._report_unknown(node, statement, unknown, is_all=len(unknown) == len(named))

    def _without_titles(self, node: Node, statement: Statement) -> str:
        """Make the dependencies on tasks that are called by their whole title; return the other words."""
        others = []
        for part in statement.text.split(","):
            is_name = any(reference.kind is ReferenceKind.OUTSIDE for reference in references(part))
            on = self._by_title.get(_plain_title(part)) if statement.is_strict and is_name else None
            if on is None:
                others.append(part)
            else:
                task, target = (on, node) if statement.is_reverse else (node, on)
                self._connect(task, target, statement=statement, evidence=part.strip())
        return ",".join(others)

    def _connect(self, task: Node, on: Node, *, statement: Statement, evidence: str) -> None:
        """Make one dependency; that of a container holds for every leaf below it."""
        self._step(statement)
        if task is on:
            self._report(task, statement, Code.SELF_DEPENDENCY, f"{self._keys[task]} depends on itself.")
        elif self._holds(on, task):
            message = f"{self._keys[task]} depends on {self._keys[on]} ({on.place}), which contains it."
            self._report(task, statement, Code.CYCLE, message)
        elif self._holds(task, on):
            message = f"{self._keys[task]} depends on {self._keys[on]} ({on.place}), which stands inside it."
            self._report(task, statement, Code.CYCLE, message)
        else:
            for leaf in self._leaves(task) if statement.kind is DependencyKind.BLOCKS else (task,):
                self._make(leaf, on, statement=statement, evidence=evidence)

    def _make(self, task: Node, on: Node, *, statement: Statement, evidence: str) -> None:
        edge = PlanDependency(
            task=self._keys[task],
            on=self._keys[on],
            kind=statement.kind,
            evidence=evidence,
            line=statement.line,
        )
        self._made.setdefault((edge.task, edge.on, edge.kind), edge)
        self._step(statement)

    def _step(self, statement: Statement) -> None:
        self._steps += 1
        if self._steps > 2 * DEPENDENCIES_MAX:
            message = f"The plan has more than {DEPENDENCIES_MAX:,} dependencies (line {statement.line})."
            raise PlanError(message, remedy="Depend on a section instead of on each of its tasks.")

    def _holds(self, container: Node, node: Node) -> bool:
        return self._start[container] < self._start[node] < self._end[container]

    def _leaves(self, node: Node) -> Iterator[Node]:
        below = self._nodes[self._start[node] : self._end[node]]
        return (leaf for leaf in below if not leaf.children)

    def _targets(self, node: Node, reference: Reference) -> list[Node] | None:
        """The nodes that a reference names; None if it names none."""
        match reference.kind:
            case ReferenceKind.KEY | ReferenceKind.OUTSIDE:
                known = self._known(reference.first)
                return [known] if known else None
            case ReferenceKind.RANGE:
                return self._range(reference)
            case ReferenceKind.SECTION:
                return self._sections(node, reference)
            case ReferenceKind.ALL:
                return list(self._before(node))
            case ReferenceKind.TOPIC:
                return self._topic(node, reference.first) or None

    def _known(self, key: str) -> Node | None:
        return self._by_key.get(key) or self._by_key.get(key.upper()) or self._by_key.get(key.lower())

    def _range(self, reference: Reference) -> list[Node] | None:
        """The tasks from one id to another, which must be alike but for their last number."""
        if whole := self._known(reference.text):
            return [whole]
        start, end = split_number(reference.first), split_number(reference.last)
        if start is None or end is None or start[0] != end[0] or not self._known(reference.last):
            return None
        numbered = self._numbered[start[0]]
        first, after = (
            bisect_left(numbered, start[1], key=_number),
            bisect_right(numbered, end[1], key=_number),
        )
        return [node for _, node in numbered[first:after]]

    def _sections(self, node: Node, reference: Reference) -> list[Node] | None:
        """The named sections; "all Phase 2 tasks" said inside phase 2 means those that stand before."""
        names = [reference.first]
        start, end = split_number(reference.first), split_number(reference.last)
        if start and end:
            names = [f"{start[0]}{number}" for number in range(start[1], min(end[1], start[1] + 999) + 1)]
        found = [section for name in names if (section := self._by_alias.get(name))]
        if len(found) != len(names):
            return None
        if len(found) == 1 and self._holds(found[0], node) and reference.text.lower().startswith("all"):
            return list(self._before(node, within=found[0]))
        return found

    def _before(self, node: Node, *, within: Node | None = None) -> Iterator[Node]:
        """The nodes that stand before this one and do not hold it, innermost level first."""
        level = node
        while level.parent is not None and level is not within:
            for sibling in level.parent.children:
                if sibling is level:
                    break
                yield sibling
            level = level.parent

    def _topic(self, node: Node, topic: str) -> list[Node]:
        """The sections whose titles name the topic; without one the tasks of that domain above this one."""
        if topic not in self._topics:
            self._topics[topic] = self._named_sections(topic), self._leaves_of_domain(topic)
        sections, leaves = self._topics[topic]
        found: list[Node] = []
        for section in sections:
            found.extend(self._before(node, within=section) if self._holds(section, node) else [section])
        if found:
            return found
        return [self._nodes[position] for position in leaves[: bisect_left(leaves, self._start[node])]]

    def _leaves_of_domain(self, domain: str) -> list[int]:
        return [self._start[node] for node in self._nodes if node.domain == domain and not node.children]

    def _named_sections(self, topic: str) -> list[Node]:
        """The outermost sections whose titles have the word."""
        sections: list[Node] = []
        for node in self._nodes:
            is_inside = bool(sections) and self._holds(sections[-1], node)
            if node.children and not is_inside and topic in node.title.lower().split():
                sections.append(node)
        return sections

    def _report_unknown(
        self, node: Node, statement: Statement, unknown: Sequence[Reference], *, is_all: bool
    ) -> None:
        outside = []
        for reference in unknown:
            is_id = reference.kind in (ReferenceKind.KEY, ReferenceKind.RANGE)
            if reference.first in self._unused_keys:
                line = self._unused_keys[reference.first]
                self._outside(node, statement, f"{reference.text} (line {line}), which has no tasks")
            elif statement.keys or (is_id and _form(reference.first) in self._forms):
                message = f"{self._keys[node]} depends on {reference.text}, and no task has that id."
                self._report(node, statement, Code.UNKNOWN_DEPENDENCY, message)
            elif is_all or reference.kind is not ReferenceKind.OUTSIDE or _NAME_SIGN.search(reference.text):
                outside.append(reference.text)
        if outside:
            self._outside(node, statement, f"“{' '.join(outside)[:100]}”, which is outside this plan")

    def _outside(self, node: Node, statement: Statement, what: str) -> None:
        message = f"{self._keys[node]} depends on {what}: nothing waits for it."
        self._report(node, statement, Code.OUTSIDE_DEPENDENCY, message)

    def _report(self, node: Node, statement: Statement, code: Code, message: str) -> None:
        remedy = _REMEDIES.get(code, "Remove that dependency.")
        self.findings.append(code.at(statement.line, message, remedy=remedy, source=node.source))


def _number(numbered: tuple[int, Node]) -> int:
    return numbered[0]


def _form(key: str) -> str:
    """The shape of an id up to its first dot: `A` for tracks, `9` for numbers, `A-9` for prefixed ids."""
    return re.sub(r"\d+", "9", re.sub(r"[A-Z]+", "A", key.partition(".")[0]))


def _plain_title(text: str) -> str:
    """Return a title as two writers of it agree on: no marks around it, one case, no full stop."""
    return " ".join(text.strip(" \t.*_`\"“”'").casefold().split())
