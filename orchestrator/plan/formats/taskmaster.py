"""Task Master's `tasks.json`: lists of tasks, one for each tag, or a single one.

    {"master": {"tasks": [{"id": 3, "title": "Search", "status": "pending", "priority": "high",
                           "dependencies": [1, "2.1"], "testStrategy": "Search for a word of each page.",
                           "subtasks": [{"id": 1, "title": "Index", "status": "done", "dependencies": []}]}]}}

Ids are written as Task Master prints them: the subtask above is `3.1`. They are unique in one tag only; where
two tags share some, those of the later tag get its name in front, `search:3.1`. A cancelled task counts as
finished there, so it holds up nobody.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import Finding
from orchestrator.plan.draft import Draft, Node
from orchestrator.plan.findings import Code
from orchestrator.plan.formats.base import Detection, PlanFile
from orchestrator.plan.formats.records import (
    body_of,
    count_states,
    criteria_of,
    depend,
    new_node,
    refuse_too_many,
    take_notes,
    take_priority,
    take_status,
    text_of,
    texts_of,
)
from orchestrator.plan.json_text import JsonObject, LineNumbers
from orchestrator.plan.model import Mark, MarkSpan, Notation

DEFAULT_TAG = "master"

_STATUSES: Mapping[str, Mark] = {
    "pending": Mark.OPEN,
    "in progress": Mark.IN_PROGRESS,
    "review": Mark.IN_PROGRESS,
    "blocked": Mark.BLOCKED,
    "deferred": Mark.DEFERRED,
    "cancelled": Mark.SKIPPED,
    "done": Mark.DONE,
}
_NEEDED = ("id", "title", "status")


class TaskMaster:
    """JSON with the task lists of Task Master."""

    name = "taskmaster"

    def detect(self, file: PlanFile) -> Detection:
        """Sure of lists whose tasks have id, title and status; takes lists of other tasks to refuse them."""
        lists = _task_lists(file)
        tasks = _tasks(lists)
        if any(_is_task(task) for task in tasks):
            reason = f"JSON with the task lists of Task Master: {', '.join(lists)[:100]}"
            return Detection(confidence=0.95, reason=reason)
        if any("id" in task for task in tasks):
            return Detection(confidence=0.7, reason="JSON with lists of tasks that have ids")
        return Detection(confidence=0.0, reason="no JSON with lists of tasks that have ids")

    def files(self, names: Sequence[str]) -> list[str]:
        """The task lists of a `.taskmaster` folder, or of its folder `tasks`."""
        return [name for name in ("tasks/tasks.json", "tasks.json") if name in names][:1]

    def read_folder(self, files: Sequence[PlanFile]) -> Draft:
        """Read the task lists; they are one file."""
        return self.read(files[0])

    def read(self, file: PlanFile, *, h1_is_title: bool = True) -> Draft:
        """Read the tasks of every tag. If several tags have some, each becomes a container of its tasks."""
        root = Node(title="the plan", line=0, place="the top", source=file.name)
        if refusal := _refusal(file):
            return Draft(title="", root=root, findings=(refusal,))
        reader = _Reader(file, root)
        lists = {tag: owner for tag, owner in _task_lists(file).items() if owner["tasks"]}
        for tag in sorted(lists, key=lambda tag: tag != DEFAULT_TAG):
            reader.read_tag(tag, lists[tag], is_only=len(lists) == 1)
        return Draft(
            title="",
            root=root,
            checkboxes=count_states(root.descendants()),
            key_forms=frozenset(reader.keys),
            findings=tuple(reader.findings),
        )


def _task_lists(file: PlanFile) -> dict[str, JsonObject]:
    """The objects that have a list `tasks`, by tag; the file itself, if it has one, is called `tasks`."""
    try:
        top = file.json if file.is_json else None
    except json.JSONDecodeError:
        return {}
    if not isinstance(top, JsonObject):
        return {}
    owners = {"tasks": top, **{tag: owner for tag, owner in top.items() if isinstance(owner, JsonObject)}}
    return {tag: owner for tag, owner in owners.items() if isinstance(owner.get("tasks"), list)}


def _tasks(lists: Mapping[str, JsonObject]) -> list[JsonObject]:
    return [task for owner in lists.values() for task in _objects(owner["tasks"])]


def _objects(value: object) -> list[JsonObject]:
    return [each for each in value if isinstance(each, JsonObject)] if isinstance(value, list) else []


def _is_task(task: JsonObject) -> bool:
    return all(name in task for name in _NEEDED)


def _refusal(file: PlanFile) -> Finding | None:
    """What makes the file none of Task Master's, if anything does."""
    try:
        _ = file.json
    except json.JSONDecodeError as error:
        message = f"The JSON ends or breaks at column {error.colno}: {error.msg}."
        return Code.INVALID_JSON.at(error.lineno, message, remedy="Correct it.")
    lists = _task_lists(file)
    tasks = _tasks(lists)
    if lists and (not tasks or any(_is_task(task) for task in tasks)):
        return None
    has = f"the first has {', '.join(tasks[0])[:200]}" if tasks else "there is no list of tasks"
    message = f"This is no file of Task Master, whose tasks have {', '.join(_NEEDED)}: {has}."
    remedy = "Name the format, or write the plan in one that is known."
    return Code.UNKNOWN_FORMAT.at(0, message, remedy=remedy)


