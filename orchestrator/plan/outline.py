"""From Markdown blocks to a draft: headings, boxes and their field lines become a tree of nodes.

Rule: indentation by two columns or more makes a child; a heading owns what stands below it until the next
heading of its level. A heading with an id whose boxes have none is one task and the boxes are its steps.
Boxes below a legend or criteria heading or label are no tasks; under a task they are its acceptance.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.errors import Finding, PlanError
from orchestrator.plan.draft import Draft, Node
from orchestrator.plan.fields import (
    CRITERIA_FIELDS,
    LIST_FIELDS,
    apply_field,
    apply_status,
    is_label,
    split_field,
)
from orchestrator.plan.findings import Code
from orchestrator.plan.ignored import Ignored
from orchestrator.plan.keys import FoundKey, alias_of, find_key, split_hidden_key
from orchestrator.plan.markdown import Block, Document, Fence, Heading, Item, Rule, Table, Text
from orchestrator.plan.nodes import node_of, node_of_row
from orchestrator.plan.settle import settle
from orchestrator.plan.slips import slip_in_task
from orchestrator.plan.states import BOX_MARKS, LEGEND_MARKS, leading_verdict, split_verdict
from orchestrator.plan.tables import row_key, task_columns

TASKS_MAX = 100_000
CHILD_INDENT = 2

_CRITERIA = re.compile(
    r"\W*(?:(?:\w+ ){0,3}(?:legend|(?:acceptance|success|completion|exit) criteria.*)|acceptance"
    r"|definition of done.*|validation checklist.*|progress summary.*|deliverables|.*complete when)\W*",
    re.IGNORECASE,
)
_ALMOST_BOX = re.compile(r"\[[ xX~!]?\](?![\s(\[:])\S")
_NUMBERED = re.compile(r"\s*\d{1,9}[.)]\s+\*\*[^*]+\*\*")


@dataclass(slots=True, kw_only=True)
class _Collecting:
    """A list field whose values stand below it."""

    node: Node
    name: str
    line: int
    indent: int
    by_item: bool
    count: int = 0

    def holds(self, indent: int) -> bool:
        return indent > self.indent if self.by_item else indent >= self.indent


def read_outline(document: Document, *, source: str, reads_keys: bool, h1_is_title: bool) -> Draft:
    """Build the draft of a scanned Markdown text.

    Args:
        source: name of the file, when it is one of several.
        reads_keys: ids at the start of boxes and headings are keys; else they are words of the title.
        h1_is_title: the first heading of level 1 names the plan; else it is a container like any other.

    Raises:
        PlanError: more than `TASKS_MAX` headings and boxes.
    """

    def outline(*, takes_numbered: bool) -> _Outline:
        found = _Outline(
            source=source, reads_keys=reads_keys, h1_is_title=h1_is_title, takes_numbered=takes_numbered
        )
        for block in document.blocks:
            found.feed(block)
        return found

    first = outline(takes_numbered=False)
    if first.has_tasks or not first.ignored.numbered:
        return first.draft(document)
    return outline(takes_numbered=True).draft(document)


class _Outline:
    def __init__(self, *, source: str, reads_keys: bool, h1_is_title: bool, takes_numbered: bool) -> None:
        self._source = source
        self._takes_numbered = takes_numbered
        self._reads_keys = reads_keys
        self._h1_is_title = h1_is_title
        self._root = Node(title="the plan", line=0, place="the top", source=source, is_heading=True)
        self._headings: list[tuple[int, Node]] = [(0, self._root)]
        self._items: list[tuple[int, Node]] = []
        self._collecting: _Collecting | None = None
        self._title = ""
        self._node_count = 0
        self._key_forms: set[str] = set()
        self.ignored = Ignored()
        self.findings: list[Finding] = []

    @property
    def has_tasks(self) -> bool:
        """Whether there is a box, a row, or a heading that is a task without any."""
        return any(
            not node.is_heading or node.names_task or (node.own_key and node.has_task_fields)
            for node in self._root.descendants()
        )

    def feed(self, block: Block) -> None:
        match block:
            case Item():
                self._item(block)
            case Text():
                self._text(block)
            case Heading():
                self._heading(block)
            case Fence():
                self._fence(block)
            case Table():
                self._table(block)
            case Rule():
                self._items.clear()
                self._stop_collecting()

    def draft(self, document: Document) -> Draft:
        self._stop_collecting()
        for name in ("agent", "priority", "review"):
            if isinstance(value := document.meta.get(name), str) and value:
                apply_field(self._root, name, value, line=1)
        unused, found = settle(self._root)
        self.findings.extend(found)
        self.findings.extend(self.ignored.findings(takes_numbered=self._takes_numbered))
        return Draft(
            title=self._title,
            root=self._root,
            checkboxes=document.checkboxes,
            key_forms=frozenset(self._key_forms),
            unused_keys=unused,
            findings=(*document.findings, *self.findings),
            meta=document.meta,
        )

    # -- headings ---------------------------------------------------------------------------------------

    def _heading(self, block: Heading) -> None:
        self._items.clear()
        self._stop_collecting()
        while self._headings[-1][0] >= block.level:
            self._headings.pop()
        found = self._found_key(block.text)
        if block.level == 1 and not self._title:
            self._title = block.text
            if self._h1_is_title:
                return
        parent = self._headings[-1][1]
        node = self._node(block, found, parent)
        node.is_heading = True
        node.names_task = found is not None and found.has_word
        node.alias = alias_of(block.text)
        node.is_criteria = parent.is_criteria or _CRITERIA.fullmatch(block.text[:120]) is not None
        self._headings.append((block.level, node))

    def _node(self, block: Heading | Item, found: FoundKey | None, parent: Node) -> Node:
        """Make the node of a box or heading and hang it below its parent."""
        node, findings = node_of(block, found, parent)
        self.findings.extend(findings)
        self._hang(node, parent)
        return node

    def _hang(self, node: Node, parent: Node) -> None:
        self._node_count += 1
        if self._node_count > TASKS_MAX:
            message = f"The plan has more than {TASKS_MAX:,} headings and boxes (line {node.line})."
            raise PlanError(message, remedy="Split it into several plans.")
        parent.children.append(node)

    def _found_key(self, text: str) -> FoundKey | None:
        found = None if split_hidden_key(text)[1] else find_key(text)
        if found is None:
            return None
        self._key_forms.add(found.key)
        return found if self._reads_keys and not found.is_standard else None

    # -- items ------------------------------------------------------------------------------------------

    def _item(self, block: Item) -> None:
        found = self._found_key(block.text) if block.state is not None else None
        collecting = self._collecting
        if collecting and collecting.holds(block.indent) and self._collects(collecting, block):
            self._collect(collecting, block.text, block.line)
            return
        self._stop_collecting()
        if block.state is not None:
            self._box(block, found)
        elif not self._boxless(block):
            self._line(block, self._owner(block.indent))

    def _boxless(self, block: Item) -> bool:
        """Take an item that is a task without a box: one with an id and a state, `- ✅ A.1.2 Build it`; or a
        numbered line in bold, in a plan that has no other tasks."""
        if self._headings[-1][1].is_criteria:
            return False
        if _ALMOST_BOX.match(block.text):
            self.ignored.almost_boxes.append(block.line)
        is_said = bool(leading_verdict(block.text) or split_verdict(block.text)[1])
        found = self._found_key(block.text) if is_said else None
        if found is None:
            if not _NUMBERED.match(block.raw):
                return False
            self.ignored.numbered.append(block.line)
            if not self._takes_numbered:
                return False
        self._items.append((block.indent, self._node(block, found, self._owner(block.indent))))
        return True

    def _line(self, block: Item, owner: Node) -> None:
        if field := split_field(block.text):
            self._field(owner, field, block=block, by_item=True)
        else:
            self._words(owner, block, block.raw.strip())

    def _collects(self, collecting: _Collecting, block: Item) -> bool:
        """Boxes are values of criteria only; the deliverables of a section without an id are its tasks."""
        if block.state is None:
            return collecting.by_item or split_field(block.text) is None
        is_task = bool(collecting.node.own_key) or not collecting.node.is_heading
        return collecting.name in CRITERIA_FIELDS or (collecting.name == "deliverables" and is_task)

    def _box(self, block: Item, found: FoundKey | None) -> None:
        parent = self._owner(block.indent)
        if block.state not in BOX_MARKS:
            if block.state not in LEGEND_MARKS:
                self.ignored.unknown_mark(block.state or "", block.line)
        elif self._headings[-1][1].is_criteria:
            self._criterion(block)
        elif not block.text:
            message = "The box has no words beside it and is no task."
            self._warn(block.line, Code.EMPTY_TITLE, message, remedy="Give it a title.")
        else:
            self._items.append((block.indent, self._node(block, found, parent)))

    def _criterion(self, block: Item) -> None:
        """A box below a criteria heading: acceptance of the task around it, if there is one."""
        task = next(
            (node for _, node in reversed(self._headings) if node.own_key and not node.is_criteria), None
        )
        if task is not None:
            task.acceptance.append(block.text)
        else:
            self.ignored.criterion(self._headings[-1][1].title, block.line)

    def _owner(self, indent: int) -> Node:
        """The node that a line of this indent belongs to; items further right are over."""
        while self._items and indent < self._items[-1][0] + CHILD_INDENT:
            self._items.pop()
        return self._items[-1][1] if self._items else self._headings[-1][1]

    # -- other lines ------------------------------------------------------------------------------------

    def _text(self, block: Text) -> None:
        field = split_field(block.text)
        collecting = self._collecting
        if collecting and not field and not is_label(block.text) and block.indent > collecting.indent:
            self._collect(collecting, block.text, block.line, continues=not block.after_blank)
            return
        self._stop_collecting()
        is_lazy = not block.after_blank and self._items and not self._headings[-1][1].own_key
        owner = self._items[-1][1] if is_lazy else self._owner(block.indent)
        if field:
            owner = self._headings[-1][1] if field[0] == "checkpoint" else owner
            self._field(owner, field, block=block, by_item=False)
        else:
            self._words(owner, block, block.text)

    def _words(self, owner: Node, block: Item | Text, words: str) -> None:
        owner.body.append((block.line, words))
        if owner is not self._root and (finding := slip_in_task(block.text, block.line)):
            self.findings.append(finding)

    def _fence(self, block: Fence) -> None:
        collecting = self._collecting
        if collecting and collecting.name in ("run", "verify"):
            commands = _shell_lines(block.lines)
            collecting.count += len(commands)
            (collecting.node.run if collecting.name == "run" else collecting.node.verify).extend(commands)
            self._stop_collecting()
            return
        # a fence named `body` holds the words of a body that would be read as something else
        lines = block.lines if block.info == "body" else (f"```{block.info}", *block.lines, "```")
        self._owner(block.indent).body.append((block.line, "\n".join(lines)))

    def _table(self, table: Table) -> None:
        """A table with ids and states lists tasks; any other is text."""
        self._stop_collecting()
        owner = self._owner(table.indent)
        columns = task_columns(table.header) if self._reads_keys and not owner.is_criteria else None
        count = self._node_count
        for row in table.rows if columns else ():
            if columns and (found := row_key(row, columns)):
                self._key_forms.add(found.key)
                node, findings = node_of_row(row, found, columns, owner)
                self.findings.extend(findings)
                self._hang(node, owner)
        if self._node_count == count:
            owner.body.append((table.line, table.raw))

    def _field(self, node: Node, field: tuple[str, str], *, block: Item | Text, by_item: bool) -> None:
        name, value = field
        if not value and name in LIST_FIELDS:
            self._collecting = _Collecting(
                node=node, name=name, line=block.line, indent=block.indent, by_item=by_item
            )
            return
        if name == "status":
            start = block.text_start + len(block.text) - len(value)
            finding = apply_status(node, value, line=block.line, start=start)
        else:
            finding = apply_field(node, name, value, line=block.line)
        if finding and node is not self._root:
            self.findings.append(finding)

    def _collect(self, collecting: _Collecting, value: str, line: int, *, continues: bool = False) -> None:
        acceptance = collecting.node.acceptance
        is_criterion = collecting.name in ("acceptance", "deliverables")
        if continues and is_criterion and collecting.count and acceptance:
            acceptance[-1] = f"{acceptance[-1]} {value}"
            return
        collecting.count += 1
        if finding := apply_field(collecting.node, collecting.name, value, line=line):
            self.findings.append(finding)

    def _stop_collecting(self) -> None:
        collecting, self._collecting = self._collecting, None
        if collecting and not collecting.count and collecting.name in ("run", "verify"):
            message = f"`{collecting.name}:` has no command."
            remedy = "Write one after the colon or in a fence below."
            self._warn(collecting.line, Code.UNKNOWN_VALUE, message, remedy=remedy)

    def _warn(self, line: int, code: Code, message: str, *, remedy: str) -> None:
        self.findings.append(code.at(line, message, remedy=remedy))


def _shell_lines(lines: Iterable[str]) -> list[str]:
    """The commands of a fence: continued lines joined, blank lines and comments left out."""
    joined = re.sub(r"\\\n[ \t]*", "", "\n".join(lines))
    return [line.strip() for line in joined.split("\n") if line.strip() and not line.lstrip().startswith("#")]
