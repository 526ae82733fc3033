"""A task in memory, and the rules it is run by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.backends import PROVIDERS
from orchestrator.core.words import AttemptKind, HoldReason, RetryLost, TaskState

#: Pool that runs gates; they count against the total limit, never against the agent's.
GATE_POOL = "gate"

#: Backends that cannot run without a model's credentials, and cost money.
MODEL_BACKENDS = frozenset(name for name, provider in PROVIDERS.items() if provider)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRules:
    """What a task's author may set; shared by all tasks that set the same. Durations in ms, 0 = the default.

    Attributes:
        attempts_max: charged attempts before the task is a dead letter.
        timeout_ms: longest time of an attempt.
        start_timeout_ms: longest wait for an attempt to start.
        review_agent: agent type that judges the work after its gate; empty = nobody.
        review_backend: how its sessions run.
        budget_micros: what all its attempts may spend; 0 = the default.
    """

    attempts_max: int = 3
    timeout_ms: int = 0
    start_timeout_ms: int = 0
    retry_lost: RetryLost = RetryLost.PROVEN
    review_agent: str = ""
    review_backend: str = ""
    budget_micros: int = 0


DEFAULT_RULES = TaskRules()


@dataclass(slots=True, kw_only=True)
class Task:
    """What the core knows of a task; its words stay in the tables.

    The first attributes are read from rows, the rest is derived while its plan is taken in.

    Attributes:
        hold_when_ready: the task waits for a person once its dependencies are done.
        is_released: that person has let it through, for good.
        wants: the kind of its next attempt: work, and once that is in, its gate and its review.
        work_number, gate_number, review_number: number of the last attempt of the kind; 0 if there was none.
        is_removed: the author has taken it out of the plan.
        unmet: dependencies that are not satisfied.
        open_children: children of a container that are not closed; `done_children`, `skipped_children`:
            those that are done or skipped.
        dependents: tasks that wait for this one.
        spent_micros: by its attempts that have ended; `unjudged_micros`: of that, what waits for its verdict.
        budget_micros: what all its attempts may spend, as a person has set it; 0 = as its author says.
        rate_limits: in a row; a new scheduler begins anew.
        token: its live attempt, or 0.
        is_overtaken: it is at work, and meanwhile a dependency of it was opened again, or added.
        ticket: its place in the queue, or 0 (core/ready.py).
    """

    task_id: int
    parent_id: int
    is_container: bool
    state: TaskState
    reason: str
    agent_type: str
    backend: str
    task_type: str
    domain: str
    priority: int
    rank: int
    not_before_ms: int
    attempts_used: int
    losses: int
    has_gate: bool
    hold_when_ready: HoldReason | None
    work_number: int
    gate_number: int
    review_number: int
    version: int
    is_released: bool = False
    wants: AttemptKind = AttemptKind.WORK
    rules: TaskRules = DEFAULT_RULES
    is_removed: bool = False
    plan_id: int = 0
    unmet: int = 0
    open_children: int = 0
    done_children: int = 0
    skipped_children: int = 0
    dependents: Sequence[int] = ()
    spent_micros: int = 0
    unjudged_micros: int = 0
    budget_micros: int = 0
    rate_limits: int = 0
    token: int = 0
    ticket: int = 0
    is_overtaken: bool = False

    @property
    def pool(self) -> str:
        """The pool that runs its next attempt."""
        if self.wants is AttemptKind.WORK:
            return self.agent_type
        return self.rules.review_agent if self.wants is AttemptKind.REVIEW else GATE_POOL

    @property
    def next_backend(self) -> str:
        """The backend of its next attempt; a gate is a command."""
        if self.wants is AttemptKind.WORK:
            return self.backend
        return self.rules.review_backend if self.wants is AttemptKind.REVIEW else "command"

    def number_next(self, kind: AttemptKind) -> int:
        """Count an attempt of the kind and return its number."""
        if kind is AttemptKind.WORK:
            self.work_number += 1
            return self.work_number
        if kind is AttemptKind.GATE:
            self.gate_number += 1
            return self.gate_number
        self.review_number += 1
        return self.review_number
