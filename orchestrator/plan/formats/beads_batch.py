"""Beads' Markdown batch: a file from which Beads makes many issues at once.

    ## Pay by card
    Cards of two kinds.

    ### Priority
    1

    ### Acceptance Criteria
    - A refused card is told to the buyer

    ### Dependencies
    shop-7c, discovered-from:shop-12

The issues have no ids yet, so what they depend on is never among them. All are open; a box before the title,
which Beads does not know, tells another state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.errors import Finding
from orchestrator.plan.draft import Draft, Node
from orchestrator.plan.formats.base import Detection, PlanFile
from orchestrator.plan.formats.beads import kind_of
from orchestrator.plan.formats.records import (
    TASK_TYPES,
    body_of,
    criteria_of,
    depend,
    new_node,
    refuse_too_many,
    take_notes,
    take_priority,
)
from orchestrator.plan.markdown import Heading
from orchestrator.plan.model import Mark, MarkSpan, Notation
from orchestrator.plan.states import BOX_MARKS

#: The sections of an issue, by what may stand as their headings.
_SECTIONS = {
    "priority": "priority",
    "type": "type",
    "description": "description",
    "design": "design",
    "acceptance criteria": "acceptance",
    "acceptance": "acceptance",
    "assignee": "assignee",
    "labels": "labels",
    "dependencies": "dependencies",
    "deps": "dependencies",
}
_PRIORITY = re.compile(r"[Pp]?[0-4]")
_TYPE = re.compile(r"bug|feature|enhancement|task|epic|chore|decision|spike|story|milestone", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n?|\n")
_BETWEEN = re.compile(r"[\s,]+")


@dataclass(frozen=True, slots=True)
class _Issue:
    """One heading of level 2, the text below it, and its sections by what Beads calls them."""

    heading: Heading
    texts: list[str]
    sections: dict[str, str]

    @property
    def is_sure(self) -> bool:
        """Whether a section says what only a batch says."""
        is_level = _PRIORITY.fullmatch(self.sections.get("priority", "")) is not None
        return is_level or _TYPE.fullmatch(self.sections.get("type", "")) is not None


class BeadsBatch:
    """Markdown with an issue under each heading of level 2, and its fields under headings of level 3."""

    name = "beads-batch"

    def detect(self, file: PlanFile) -> Detection:
        """Sure if half of the headings have a priority or type of Beads below them."""
        issues = _issues(file) if _may_be_batch(file) else []
        sure = sum(issue.is_sure for issue in issues)
        is_batch = sure > 0 and 2 * sure >= len(issues)
        reason = f"{sure} of {len(issues)} headings have a section with a priority or type of Beads"
        return Detection(confidence=0.92 if is_batch else 0.0, reason=reason)

    def read(self, file: PlanFile, *, h1_is_title: bool = True) -> Draft:
        """Read every issue. Sections that Beads does not know stay in the text of their issue."""
        root = Node(title="the plan", line=0, place="the top", source=file.name)
        findings = list(file.document.findings)
        for issue in _issues(file):
            node = _node(issue, file.name)
            node.parent = root
            root.children.append(node)
            refuse_too_many(len(root.children))
            findings.extend(_fill(node, issue.sections))
        titles = (
            block.text for block in file.document.blocks if isinstance(block, Heading) and block.level == 1
        )
        return Draft(
            title=next(titles, ""),
            root=root,
            checkboxes=file.document.checkboxes,
            findings=tuple(findings),
            meta=file.document.meta,
        )


def _may_be_batch(file: PlanFile) -> bool:
    """Whether it is worth the time to look for issues, which most plans have none of."""
    return not file.is_json and any(
        isinstance(block, Heading) and block.level == 3 and block.text.lower() in ("priority", "type")
        for block in file.document.blocks
    )


def _issues(file: PlanFile) -> list[_Issue]:
    lines = _LINE_END.split(file.text)
    headings = [block for block in file.document.blocks if isinstance(block, Heading) and block.level <= 3]
    starts = [*(heading.line for heading in headings), len(lines) + 1]
    issues: list[_Issue] = []
    is_inside = False
    for heading, following in zip(headings, starts[1:], strict=True):
        text = "\n".join(lines[heading.line : following - 1]).strip()
        if heading.level < 3:
            is_inside = heading.level == 2
            issues += [_Issue(heading, [text], {})] if is_inside else []
        elif is_inside:
            name = _SECTIONS.get(heading.text.lower().rstrip(":"))
            if name:
                issues[-1].sections[name] = text
            else:
                issues[-1].texts.append(f"### {heading.text}\n\n{text}")
    return issues


def _node(issue: _Issue, source: str) -> Node:
    heading, sections = issue.heading, issue.sections
    node = new_node(
        key="",
        title=heading.text,
        body=body_of(
            ("", "\n\n".join(filter(None, issue.texts))),
            ("", sections.get("description", "")),
            ("Design", sections.get("design", "")),
        ),
        line=heading.line,
        source=source,
    )
    if heading.state is None:
        node.span = MarkSpan(heading.start, heading.start, Notation.NEW_BOX)
    else:
        node.mark = BOX_MARKS.get(heading.state, Mark.OPEN)
        node.has_mark = True
        node.span = MarkSpan(heading.start + 1, heading.start + 1 + len(heading.state), Notation.BOX)
    return node


def _fill(node: Node, sections: dict[str, str]) -> list[Finding]:
    """Take the fields of an issue; returns what is wrong with them."""
    node.acceptance = criteria_of(sections.get("acceptance", ""))
    node.task_type = TASK_TYPES.get(sections.get("type", "").lower(), "")
    labels = _BETWEEN.split(sections.get("labels", ""))
    take_notes(
        node, labels=list(filter(None, labels)), assignee=list(filter(None, [sections.get("assignee", "")]))
    )
    findings = list(take_priority(node, sections.get("priority", "")))
    for named in filter(None, _BETWEEN.split(sections.get("dependencies", ""))):
        link_type, _, on = named.rpartition(":")
        findings.extend(depend(node, [on], (), kind=kind_of(link_type or "blocks")))
    return findings
