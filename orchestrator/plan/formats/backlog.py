"""Backlog.md: a folder with one Markdown file for each task, whose front matter tells its state.

    ---
    id: SHOP-7.1
    title: Pay by card
    status: In Progress
    dependencies: [SHOP-6]
    parent_task_id: SHOP-7
    ---
    ## Acceptance Criteria
    - [ ] #1 A refused card is told to the buyer

The boxes of such a file are criteria, never tasks. Completed tasks are read with the others; drafts and
archived ones are not. Authors write ids in any case, and numbers in them with or without leading zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from orchestrator.errors import Finding
from orchestrator.plan.draft import Draft, Node
from orchestrator.plan.findings import Code
from orchestrator.plan.formats.base import Detection, PlanFile
from orchestrator.plan.formats.records import (
    TASK_TYPES,
    depend,
    hang,
    known_mark,
    new_node,
    plain_status,
    split_criteria,
    take_notes,
    take_priority,
    take_status,
    text_of,
    texts_of,
    unknown_parent,
)
from orchestrator.plan.json_text import LineNumbers
from orchestrator.plan.markdown import Document, scan
from orchestrator.plan.model import Checkboxes, Mark, MarkSpan, Notation
from orchestrator.plan.render import WRITTEN

_NEEDED = frozenset({"id", "title", "status"})
_OTHERS = frozenset({"created_date", "updated_date", "assignee", "labels", "dependencies", "ordinal"})
_CONFIG = "config.yml"
_FOLDERS = ("tasks", "completed")
_STATUSES: Mapping[str, Mark] = {"to do": Mark.OPEN, "in progress": Mark.IN_PROGRESS, "done": Mark.DONE}

_FRONT_MATTER = re.compile(
    r"\ufeff?---[ \t]*(?:\r\n?|\n)(?P<lines>.*?)^(?:---|\.\.\.)[ \t]*\r?$", re.DOTALL | re.MULTILINE
)
_STATUS = re.compile(
    r"^status:[ \t]+(?P<quote>['\"]?)(?P<word>[^\r\n'\"#]+?)(?P=quote)[ \t]*(?:#.*)?\r?$", re.MULTILINE
)
_COMMENT = re.compile(r"^[ \t]*<!--.*?-->[ \t]*\r?\n?", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"\d+")


class Backlog:
    """Files with the front matter of Backlog.md."""

    name = "backlog"

    def detect(self, file: PlanFile) -> Detection:
        """Sure of a front matter with id, title, status and one more field that these files have."""
        names = frozenset() if file.is_json else file.document.meta.keys()
        if names >= _NEEDED and names & _OTHERS:
            return Detection(confidence=0.95, reason="the front matter is that of a task of Backlog.md")
        return Detection(confidence=0.0, reason="no front matter with id, title and status of a task")

    def read(self, file: PlanFile, *, h1_is_title: bool = True) -> Draft:
        """Read the one task of a file."""
        return self.read_folder([file])

    def files(self, names: Sequence[str]) -> list[str]:
        """The configuration and the tasks of a `backlog` folder, or of the one in the folder."""
        for root in ("", "backlog/"):
            folders = {f"{root}{name}" for name in _FOLDERS}
            tasks = [name for name in names if name.endswith(".md") and name.rpartition("/")[0] in folders]
            if f"{root}{_CONFIG}" in names and tasks:
                return [
                    f"{root}{_CONFIG}",
                    *sorted(tasks, key=lambda name: _by_number(name.rpartition("/")[2])),
                ]
        return []

    def read_folder(self, files: Sequence[PlanFile]) -> Draft:
        """Read the tasks of a folder, by its configuration if that is among the files."""
        config = next((file for file in files if file.name.rpartition("/")[2] == _CONFIG), None)
        reader = _Reader(config, source=files[0].name if len(files) == 1 else "")
        for file in files:
            if file is not config:
                reader.read(file)
        return reader.draft()


class _Reader:
    """Reads one file after the other, then sets the tasks in relation."""

    def __init__(self, config: PlanFile | None, *, source: str) -> None:
        # the configuration is YAML, read within the bounds of a front matter
        settings = scan(f"---\n{config.text}\n---\n").meta if config else {}
        words = texts_of(settings.get("statuses")) or list(_STATUSES)
        self._title = text_of(settings.get("project_name"))
        self._statuses = _marks(words)
        self._root = Node(title="the plan", line=0, place="the top", source=source)
        self._tasks: dict[Node, Mapping[str, object]] = {}
        self._documents: list[Document] = []
        self._findings: list[Finding] = []
        self._can_write = {plain_status(word) for word in WRITTEN[Notation.BACKLOG].values()} <= set(
            self._statuses
        )
        if config and not self._can_write:
            message = f"The statuses are the project's own ({', '.join(words)[:200]}): none is written back."
            remedy = "Keep To Do, In Progress and Done among them."
            self._findings.append(Code.OWN_STATUSES.at(0, message, remedy=remedy, source=config.name))

    def read(self, file: PlanFile) -> None:
        """Make a task of one file; one without the front matter of a task is none."""
        document, values = file.document, file.document.meta
        self._documents.append(document)
        self._findings += [replace(finding, source=file.name) for finding in document.findings]
        if not values.keys() >= _NEEDED:
            message = "The file has no front matter with id, title and status, and is left out."
            remedy = "Write one, or move the file elsewhere."
            self._findings.append(Code.LEFT_OUT.at(1, message, remedy=remedy, source=file.name))
            return
        head = _FRONT_MATTER.match(file.text)
        body, criteria = split_criteria(_without_comments(file.text[head.end() :] if head else ""))
        span = self._span(file.text, head, text_of(values["status"])) if head else None
        node = new_node(
            key=text_of(values["id"]),
            title=text_of(values["title"]),
            body=body,
            line=LineNumbers(file.text).of(span.start) if span else 1,
            source=file.name,
        )
        node.span = span if self._can_write else None
        node.acceptance = criteria
        node.task_type = TASK_TYPES.get(text_of(values.get("type")).lower(), "")
        node.touches = texts_of(values.get("modified_files"))
        take_notes(node, **{name: texts_of(values.get(name)) for name in ("labels", "assignee", "milestone")})
        self._findings.extend(take_status(node, text_of(values["status"]), self._statuses))
        self._findings.extend(take_priority(node, text_of(values.get("priority"))))
        self._tasks[node] = values

    def draft(self) -> Draft:
        self._findings.extend(self._relate())
        return Draft(
            title=self._title,
            root=self._root,
            checkboxes=sum((document.checkboxes for document in self._documents), Checkboxes()),
            key_forms=frozenset(node.own_key for node in self._tasks),
            findings=tuple(self._findings),
        )

    def _span(self, text: str, head: re.Match[str], status: str) -> MarkSpan | None:
        """Where the status stands; None if it is written in a way that cannot be replaced for certain."""
        match = _STATUS.search(text, head.start("lines"), head.end("lines"))
        if match is None or match["word"] != status:
            return None
        return MarkSpan(*match.span("word"), Notation.BACKLOG)

    def _relate(self) -> Iterator[Finding]:
        known = {_plain_id(node.own_key): node for node in reversed(self._tasks)}
        known |= {node.own_key: node for node in reversed(self._tasks)}

        def find(named: str, node: Node) -> Node | None:
            return known.get(named) or known.get(_plain_id(named, prefix=node.own_key.rpartition("-")[0]))

        parents: dict[Node, Node] = {}
        for node, values in self._tasks.items():
            named = text_of(values.get("parent_task_id"))
            if parent := find(named, node):
                parents[node] = parent
            elif named:
                yield unknown_parent(node, named)
        yield from hang(self._root, self._tasks, parents)
        for node, values in self._tasks.items():
            on = texts_of(values.get("dependencies"))
            keys = [found.own_key if (found := find(named, node)) else named for named in on]
            yield from depend(node, keys, known)


def _without_comments(text: str) -> str:
    """A text without the comments that mark its sections, and without what is commented out."""
    end = text.rfind("-->") + len("-->")  # what is never closed is no comment, and would be sought for ever
    return _COMMENT.sub("", text[:end]) + text[end:]


def _marks(words: Sequence[str]) -> dict[str, Mark]:
    """The marks of a project's statuses: the first is open, the last done, unless a word says otherwise."""
    last = len(words) - 1
    by_place = {0: Mark.OPEN, last: Mark.DONE}
    return {
        plain_status(word): known_mark(word) or by_place.get(place, Mark.IN_PROGRESS)
        for place, word in enumerate(words)
    }


def _plain_id(id_: str, *, prefix: str = "") -> str:
    """An id as it is compared: upper case, numbers without leading zeros, a bare number with the prefix."""
    whole = f"{prefix}-{id_}" if prefix and id_[:1].isdigit() else id_
    return _NUMBER.sub(lambda match: match[0].lstrip("0") or "0", whole.upper())


def _by_number(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts names so that numbers in them count as numbers."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)
