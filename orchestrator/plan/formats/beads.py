"""Beads' JSON lines, `.beads/issues.jsonl`: one issue a line.

    {"id":"shop-a3","title":"Pay by card","status":"open","priority":0,"issue_type":"task",
     "dependencies":[{"issue_id":"shop-a3","depends_on_id":"shop-7c","type":"blocks"}]}

(each on one line). A dependency of type `parent-child` tells what contains an issue; the dots of its id do
not. Newer repositories keep the dependencies in a file of their own: then the folder of both is the plan.
Deleted issues, and records that are no work, are left out; what waited for them waits no longer.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice

from orchestrator.errors import Finding
from orchestrator.plan.amounts import DURATION_MS_MAX, MINUTE_MS
from orchestrator.plan.draft import Draft, Node
from orchestrator.plan.findings import Code, are
from orchestrator.plan.formats.base import Detection, PlanFile
from orchestrator.plan.formats.records import (
    TASK_TYPES,
    body_of,
    count_states,
    criteria_of,
    depend,
    hang,
    new_node,
    plain_status,
    refuse_too_many,
    split_criteria,
    take_notes,
    take_priority,
    take_status,
    text_of,
    texts_of,
    unknown_parent,
)
from orchestrator.plan.json_text import JsonObject, LineNumbers, read_json
from orchestrator.plan.model import DependencyKind, Mark, MarkSpan, Notation

_BLOCKING = frozenset({"blocks", "conditional-blocks", "waits-for"})
_INFORMING = frozenset({"discovered-from", "caused-by", "validates"})
_PARENT = "parent-child"

_STATUSES: Mapping[str, Mark] = {
    "open": Mark.OPEN,
    "in progress": Mark.IN_PROGRESS,
    "hooked": Mark.IN_PROGRESS,
    "blocked": Mark.BLOCKED,
    "deferred": Mark.DEFERRED,
    "pinned": Mark.DEFERRED,
    "closed": Mark.DONE,
    "tombstone": Mark.CANCELLED,
}
#: Types of records that nobody works on, unless they contain issues.
_NO_WORK = frozenset(
    {"event", "message", "agent", "role", "rig", "slot", "convoy", "molecule", "merge-request"}
)
_NEEDED = ("id", "title", "status")
_LINE = re.compile(r"[^\r\n]+")
_LINES_TRIED = 50
_FAULTS_SHOWN_MAX = 50


@dataclass(frozen=True, slots=True)
class _Line:
    """One object of a file, the number of its line, and the offset of that line."""

    values: JsonObject
    number: int
    offset: int


@dataclass(frozen=True, slots=True)
class _Link:
    """What one record says of another: `task` depends on `on`, both ids."""

    task: str
    on: str
    type: str


class Beads:
    """JSON lines that are issues, in a file or in a folder of two."""

    name = "beads"

    def detect(self, file: PlanFile) -> Detection:
        """Sure of lines with id, title and status; takes other JSON lines to refuse them."""
        if not file.is_json:
            return Detection(confidence=0.0, reason="its first line is no JSON object")
        tried = list(islice(_lines(file), _LINES_TRIED))
        lines = [line.values for line in tried if isinstance(line, _Line)]
        if issues := sum(map(_is_issue, lines)):
            reason = f"{are(issues, 'Beads issue')} on its first lines"
            return Detection(confidence=0.95, reason=reason)
        if len(lines) > 1:
            return Detection(confidence=0.7, reason="JSON lines that are no issues of Beads")
        return Detection(confidence=0.0, reason="its lines are no JSON objects")

    def read(self, file: PlanFile, *, h1_is_title: bool = True) -> Draft:
        """Read the issues of one file."""
        return self.read_folder([file])

    def files(self, names: Sequence[str]) -> list[str]:
        """The issues of a `.beads` folder and their dependencies, if these have a file of their own."""
        issues = [name for name in ("issues.jsonl", "beads.jsonl") if name in names][:1]
        return [*issues, *({"dependencies.jsonl"} & set(names))] if issues else []

    def read_folder(self, files: Sequence[PlanFile]) -> Draft:
        """Read issues and dependencies, wherever each stands."""
        reader = _Reader(source=files[0].name)
        for file in files:
            reader.read(file)
        return reader.draft()


def kind_of(link_type: str) -> DependencyKind:
    """What a type of dependency means for the order of work; only some types mean any."""
    if link_type in _BLOCKING:
        return DependencyKind.BLOCKS
    return DependencyKind.INFORMS if link_type in _INFORMING else DependencyKind.RELATES


def _lines(file: PlanFile) -> Iterator[_Line | Finding]:
    """The objects of a file, and a finding for each line that is none."""
    numbers = LineNumbers(file.text)
    for match in _LINE.finditer(file.text):
        number = numbers.of(match.start())
        if not match[0].strip("\ufeff \t"):
            continue
        try:
            values = read_json(match[0])
        except json.JSONDecodeError as error:
            message = f"The line ends or breaks at column {error.colno}: {error.msg}."
            yield Code.INVALID_JSON.at(number, message, remedy="Correct it.", source=file.name)
            continue
        if isinstance(values, JsonObject):
            yield _Line(values, number, match.start())
        else:
            message = "The line is no JSON object."
            yield Code.INVALID_JSON.at(number, message, remedy="Remove it.", source=file.name)


def _is_issue(values: JsonObject) -> bool:
    return all(name in values for name in _NEEDED) or ("title" in values and "issue_type" in values)


class _Reader:
    """Collects the issues of one or several files, then sets them in relation."""

    def __init__(self, *, source: str) -> None:
        self._root = Node(title="the plan", line=0, place="the top", source=source)
        self._nodes: list[Node] = []
        self._types: dict[Node, str] = {}
        self._links: list[_Link] = []
        self._left_out: Counter[str] = Counter()
        self._first = ""
        self._findings: list[Finding] = []

    def read(self, file: PlanFile) -> None:
        """Take every line of a file for what it is: an issue, a dependency, or neither."""
        faults = 0
        for line in _lines(file):
            if isinstance(line, Finding):
                faults += 1
                self._findings += [line] if faults <= _FAULTS_SHOWN_MAX else []
            elif _is_issue(line.values):
                self._issue(line, file)
            elif "depends_on_id" in line.values:
                self._link(line.values, "")
            else:
                self._first = self._first or ", ".join(line.values)[:200]
                self._left_out[text_of(line.values.get("_type")) or "line without title"] += 1

    def draft(self) -> Draft:
        if not self._nodes and self._first:
            message = (
                f"No line is an issue of Beads, which has {', '.join(_NEEDED)}: the first has {self._first}."
            )
            refusal = Code.UNKNOWN_FORMAT.at(0, message, remedy="Name the file with the issues.")
            return Draft(title="", root=self._root, findings=(*self._findings, refusal))
        self._findings.extend(self._relate())
        return Draft(
            title="",
            root=self._root,
            checkboxes=count_states(self._nodes),
            key_forms=frozenset(node.own_key for node in self._nodes if node.own_key),
            findings=tuple(self._findings),
        )

    def _issue(self, line: _Line, file: PlanFile) -> None:
        values = line.values
        description, criteria = split_criteria(text_of(values.get("description")))
        node = new_node(
            key=text_of(values.get("id")),
            title=text_of(values.get("title")),
            body=body_of(
                ("", description),
                ("Design", text_of(values.get("design"))),
                ("Notes", text_of(values.get("notes"))),
            ),
            line=line.number,
            source=file.name,
        )
        self._nodes.append(node)
        refuse_too_many(len(self._nodes))
        self._findings.extend(take_status(node, text_of(values.get("status")), _STATUSES))
        self._findings.extend(take_priority(node, text_of(values.get("priority"))))
        if isinstance(values.get("status"), str):
            start, end = values.spans["status"]
            node.span = MarkSpan(line.offset + start, line.offset + end, Notation.BEADS)
        minutes = values.get("estimated_minutes")
        if isinstance(minutes, int) and minutes > 0:
            node.estimate_ms = min(minutes * MINUTE_MS, DURATION_MS_MAX)
        node.acceptance = criteria + criteria_of(text_of(values.get("acceptance_criteria")))
        self._types[node] = text_of(values.get("issue_type")).lower()
        node.task_type = TASK_TYPES.get(self._types[node], "")
        take_notes(node, labels=texts_of(values.get("labels")), assignee=texts_of(values.get("assignee")))
        dependencies = values.get("dependencies")
        for link in dependencies if isinstance(dependencies, list) else ():
            if isinstance(link, JsonObject):
                self._link(link, node.own_key)

    def _link(self, values: JsonObject, task: str) -> None:
        task = text_of(values.get("issue_id")) or task
        self._links.append(_Link(task, text_of(values.get("depends_on_id")), text_of(values.get("type"))))

    def _relate(self) -> Iterator[Finding]:
        """Hang the issues that are work below each other and make their dependencies."""
        containers = {link.on for link in self._links if link.type == _PARENT}
        kept = [node for node in self._nodes if self._is_work(node, containers)]
        gone = {node.own_key for node in self._nodes} - {node.own_key for node in kept}
        yield from self._report_left_out()
        known: dict[str, Node] = {}
        for node in kept:
            known.setdefault(node.own_key, node)
        links = [link for link in self._links if link.task in known and link.on not in gone]
        parents: dict[Node, Node] = {}
        for link in links:
            node = known[link.task]
            if link.type == _PARENT and link.on in known:
                parents.setdefault(node, known[link.on])
            elif link.type == _PARENT:
                yield unknown_parent(node, link.on)
        yield from hang(self._root, kept, parents)
        for link in links:
            if link.type != _PARENT:
                yield from _depend(link, known)

    def _is_work(self, node: Node, containers: Set[str]) -> bool:
        """Whether an issue is a task; counts it under what it is instead, if not."""
        if plain_status(node.status_text) == "tombstone":
            self._left_out["tombstone"] += 1
            return False
        if node.own_key in containers:
            return True
        if self._types[node] == "gate":
            node.manual = node.title
        if self._types[node] in _NO_WORK:
            self._left_out[self._types[node]] += 1
            return False
        return True

    def _report_left_out(self) -> Iterator[Finding]:
        if self._left_out:
            kinds = ", ".join(f"{count} {kind[:60]}" for kind, count in self._left_out.most_common(10))
            message = f"{are(self._left_out.total(), 'line')} deleted or no work, and left out: {kinds}."
            yield Code.LEFT_OUT.at(0, message, remedy="Give what is work the type task, and no tombstone.")


def _depend(link: _Link, known: Mapping[str, Node]) -> Iterator[Finding]:
    """Make the dependency that a link says; what contains a task is related to it anyhow."""
    node = known[link.task]
    kind = kind_of(link.type)
    if kind is not DependencyKind.BLOCKS:
        on = known.get(link.on)
        if on and node not in _above(on) and on not in _above(node):
            yield from depend(node, [link.on], known, kind=kind)
        return
    if link.type == "conditional-blocks":
        message = f"{link.task[:60]} is to run only if {link.on[:60]} fails: it will run after it is done."
        remedy = "Cancel it if it is not needed then."
        yield Code.LOST_CONDITION.at(node.line, message, remedy=remedy, source=node.source)
    yield from depend(node, [link.on], known)


def _above(node: Node) -> Iterator[Node]:
    """The node and what contains it."""
    above: Node | None = node
    while above is not None:
        yield above
        above = above.parent
