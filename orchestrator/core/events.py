"""Everything that may happen to the scheduler, in the past tense. The only input of the core.

Every event carries `at_ms`: database time in milliseconds at the scheduler's start plus its monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.core.words import (
    AttemptKind,
    AttemptState,
    FailureClass,
    HoldReason,
    PlanState,
    TaskState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSpec:
    """What the core knows of a plan. Money is in millionths of a US dollar; 0 = no budget."""

    plan_id: int
    tenant_id: str
    state: PlanState
    budget_micros: int
    spent_micros: int
    until_task: int  #: work only for this task; 0 = the whole plan


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """What the core knows of a task; its words stay in the tables.

    Attributes:
        hold_when_ready: the task waits for a person once its dependencies are done.
        attempts_max: charged attempts before it is a dead letter.
        work_number, gate_number: number of the last attempt of the kind; 0 if there was none.
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
    estimate_ms: int
    not_before_ms: int
    attempts_used: int
    attempts_max: int
    losses: int
    has_gate: bool
    hold_when_ready: HoldReason | None
    work_number: int
    gate_number: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAttempt:
    """An attempt that still had a lease when the plan was read: a live one, or one that was fenced just now.

    Attributes:
        state: `leased`, `started`, or `lost` for a fenced one, whose task knows nothing of it yet.
        end_reason: why it was fenced.
    """

    token: int
    task_id: int
    kind: AttemptKind
    number: int
    agent_type: str
    backend: str
    executor: str
    state: AttemptState
    cancel_reason: str
    end_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensReserved(Event):
    """The database granted the tokens first, first + 1, ... first + count - 1."""

    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSliceLoaded(Event):
    """Some tasks of a plan were read, with the `blocks` edges that end at them: (task, on)."""

    plan: PlanSpec
    tasks: tuple[TaskSpec, ...]
    edges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLoaded(Event):
    """Every slice of the plan is in; it may run."""

    plan_id: int
    attempts: tuple[LiveAttempt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSet(Event):
    """How many attempts may be live at once; `agent_sessions_max` overrides `agent_default_max` by type."""

    sessions_max: int
    agent_default_max: int
    agent_sessions_max: Mapping[str, int]
    has_credentials: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorJoined(Event):
    """An executor of the agent type's pool takes up to `slots` sessions at once."""

    executor: str
    agent_type: str
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorsListed(Event):
    """The pools told every executor that lives; what ran on any other is lost."""

    alive: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorLost(Event):
    """The executor's process is gone; its sessions may still have children."""

    executor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorRetired(Event):
    """The pool wants to end an executor; it may, if nothing is live on it."""

    executor: str
    request_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(Event):
    """The executor holds a stored start for the token."""

    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(Event):
    """The executor stored a result for the token."""

    token: int
    state: AttemptState
    failure_class: FailureClass | None
    summary: str
    cost_micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLost(Event):
    """The attempt will never report: its process tree is proven gone, or it never started."""

    token: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatsRead(Event):
    """The beats of live leases, by token."""

    beats: Mapping[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseReturned(Event):
    """The database answers again; leases get a fresh count, because nobody could renew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AffinityRow:
    """History of one (agent type, task type, domain)."""

    agent_type: str
    task_type: str
    domain: str
    attempts: int
    success: float
    duration_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AffinityRead(Event):
    """Rows of the affinity table that changed since the last reading."""

    rows: tuple[AffinityRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requested(Event):
    """A person or program asks for a change of one plan or task; answered after the commit.

    Attributes:
        kind: one of `cancel_task`, `retry_task`, `release_task`, `cancel_plan`, `pause_plan`, `resume_plan`.
        task_id: 0 for requests about a plan.
    """

    request_id: int
    kind: str
    plan_id: int
    task_id: int = 0
    reason: str = ""
    until_task: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Event):
    """Time passed. Drives every timeout."""
