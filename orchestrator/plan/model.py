"""What a plan file says, after reading it and before storing it.

Every importer yields this shape and every later step (graph, routing, store, write-back) reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.core.words import TaskKind
from orchestrator.errors import Finding

#: The evidence of a type or domain that the author wrote himself.
BY_AUTHOR = ("by its author",)

#: What a task takes where its author does not say: half an hour.
ESTIMATE_MS_DEFAULT = 30 * 60 * 1000


class Mark(StrEnum):
    """The state that the author's notation gives a task."""

    OPEN = "open"
    DONE = "done"
    IN_PROGRESS = "in_progress"
    BLOCKED = "blocked"
    DEFERRED = "deferred"
    CANCELLED = "cancelled"  #: what depends on it waits on
    SKIPPED = "skipped"  #: cancelled where the dialect says that what depends on it goes on without it


class Notation(StrEnum):
    """How a plan writes the state of a task at one place."""

    BOX = "box"  #: the character between the brackets of a box; nothing in `[]`
    NEW_BOX = "new-box"  #: the place of a box in a heading or list item that has none
    WORD = "word"  #: a word in a table cell or a `Status` field
    EMOJI = "emoji"  #: an emoji in a table cell or at the end of a heading
    EMOJI_WORD = "emoji-word"  #: an emoji and a word, such as `✅ COMPLETE`
    TASKMASTER = "taskmaster"  #: the value of `status` in a Task Master file
    BEADS = "beads"  #: the value of `status` in a line of Beads
    BACKLOG = "backlog"  #: the value of `status` in the front matter of a Backlog.md task


@dataclass(frozen=True, slots=True, order=True)
class MarkSpan:
    """Where the state of one task stands in its file.

    Attributes:
        start, end: characters of the file as read, byte-order mark and carriage returns counted; what is
            between them is the state and nothing else. Both are equal where the file says nothing yet.
        notation: how a state is written there.
    """

    start: int
    end: int
    notation: Notation


class DependencyKind(StrEnum):
    """How strongly a task depends on another: only `blocks` orders them."""

    BLOCKS = "blocks"
    INFORMS = "informs"
    RELATES = "relates"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDependency:
    """`task` depends on `on`; both are keys of the same plan.

    Attributes:
        is_explicit: written as a dependency by the author; else inferred.
        evidence: the words that say so, as written.
        line: where they stand; 0 where the format has no lines.
        start, end: where they stand in that line, its indentation not counted; both 0 for fields and notes.
        confidence: 0 to 1; 1 for explicit ones.
    """

    task: str
    on: str
    kind: DependencyKind = DependencyKind.BLOCKS
    is_explicit: bool = True
    evidence: str = ""
    line: int = 0
    start: int = 0
    end: int = 0
    confidence: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTask:
    """One node of a plan.

    Attributes:
        key: the author's id, or one derived from the place and title where there is none; of several tasks
            with the same one the later get a number behind it, `A.1~2`.
        has_own_key: the author wrote the id.
        parent: key of the container; empty at the top.
        body: the Markdown below the title that belongs to the task (steps of a generation-2 task included).
        mark: state by the author's notation.
        span: where the mark stands in the file `source`; None where no mark can stand, as in native JSON.
        priority: 0 (most urgent) to 4; 2 where the plan says nothing.
        estimate_ms: None where the plan says nothing.
        agent: agent type as the author wrote it; empty if none (inherited from the section where it says so).
        task_type: class of work, such as `implement`, `test`, `document`; by rules.
        domain: field of work, such as `backend`, `security`; by rules.
        type_evidence, domain_evidence: the words that say so and where they stand, `title: test`.
        run: shell lines that are the work; verify: shell lines that check it.
        manual: what a person must do; empty if the task is not manual.
        approve: what a person must approve before it starts; empty if nothing.
        options: field lines on how it is run, by name and as written: `timeout`, `attempts`, `retry lost`,
            `review` and such.
    """

    key: str
    has_own_key: bool
    title: str
    kind: TaskKind = TaskKind.LEAF
    parent: str = ""
    body: str = ""
    mark: Mark = Mark.OPEN
    span: MarkSpan | None = None
    line: int = 0
    source: str = ""
    priority: int = 2
    estimate_ms: int | None = None
    agent: str = ""
    task_type: str = ""
    domain: str = ""
    type_evidence: tuple[str, ...] = field(default=(), compare=False)
    domain_evidence: tuple[str, ...] = field(default=(), compare=False)
    acceptance: tuple[str, ...] = ()
    touches: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()
    manual: str = ""
    approve: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkboxes:
    """Marks as read, outside code fences; `other` counts each that is neither open nor done by itself."""

    open: int = 0
    done: int = 0
    other: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, more: Checkboxes) -> Checkboxes:
        """Return the counts of both together."""
        other = Counter(self.other) + Counter(more.other)
        return Checkboxes(open=self.open + more.open, done=self.done + more.done, other=dict(other))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole plan as read.

    Attributes:
        format: name of the importer, and `format_reason` why it was chosen.
        title: first heading, or the front matter's; empty if neither.
        name: the front matter's `name`; empty if none.
        meta: the other front matter values, as written.
        with_id: distinct ids on boxes and headings.
        source: the text as read (for a folder: its files in order).
    """

    format: str
    format_reason: str
    title: str
    name: str
    tasks: tuple[PlanTask, ...]
    dependencies: tuple[PlanDependency, ...]
    findings: tuple[Finding, ...]
    checkboxes: Checkboxes
    with_id: int
    source: str
    meta: Mapping[str, object] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that refuse the plan."""
        return tuple(finding for finding in self.findings if finding.severity == "error")
