"""What stands around a task: where it belongs, what it builds on, what was said and tried before it.

The store reads it and context packs are made of it; no behaviour here.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.views import NoteView


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """A container that the task is in, with what its author says of it."""

    key: str
    title: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOutcome:
    """A task and what came of it.

    Attributes:
        within: key of the container that is depended on, where it is this task's; else empty.
        summary: what the session reported, or why the task is in its state; empty if nobody said anything.
        files: paths that it says it created or changed.
        follow_ups: work that it found and did not do.
    """

    key: str
    title: str
    state: str
    within: str = ""
    summary: str = ""
    files: tuple[str, ...] = ()
    follow_ups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempt:
    """An earlier attempt that failed by its own doing; `detail` is kept of the latest one only."""

    number: int
    kind: str
    failure_class: str
    summary: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything about a task that its own words do not say.

    Attributes:
        plan: title of the plan, or its name.
        ancestors: the outermost first.
        touches: patterns of the files that its author expects it to change.
        dependencies: what it depends on, the nearest first; behind them what is below containers among them.
        failed: the latest first.
        notes: notes on the task, on its ancestors and dependencies and on the plan, and all decisions of the
            plan; the newest first.
        notes_total: how many there are of these, `notes` being the newest.
    """

    plan: str = ""
    ancestors: tuple[Ancestor, ...] = ()
    touches: tuple[str, ...] = ()
    dependencies: tuple[TaskOutcome, ...] = ()
    failed: tuple[FailedAttempt, ...] = ()
    notes: tuple[NoteView, ...] = ()
    notes_total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What is known of one task, for a session that asks by its key."""

    outcome: TaskOutcome
    body: str
    notes: tuple[NoteView, ...]
