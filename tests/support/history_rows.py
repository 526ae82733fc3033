"""The shapes of a history: the rows that its checks look at, the log of side effects, what clients heard."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple


class PlanRow(NamedTuple):
    """A plan; `leaves` is how many tasks it was stored with, containers left out."""

    plan_id: int
    state: str
    leaves: int


class TaskRow(NamedTuple):
    """A task; `parent_id` is 0 at the top; `has_effects` says that its `run:` lines keep the log."""

    task_id: int
    plan_id: int
    key: str
    parent_id: int
    is_container: bool
    state: str
    reason: str
    has_effects: bool


class EdgeRow(NamedTuple):
    """`task_id` may start only after `on_id` is done."""

    task_id: int
    on_id: int


class AttemptRow(NamedTuple):
    """An attempt; `ended_at` is None while it is live."""

    token: int
    plan_id: int
    task_id: int
    kind: str
    number: int
    epoch: int
    state: str
    end_reason: str
    failure_class: str
    leased_at: datetime
    ended_at: datetime | None


class EventRow(NamedTuple):
    """An event; ids that it does not have are 0, `state` is the one that its payload tells."""

    seq: int
    plan_id: int
    task_id: int
    token: int
    epoch: int
    type: str
    state: str


class Effect(NamedTuple):
    """An entry of the log of side effects; `edge` is `start` or `end`."""

    edge: str
    token: int
    key: str
    attempt: int
    pid: int


class Acknowledged(NamedTuple):
    """What a client was told had been done.

    Attributes:
        plan_id, task_id: what it was done to; 0 = no single task.
        event: type of the event that it must have left behind; empty = it need only exist.
    """

    plan_id: int
    task_id: int = 0
    event: str = ""


@dataclass(frozen=True, kw_only=True)
class History:
    """Everything that is known of a run once it is over."""

    plans: dict[int, PlanRow] = field(default_factory=dict)
    tasks: dict[int, TaskRow] = field(default_factory=dict)
    edges: tuple[EdgeRow, ...] = ()
    attempts: dict[int, AttemptRow] = field(default_factory=dict)  #: by token, in its order
    events: tuple[EventRow, ...] = ()  #: by seq
    starts: frozenset[int] = frozenset()  #: tokens with a stored start
    results: dict[int, str] = field(default_factory=dict)  #: state of the stored result by token
    leases: frozenset[int] = frozenset()  #: tokens with a lease
    effects: tuple[Effect, ...] = ()  #: in the order of the file
    acknowledged: tuple[Acknowledged, ...] = ()

    @cached_property
    def attempts_by_task(self) -> dict[int, list[AttemptRow]]:
        """The attempts of each task that has any, by token."""
        found: dict[int, list[AttemptRow]] = defaultdict(list)
        for attempt in self.attempts.values():
            found[attempt.task_id].append(attempt)
        return dict(found)

    @cached_property
    def events_by_task(self) -> dict[int, list[EventRow]]:
        """The events about each task and its attempts, by seq."""
        found: dict[int, list[EventRow]] = defaultdict(list)
        for event in self.events:
            if event.task_id:
                found[event.task_id].append(event)
        return dict(found)

    @cached_property
    def needs(self) -> dict[int, list[int]]:
        """What each task that needs any has to wait for."""
        found: dict[int, list[int]] = defaultdict(list)
        for edge in self.edges:
            found[edge.task_id].append(edge.on_id)
        return dict(found)

    @property
    def summary(self) -> str:
        """The counts of the run in one line."""
        states = Counter(attempt.state for attempt in self.attempts.values())
        ended = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        epochs = len({event.epoch for event in self.events})
        return (
            f"{len(self.plans)} plans, {len(self.tasks)} tasks, {len(self.attempts)} attempts ({ended}), "
            f"{len(self.events)} events, {epochs} epochs, {len(self.effects)} side effects, "
            f"{len(self.acknowledged)} acknowledgements"
        )