@dataclass(frozen=True, slots=True, eq=False)
class _Record:
    """A task or subtask, its id as Task Master prints it, and the task that it is part of."""

    values: JsonObject
    id: str
    parent: _Record | None


class _Reader:
    """Makes nodes of the tasks of one tag after the other."""

    def __init__(self, file: PlanFile, root: Node) -> None:
        self._source = file.name
        self._root = root
        self._lines = LineNumbers(file.text)
        self._count = 0
        self.keys: set[str] = set()
        self.findings: list[Finding] = []

    def read_tag(self, tag: str, owner: JsonObject, *, is_only: bool) -> None:
        records = list(self._records(owner["tasks"], None))
        prefix = "" if self.keys.isdisjoint(record.id for record in records) else f"{tag}:"
        top = self._root if is_only else self._tag_node(tag, owner)
        if prefix:
            message = (
                f"The tag {tag[:60]} has ids of another tag, so {prefix[:60]} stands before each of its own."
            )
            remedy = "Keep tags in plans of their own for bare ids."
            self.findings.append(Code.TAGGED_IDS.at(top.line, message, remedy=remedy))
        nodes: dict[_Record, Node] = {}
        for record in records:
            node = self._node(record.values, f"{prefix}{record.id}" if record.id else "")
            node.parent = nodes[record.parent] if record.parent else top
            node.parent.children.append(node)
            nodes[record] = node
        keys = {record.id: node.own_key for record, node in nodes.items() if node.own_key}
        known = frozenset(keys.values())
        for record, node in nodes.items():
            ids = [_target(record, text, keys) for text in texts_of(record.values.get("dependencies"))]
            self.findings.extend(depend(node, [keys.get(id_, id_) for id_ in ids], known))
        self.keys.update(known)

    def _records(self, tasks: object, parent: _Record | None) -> Iterator[_Record]:
        """The tasks of a list and below, parents first; recursion is no deeper than JSON may be nested."""
        taken: set[str] = set()
        for place, values in enumerate(_objects(tasks), 1):
            self._count += 1
            refuse_too_many(self._count)
            id_ = _printed_id(values, parent)
            if id_ in taken and parent and f"{parent.id}.{place}".rstrip("0") == id_:
                id_ = f"{parent.id}.{place}"
                message = f"The id {id_} is written as a number, which has lost its last zero."
                remedy = "Write the ids of subtasks as whole numbers or in quotes."
                self.findings.append(
                    Code.RESTORED_ID.at(self._lines.of(values.start), message, remedy=remedy)
                )
            taken.add(id_)
            record = _Record(values, id_, parent)
            yield record
            yield from self._records(values.get("subtasks"), record)

    def _tag_node(self, tag: str, owner: JsonObject) -> Node:
        metadata = owner.get("metadata")
        body = text_of(metadata.get("description")) if isinstance(metadata, JsonObject) else ""
        node = new_node(key="", title=tag, body=body, line=self._lines.of(owner.start), source=self._source)
        node.parent = self._root
        self._root.children.append(node)
        return node

    def _node(self, values: JsonObject, key: str) -> Node:
        node = new_node(
            key=key,
            title=text_of(values.get("title")),
            body=body_of(("", text_of(values.get("description"))), ("", text_of(values.get("details")))),
            line=self._lines.of(values.start),
            source=self._source,
        )
        self.findings.extend(take_status(node, text_of(values.get("status")), _STATUSES))
        self.findings.extend(take_priority(node, text_of(values.get("priority"))))
        if isinstance(values.get("status"), str):
            node.span = MarkSpan(*values.spans["status"], Notation.TASKMASTER)
        node.acceptance = criteria_of(text_of(values.get("testStrategy")))
        take_notes(node, assignee=texts_of(values.get("assignee")))
        return node


def _printed_id(values: JsonObject, parent: _Record | None) -> str:
    """The id of a task as Task Master prints it: that of a subtask begins with the id of its task."""
    own = text_of(values.get("id"))
    if not own or parent is None or not parent.id or own.startswith(f"{parent.id}."):
        return own
    return f"{parent.id}.{own}"


def _target(record: _Record, named: str, known: Container[str]) -> str:
    """The id that a dependency names: `2` in a subtask is its sibling, if it has such a one, else task 2."""
    sibling = f"{record.parent.id}.{named}" if record.parent else named
    return sibling if sibling in known and sibling != record.id else named
