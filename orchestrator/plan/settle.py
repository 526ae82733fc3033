"""After the whole outline is read: which headings are tasks, and which of several states holds.

Rule: the box beats the words, the words beat the emoji, and what disagrees is reported. A heading with an id
whose boxes have none is one task and the boxes are its steps; they say whether it is done.
"""

from __future__ import annotations

from orchestrator.errors import Finding
from orchestrator.plan.draft import Node
from orchestrator.plan.findings import Code
from orchestrator.plan.keys import is_section_key
from orchestrator.plan.model import Mark


def settle(root: Node) -> tuple[dict[str, int], list[Finding]]:
    """Decide bottom-up which nodes are tasks, containers or mere text, and the mark of each.

    Returns:
        The ids of headings that are no task, with their lines; and the findings.
    """
    unused: dict[str, int] = {}
    findings: list[Finding] = []
    dropped = _mirrored_rows(root, findings)
    for node in [*list(root.descendants())[::-1], root]:
        node.children = [child for child in node.children if child not in dropped]
        steps: list[Node] = []
        if node.is_heading:
            steps = _steps(node)
            if not _is_task(node, steps) and node.parent is not None:
                dropped.add(node)
                node.parent.body.extend([(node.line, node.raw), *node.body])
                if node.own_key:
                    unused[node.own_key] = node.line
        findings.extend(_settle_mark(node, steps))
    return unused, findings


def _mirrored_rows(root: Node, findings: list[Finding]) -> set[Node]:
    """Rows of a table that only repeat tasks written elsewhere in the file."""
    rows = [node for node in root.descendants() if node.is_row]
    tasks = {node.own_key: node for node in root.descendants() if rows and _may_be_task(node)}
    mirrored = {row for row in rows if row.own_key in tasks}
    for row in mirrored:
        task = tasks[row.own_key]
        if task.has_mark and row.status and (row.status.mark is Mark.DONE) != (task.mark is Mark.DONE):
            message = (
                f"The table says {row.status.mark} of {row.own_key} and its box ({task.place}) does not."
            )
            findings.append(_conflict(row, message))
    return mirrored


def _may_be_task(node: Node) -> bool:
    return not node.is_row and (node.has_mark or bool(node.children) or _is_task(node, []))


def _is_task(node: Node, steps: list[Node]) -> bool:
    """Whether a heading is a task or a container; if not, it is part of the text."""
    if not node.own_key:
        return bool(node.children)
    if node.children:
        return True
    return bool(steps) or node.names_task or node.has_task_fields


def _steps(node: Node) -> list[Node]:
    """The boxes below a heading with an id, folded into its body if none has an id or fields of its own."""
    is_section = is_section_key(node.own_key) and not node.names_task and not node.has_task_fields
    below = list(node.descendants())
    if not node.own_key or (is_section and below) or any(each.own_key or each.is_own_work for each in below):
        return []
    for each in below:
        node.body.extend([(each.line, each.raw), *each.body])
        node.acceptance.extend(each.acceptance)
    node.children = []
    return [each for each in below if each.has_mark]


def _settle_mark(node: Node, steps: list[Node]) -> list[Finding]:
    said = node.status or node.verdict
    if node.has_mark or steps:
        if not node.has_mark:
            is_done = all(step.mark is Mark.DONE for step in steps)
            node.mark = Mark.DONE if is_done else Mark.OPEN
            if said and not is_done and said.mark is not Mark.DONE:
                node.mark = said.mark
        if said and (said.mark is Mark.DONE) != (node.mark is Mark.DONE):
            boxes = "the box does" if node.has_mark else "its boxes do"
            message = f"{_name(node)} is said to be {said.mark} and {boxes} not say so: the box holds."
            return [_conflict(node, message)]
    elif said:
        node.mark, node.span = said.mark, said.span
        if node.status and node.verdict and node.status.mark is not node.verdict.mark:
            message = f"{_name(node)} has the status {said.mark} and the emoji says {node.verdict.mark}: "
            return [_conflict(node, f"{message}the words hold.")]
    return []


def _name(node: Node) -> str:
    return node.own_key or repr(node.title)


def _conflict(node: Node, message: str) -> Finding:
    return Code.MARK_CONFLICT.at(node.line, message, remedy="Make them agree.", source=node.source)
