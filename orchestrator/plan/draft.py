"""A plan while it is being read: a tree of nodes, as written, before keys and dependencies are settled.

Every format yields drafts; `assemble` makes one plan of one or several of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from orchestrator.errors import Finding
from orchestrator.plan.model import Checkboxes, DependencyKind, Mark, MarkSpan


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What an author says about dependencies, not yet resolved.

    Attributes:
        text: the words after `depends on` and the like; empty when `keys` are given.
        keys: exact keys, from formats that have no prose.
        is_reverse: the named tasks depend on this one (`blocks:`, `informs:`).
        is_strict: an id that no task has is an error; else it is prose and makes no dependency.
    """

    text: str = ""
    line: int
    keys: tuple[str, ...] = ()
    kind: DependencyKind = DependencyKind.BLOCKS
    is_reverse: bool = False
    is_strict: bool = True


@dataclass(frozen=True, slots=True)
class Said:
    """A state that a word or an emoji gives a task, and where it stands."""

    mark: Mark
    span: MarkSpan


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """A heading, a box or a JSON task that is, or may turn out to be, a task.

    Attributes:
        own_key: the author's id; empty if none. `other_keys` are ids that share its box: `T071-T074`.
        hidden_key: the id that sync has hidden at the end of its line; it makes no heading a task.
        alias: the name by which dependencies call a section, such as `phase 0`.
        names_task: the heading calls itself a task, so it is one even without boxes.
        has_mark: `mark` is that of a box of its own, which beats what is said.
        status: what a `Status` field or cell says; `verdict` what an emoji at the title says.
        raw: its line as written; empty for a record of a tracker, which stands in no line of its own.
        status_text: the state of a record as it is written.
        is_row: a row of a table; one whose id a box or heading has too is no second task.
        is_parallel: its author says that it may run beside its neighbours, `[P]`.
        body: `(line, text)` below the title, in any order.
        priority, estimate_ms, manual, approve: None where nothing is written.
        children: nodes below this one, in the order of the source.
    """

    title: str
    line: int
    place: str
    source: str = ""
    raw: str = ""
    own_key: str = ""
    other_keys: tuple[str, ...] = ()
    hidden_key: str = ""
    alias: str = ""
    is_heading: bool = False
    names_task: bool = False
    is_criteria: bool = False
    parent: Node | None = field(default=None, repr=False)
    mark: Mark = Mark.OPEN
    has_mark: bool = False
    span: MarkSpan | None = None
    status: Said | None = None
    status_text: str = ""
    verdict: Said | None = None
    is_row: bool = False
    is_parallel: bool = False
    body: list[tuple[int, str]] = field(default_factory=list)
    priority: int | None = None
    estimate_ms: int | None = None
    agent: str = ""
    task_type: str = ""
    domain: str = ""
    type_evidence: tuple[str, ...] = ()
    domain_evidence: tuple[str, ...] = ()
    acceptance: list[str] = field(default_factory=list)
    touches: list[str] = field(default_factory=list)
    run: list[str] = field(default_factory=list)
    verify: list[str] = field(default_factory=list)
    manual: str | None = None
    approve: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    children: list[Node] = field(default_factory=list, repr=False)

    @property
    def given_key(self) -> str:
        """The id that its file gives it, visible or hidden; empty if none."""
        return self.own_key or self.hidden_key

    @property
    def line_text(self) -> str:
        """The line of its title as written, without its indentation; the title where there is no line."""
        return self.raw.lstrip(" \t>") or self.title

    @property
    def is_own_work(self) -> bool:
        """Whether fields say what only a task of its own can have, so that it is no step of another."""
        depends = any(statement.is_strict for statement in self.statements)
        return depends or any((self.run, self.verify, self.agent, self.manual, self.approve))

    @property
    def has_task_fields(self) -> bool:
        """Whether fields stand below a heading that sections without work do not have."""
        return self.is_own_work or self.estimate_ms is not None

    def descendants(self) -> Iterator[Node]:
        """All nodes below, parents first, in the order of the source."""
        stack = self.children[::-1]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One source, read.

    Attributes:
        root: carries the fields above the first heading; no task itself.
        key_forms: everything on boxes and headings that has the form of an id.
        unused_keys: ids on headings that turned out to be no task, with their lines.
        has_phase_order: its dialect orders phases and the lines of a phase without a word.
    """

    title: str
    root: Node
    checkboxes: Checkboxes = field(default_factory=Checkboxes)
    key_forms: frozenset[str] = frozenset()
    unused_keys: Mapping[str, int] = field(default_factory=dict)
    has_phase_order: bool = False
    findings: tuple[Finding, ...] = ()
    meta: Mapping[str, object] = field(default_factory=dict)
