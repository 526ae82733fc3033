"""Write a plan as Markdown that is read as the same plan again.

Sections are headings and tasks boxes, with their field lines below; ids stand before the titles. What plain
Markdown cannot say is still said: a title that would be read as something else stands in a `title:` field,
a body in a fence named `body`, an id of an unknown form hidden at the end of its line. Inferred dependencies
are not written, for they are inferred again; a mark that Markdown does not know becomes the nearest one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

import yaml

from orchestrator.core.words import TaskKind
from orchestrator.plan.amounts import UNITS
from orchestrator.plan.assemble import PRIORITY_DEFAULT
from orchestrator.plan.draft import Node
from orchestrator.plan.keys import find_key, hidden
from orchestrator.plan.markdown import scan
from orchestrator.plan.model import BY_AUTHOR, DependencyKind, Notation, Plan, PlanTask
from orchestrator.plan.outline import read_outline
from orchestrator.plan.render import WRITTEN

_LEVEL_MAX = 6
_OWN_META = frozenset({"name", "format", "title"})
_LINE_ENDS = re.compile(r"[\r\n]")
_TICKS = re.compile(r"`+")
#: A task below a heading, so that the heading is read as a section.
_PROBE = "\n- [ ] **Z.9.9** z\n"


def to_markdown(plan: Plan) -> str:
    """Return the Markdown of a plan; reading it gives the same tasks and the same stated dependencies."""
    return "".join(f"{line}\n" for line in _Writer(plan).lines())


class _Writer:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._by_key = {task.key: task for task in plan.tasks}
        self._children: dict[str, list[PlanTask]] = {}
        for task in plan.tasks:
            self._children.setdefault(task.parent, []).append(task)
        self._levels = self._heading_levels()
        self._links = _links(plan)

    def lines(self) -> Iterator[str]:
        """The lines of the whole file."""
        title = self._plan.title
        is_heading = _is_plain_heading(title) and _title_of(f"# {title}\n") == title
        others = {name: self._plan.meta[name] for name in self._plan.meta.keys() - _OWN_META}
        meta: dict[str, object] = {
            "name": self._plan.name,
            "format": "coditect",
            "title": "" if is_heading else title,
        }
        meta |= {name: others[name] for name in sorted(others)}
        written = {name: value for name, value in meta.items() if value}
        text = yaml.safe_dump(written, allow_unicode=True, sort_keys=False)
        yield from ("---", *text.splitlines(), "---", "")
        if is_heading:
            yield from (f"# {title}", "")
        indents: dict[str, int] = {}
        for task in self._plan.tasks:
            if level := self._levels.get(task.key, 0):
                yield from ("", f"{'#' * level} {self._head(task, is_heading=True)}", "")
                yield from self._details(task, "", is_titled=True)
                yield ""
            else:
                indents[task.key] = indents.get(task.parent, -2) + 2
                lead = " " * indents[task.key]
                head = self._head(task, is_heading=False)
                is_titled = reads_as(f"- {head}", task)
                yield f"{lead}- {head if is_titled else self._head(task, is_heading=False, title='')}"
                yield from self._details(task, f"{lead}  ", is_titled=is_titled)

    def _heading_levels(self) -> Mapping[str, int]:
        """The levels of the sections that are headings: those with nothing but headings behind them."""
        levels = {"": 1}
        for parent in ("", *(task.key for task in self._plan.tasks)):
            level = levels.get(parent, _LEVEL_MAX) + 1
            for child in reversed(self._children.get(parent, ())):
                is_section = child.kind is TaskKind.CONTAINER and level <= _LEVEL_MAX
                if not is_section or not _is_plain_heading(child.title):
                    break
                levels[child.key] = level
        return levels

    def _head(self, task: PlanTask, *, is_heading: bool, title: str | None = None) -> str:
        """Box, id and title; the id of a section is hidden if it would make its tasks steps."""
        title = task.title if title is None else title
        below = self._children.get(task.key, ())
        is_visible = can_be_shown(task.key) and (
            not is_heading or any(can_be_shown(child.key) for child in below)
        )
        key = f"**{task.key}** " if is_visible else ""
        tail = "" if is_visible else f" {hidden(task.key)}"
        return f"[{WRITTEN[Notation.BOX][task.mark]}] {key}{title}".rstrip() + tail

    def _details(self, task: PlanTask, lead: str, *, is_titled: bool) -> Iterator[str]:
        parent = self._by_key.get(task.parent)
        if not is_titled:
            yield f"{lead}- title: {json.dumps(task.title, ensure_ascii=False)}"
        for name, value in (*fields_of(task, parent), *self._links.get(task.key, ())):
            yield f"{lead}- {name}: {value}"
        if task.body:
            yield from _body(task.body, lead)


def _links(plan: Plan) -> Mapping[str, list[tuple[str, str]]]:
    """The lines that state the dependencies, by the task below which they stand."""
    links: dict[tuple[str, str], list[str]] = {}
    for edge in plan.dependencies:
        if not edge.is_explicit:
            continue
        if edge.kind is DependencyKind.INFORMS:
            links.setdefault((edge.on, "informs"), []).append(edge.task)
        else:
            name = "depends" if edge.kind is DependencyKind.BLOCKS else "relates"
            links.setdefault((edge.task, name), []).append(edge.on)
    found: dict[str, list[tuple[str, str]]] = {}
    for (key, name), keys in links.items():
        found.setdefault(key, []).append((name, ", ".join(keys)))
    return found


def fields_of(task: PlanTask, parent: PlanTask | None) -> Iterator[tuple[str, str]]:
    """The field lines of a task, name and value, that say more than its section does already."""
    if task.agent != (parent.agent if parent else ""):
        yield "agent", _ticked(task.agent)
    if task.priority != (parent.priority if parent else PRIORITY_DEFAULT):
        yield "priority", f"P{task.priority}"
    if task.estimate_ms is not None:
        yield "estimate", _duration(task.estimate_ms)
    kinds = (("type", task.task_type, task.type_evidence), ("domain", task.domain, task.domain_evidence))
    yield from ((name, _ticked(value)) for name, value, evidence in kinds if evidence == BY_AUTHOR)
    review = ("review", parent.options.get("review")) if parent else ()
    yield from ((name, _ticked(value)) for name, value in task.options.items() if (name, value) != review)
    for name, values in (("run", task.run), ("verify", task.verify), ("touches", task.touches)):
        yield from ((name, _ticked(value)) for value in values)
    people = (("manual", task.manual), ("approve", task.approve))
    yield from ((name, value) for name, value in people if value)
    yield from (("acceptance", criterion) for criterion in task.acceptance)


def _ticked(value: str) -> str:
    """A value between more back-ticks than stand together in it; as it is where too many would be needed."""
    ticks = "`" * (1 + max(map(len, _TICKS.findall(value)), default=0))
    if len(ticks) > 3:
        return value
    blank = " " if value.startswith("`") or value.endswith("`") else ""
    return f"{ticks}{blank}{value}{blank}{ticks}"


def _duration(time_ms: int) -> str:
    """A time as a sum: `1h 30min`."""
    parts = []
    for unit, unit_ms in UNITS:
        count, time_ms = divmod(time_ms, unit_ms)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0min"


def _body(body: str, lead: str) -> Iterator[str]:
    lines = body.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if _reads_as_body(lines):
        yield from (f"{lead}{line}" for line in lines)
        return
    ticks = "`" * max(3, 1 + max(map(len, _TICKS.findall(body)), default=0))
    yield f"{lead}{ticks}body"
    yield from (f"{lead}{line}" if line else "" for line in lines)
    yield f"{lead}{ticks}"


def can_be_shown(key: str) -> bool:
    """Whether a key can stand before a title; any other is hidden at the end of the line."""
    found = find_key(f"**{key}** x")
    return found is not None and (found.key, found.rest) == (key, "x") and not found.is_standard


def _read(text: str) -> Sequence[Node]:
    return read_outline(scan(text), source="", reads_keys=True, h1_is_title=False).root.children


def reads_as(line: str, task: PlanTask) -> bool:
    """Whether a line is read as this task and nothing more."""
    nodes = _read(f"{line}\n")
    return len(nodes) == 1 and nodes[0].given_key == task.key and _said(nodes[0]) == _said_by(task.title)


def _title_of(text: str) -> str:
    return read_outline(scan(text), source="", reads_keys=True, h1_is_title=True).title


def _is_plain_heading(title: str) -> bool:
    """Whether a title can be that of a heading, with its tasks below."""
    nodes = _read(f"## [ ] {title}\n{_PROBE}") if title and not _LINE_ENDS.search(title) else ()
    is_alone = len(nodes) == 1 and len(nodes[0].children) == 1 and not nodes[0].given_key
    return is_alone and _said(nodes[0]) == _said_by(title)


def _said(node: Node) -> tuple[object, ...]:
    """What the line of a node says beside its id and its mark."""
    return (
        node.title,
        node.priority,
        node.estimate_ms,
        node.agent,
        node.statements,
        node.body,
        node.other_keys,
    )


def _said_by(title: str) -> tuple[object, ...]:
    return _said(Node(title=title, line=1, place=""))


def _reads_as_body(lines: Sequence[str]) -> bool:
    """Whether the lines are read as a body where they stand below a task as they are."""
    text = "".join(f"  {line}\n" for line in lines)
    nodes = _read(f"- [ ] **Z.9.9** z\n  - priority: P1\n{text}")
    if len(nodes) != 1 or nodes[0].children or nodes[0].acceptance:
        return False
    plain = Node(title="z", line=1, place="", priority=1, body=nodes[0].body)
    return _said(nodes[0]) == _said(plain) and [line for _, line in nodes[0].body] == list(lines)
