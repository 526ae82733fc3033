"""What the formats of trackers share: their tasks are records, objects of JSON or files with front matter.

Rule: trackers archive and delete what their other records still name. So an id that no record has is a
warning, as is a status that no dialect knows, and the plan goes on without it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from decimal import Decimal

from orchestrator.errors import Finding, PlanError
from orchestrator.plan.amounts import priority_of
from orchestrator.plan.draft import Node, Statement
from orchestrator.plan.findings import Code
from orchestrator.plan.model import Checkboxes, DependencyKind, Mark
from orchestrator.plan.nodes import TITLE_CHARS_MAX
from orchestrator.plan.outline import TASKS_MAX

KEY_CHARS_MAX = 200
_SHOWN_CHARS_MAX = 60

#: Statuses that people write although the tracker does not know them.
_COMMON_STATUSES: Mapping[str, Mark] = {
    "": Mark.OPEN,
    "open": Mark.OPEN,
    "todo": Mark.OPEN,
    "to do": Mark.OPEN,
    "pending": Mark.OPEN,
    "in progress": Mark.IN_PROGRESS,
    "review": Mark.IN_PROGRESS,
    "in review": Mark.IN_PROGRESS,
    "pending review": Mark.IN_PROGRESS,
    "blocked": Mark.BLOCKED,
    "deferred": Mark.DEFERRED,
    "cancelled": Mark.CANCELLED,
    "canceled": Mark.CANCELLED,
    "done": Mark.DONE,
    "complete": Mark.DONE,
    "completed": Mark.DONE,
    "closed": Mark.DONE,
}
#: The class of work that types of issues stand for, where they say it for certain.
TASK_TYPES: Mapping[str, str] = {"bug": "fix", "spike": "research", "decision": "design", "docs": "document"}

_BETWEEN_WORDS = re.compile(r"[\s_-]+")
_HEADING = re.compile(r"#{1,6}\s")
_CRITERIA_HEADING = re.compile(
    r"#{1,6}\s+(?:acceptance(?: criteria)?|definition of done)\s*:?\s*#*\s*", re.IGNORECASE
)
_CRITERION = re.compile(r"\s*(?:(?:[-*+]|\d{1,9}[.)])\s+)?(?:\[[^\]]?\]\s+)?(?:#\d+\s+)?(.*?)\s*")


def text_of(value: object) -> str:
    """A text or number of a record, stripped; anything else, `null` included, is an empty text."""
    is_text = isinstance(value, str | int | Decimal) and not isinstance(value, bool)
    return str(value).strip() if is_text else ""


def texts_of(value: object) -> list[str]:
    """The texts of a list, or the one text that stands in its place; empty ones are left out."""
    values = value if isinstance(value, list) else [value]
    return [text for each in values if (text := text_of(each))]


def criteria_of(text: str) -> list[str]:
    """The criteria that a text lists, one a line, without list marks, boxes and their numbers."""
    lines = (match[1] for line in text.splitlines() if (match := _CRITERION.fullmatch(line)))
    return [line for line in lines if line]


def split_criteria(text: str) -> tuple[str, list[str]]:
    """Take the sections of acceptance criteria and definition of done out of a Markdown text.

    Returns:
        The text without them, and the criteria they list.
    """
    others: list[str] = []
    criteria: list[str] = []
    is_inside = False
    for line in text.splitlines():
        is_heading = _HEADING.match(line) is not None
        is_inside = _CRITERIA_HEADING.fullmatch(line) is not None if is_heading else is_inside
        if not is_inside:
            others.append(line)
        elif not is_heading:
            criteria += criteria_of(line)
    return "\n".join(others).strip(), criteria


def body_of(*parts: tuple[str, str]) -> str:
    """One Markdown text of several `(heading, text)`; empty texts are left out, an empty heading too."""
    return "\n\n".join(f"## {heading}\n\n{text}" if heading else text for heading, text in parts if text)


def plain_status(status: str) -> str:
    """A status as it is looked up: small letters, one blank between words."""
    return _BETWEEN_WORDS.sub(" ", status.casefold()).strip()


def new_node(*, key: str, title: str, body: str, line: int, source: str) -> Node:
    """A task with its words. A title that is missing or too long is made of what there is."""
    title = " ".join(title.split()) or body.partition("\n")[0].strip() or key or "untitled"
    if len(title) > TITLE_CHARS_MAX:
        body = body_of(("", title), ("", body))
        title = title[: TITLE_CHARS_MAX - 1].rstrip() + "…"
    return Node(
        title=title,
        line=line,
        place=f"line {line}",
        source=source,
        own_key=key if len(key) <= KEY_CHARS_MAX else "",
        body=[(line, body)] if body else [],
    )


def refuse_too_many(count: int) -> None:
    """Raise PlanError if a plan has more tasks than the importer takes."""
    if count > TASKS_MAX:
        raise PlanError(f"The plan has more than {TASKS_MAX:,} tasks.", remedy="Split it into several plans.")


def known_mark(status: str) -> Mark | None:
    """The mark of a status that people write in any tracker; None if it is none of these."""
    return _COMMON_STATUSES.get(plain_status(status))


def take_status(node: Node, status: str, known: Mapping[str, Mark]) -> Iterator[Finding]:
    """Set the mark of a task by its status as written; one that is missing is open.

    Args:
        known: the marks of the dialect's statuses, by `plain_status`.
    """
    mark = {**_COMMON_STATUSES, **known}.get(plain_status(status))
    node.mark = Mark.BLOCKED if mark is None else mark
    node.has_mark = True
    node.status_text = status
    if mark is None:
        message = (
            f"The status {status[:_SHOWN_CHARS_MAX]!r} of {_name(node)} is unknown, so the task is held."
        )
        remedy = f"Write {', '.join(known)}; or release the task."
        yield Code.UNKNOWN_STATUS.at(node.line, message, remedy=remedy, source=node.source)


def take_priority(node: Node, priority: str) -> Iterator[Finding]:
    """Set the priority of a task, written as `0` to `4`, as `P1`, or as a word such as `high`."""
    if not priority:
        return
    is_level = len(priority) == 1 and priority in "01234"
    node.priority = int(priority) if is_level else priority_of(priority)
    if node.priority is None:
        message = f"The priority {priority[:_SHOWN_CHARS_MAX]!r} of {_name(node)} cannot be read."
        remedy = "Write critical, high, medium or low, or 0 to 4."
        yield Code.UNKNOWN_VALUE.at(node.line, message, remedy=remedy, source=node.source)


def take_notes(node: Node, **notes: list[str]) -> None:
    """Keep what is told of a task and does not bear on how it is run, such as labels, as its options."""
    node.options.update({name: ", ".join(texts) for name, texts in notes.items() if texts})


def depend(
    node: Node, keys: Iterable[str], known: Container[str], *, kind: DependencyKind = DependencyKind.BLOCKS
) -> Iterator[Finding]:
    """Let a task depend on others. Of those that are not in the plan only what should block it is reported.

    Args:
        known: the keys of the plan.
    """
    keys = list(dict.fromkeys(keys))
    inside = tuple(key for key in keys if key in known)
    if inside:
        node.statements.append(Statement(keys=inside, line=node.line, kind=kind))
    for key in keys:
        if key not in known and kind is DependencyKind.BLOCKS:
            what = f"{_name(node)} depends on {key[:_SHOWN_CHARS_MAX]}, which is not in the plan"
            remedy = "Correct the id, or add that task."
            yield Code.OUTSIDE_DEPENDENCY.at(
                node.line, f"{what}: nothing waits for it.", remedy=remedy, source=node.source
            )


def hang(root: Node, nodes: Iterable[Node], parents: Mapping[Node, Node]) -> Iterator[Finding]:
    """Hang every node below its parent, in their order, and those without one below the root.

    Args:
        parents: as the records say; where they lead in a circle, one of the nodes stands at the top.
    """
    parents = dict(parents)
    ended: set[Node] = set()
    for node in nodes:
        way: dict[Node, None] = {}
        above = node
        while above in parents and above not in way and above not in ended:
            way[above] = None
            above = parents[above]
        if above in way:
            del parents[above]
            message = f"{_name(above)} stands below itself, so it is put at the top."
            remedy = "Correct the parents of these tasks."
            yield Code.UNUSABLE_PARENT.at(above.line, message, remedy=remedy, source=above.source)
        ended.update(way)
    for node in nodes:
        node.parent = parents.get(node, root)
        node.parent.children.append(node)


def unknown_parent(node: Node, parent: str) -> Finding:
    """The finding for a task whose parent is not in the plan."""
    message = (
        f"The parent {parent[:_SHOWN_CHARS_MAX]} of {_name(node)} is not in the plan: it stands at the top."
    )
    remedy = "Correct the id, or add that task."
    return Code.UNUSABLE_PARENT.at(node.line, message, remedy=remedy, source=node.source)


def count_states(nodes: Iterable[Node]) -> Checkboxes:
    """Count the states of tasks, those that are neither open nor done by the words that are written."""
    marked = [node for node in nodes if node.has_mark]
    others = [node.status_text for node in marked if node.mark not in (Mark.OPEN, Mark.DONE)]
    return Checkboxes(
        open=sum(node.mark is Mark.OPEN for node in marked),
        done=sum(node.mark is Mark.DONE for node in marked),
        other=dict(Counter(others)),
    )


def _name(node: Node) -> str:
    return node.own_key or node.title
