"""What the scheduler knows: plain data with no behaviour beyond reading it.

Only `machine.py` and its helpers change it, and only while handling an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.core.commands import Command, RecordEvent
from orchestrator.core.events import AffinityRow
from orchestrator.core.ready import PlanQueue
from orchestrator.core.words import AttemptKind, AttemptState, HoldReason, PlanState, TaskState

#: Pool that runs gates; they count against the total limit, never against the agent's.
GATE_POOL = "gate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings of the core. Durations in milliseconds.

    Attributes:
        backoff_ms: delay before the 2nd, 3rd, ... try; the last one repeats.
        attempt_cost_micros: reserved from the plan's budget while a model attempt is live.
    """

    losses_max: int = 3
    backoff_ms: tuple[int, ...] = (1000, 2000, 4000, 8000, 16000)
    jitter: float = 0.1
    seed: int = 0
    start_resend_ms: int = 8_000
    start_timeout_ms: int = 20_000
    lease_ms: int = 120_000
    lease_grace_ms: int = 10_000
    attempt_cost_micros: int = 5_000_000
    tokens_low: int = 500


@dataclass(slots=True, kw_only=True)
class Task:
    """A task in memory. `dependents` are released when it is done; `token` is its live attempt or 0."""

    task_id: int
    plan_id: int
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
    unmet: int = 0
    open_children: int = 0  #: children of a container that are not done, cancelled or skipped
    done_children: int = 0
    dependents: list[int] = field(default_factory=list)
    token: int = 0

    @property
    def wants(self) -> AttemptKind:
        """The kind of its next attempt."""
        return AttemptKind.GATE if self.state is TaskState.VERIFYING else AttemptKind.WORK

    @property
    def pool(self) -> str:
        """The pool that runs its next attempt."""
        return GATE_POOL if self.state is TaskState.VERIFYING else self.agent_type


@dataclass(slots=True, kw_only=True)
class Attempt:
    """A live attempt. `beat_at_ms` is when its beat was last seen to move."""

    token: int
    task_id: int
    plan_id: int
    kind: AttemptKind
    number: int
    agent_type: str
    backend: str
    executor: str
    state: AttemptState
    leased_at_ms: int
    beat_at_ms: int
    beat: int = 0
    is_resent: bool = False
    cancel_reason: str = ""
    reserved_micros: int = 0
    is_being_proven: bool = False  #: its end is being looked into; no timeout asks again


@dataclass(slots=True, kw_only=True)
class Plan:
    """A plan in memory. `counts` are its leaves by state."""

    plan_id: int
    tenant_id: str
    state: PlanState
    budget_micros: int
    spent_micros: int
    until_task: int
    is_loaded: bool = False
    reserved_micros: int = 0
    live: int = 0
    counts: Counter[TaskState] = field(default_factory=Counter)
    task_ids: list[int] = field(default_factory=list)
    wanted: frozenset[int] | None = None  #: leaves that `until_task` needs; None = all
    queue: PlanQueue = field(default_factory=PlanQueue)
    ran: int = 0  #: stride: attempts leased since it was active, with a head start for late comers


@dataclass(slots=True, kw_only=True)
class Executor:
    """An executor that takes sessions of one pool."""

    name: str
    pool: str
    slots: int
    tokens: set[int] = field(default_factory=set)

    @property
    def free(self) -> int:
        """Slots that are free."""
        return self.slots - len(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How many attempts may be live at once."""

    sessions_max: int = 16
    agent_default_max: int = 16
    agent_sessions_max: Mapping[str, int] = field(default_factory=dict)
    has_credentials: bool = False

    def of(self, pool: str) -> int:
        """Return the limit of a pool; gates have none of their own."""
        if pool == GATE_POOL:
            return self.sessions_max
        return self.agent_sessions_max.get(pool, self.agent_default_max)


#: How many ended tokens are remembered, to tell a repeated report from a stranger's.
ENDED_REMEMBERED = 20_000


@dataclass(slots=True, kw_only=True)
class State:
    """All of the scheduler's memory, and the commands of the event being handled.

    Attributes:
        timers: heap of (not_before_ms, task id) of tasks in back-off; an entry counts while it is true.
        live_by_pool: live attempts by pool.
        ended: tokens that ended lately, oldest first.
        out: commands of the event being handled, in order.
        dirty: tasks it changed, with the version that their rows have.
        touched: plans it changed.
    """

    policy: Policy
    limits: Limits = field(default_factory=Limits)
    plans: dict[int, Plan] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    attempts: dict[int, Attempt] = field(default_factory=dict)
    executors: dict[str, Executor] = field(default_factory=dict)
    pools: dict[str, dict[str, Executor]] = field(default_factory=dict)
    live_by_pool: Counter[str] = field(default_factory=Counter)
    ran_by_tenant: Counter[str] = field(default_factory=Counter)
    affinity: dict[tuple[str, str, str], AffinityRow] = field(default_factory=dict)
    timers: list[tuple[int, int]] = field(default_factory=list)
    early_edges: dict[int, list[int]] = field(default_factory=dict)  #: dependents of tasks not loaded yet
    ended: dict[int, AttemptState] = field(default_factory=dict)
    tokens: list[range] = field(default_factory=list)
    is_reserving: bool = False
    ticket: int = 0
    late_reports: int = 0
    out: list[Command] = field(default_factory=list)
    dirty: dict[int, int] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)

    @property
    def tokens_left(self) -> int:
        """How many tokens may still be given out."""
        return sum(len(block) for block in self.tokens)

    def take_token(self) -> int:
        """Take the next token; there must be one."""
        block = self.tokens[0]
        if len(block) == 1:
            self.tokens.pop(0)
        else:
            self.tokens[0] = block[1:]
        return block[0]

    def record(
        self,
        kind: str,
        plan: Plan,
        *,
        task_id: int = 0,
        token: int = 0,
        payload: Mapping[str, object] | None = None,
    ) -> None:
        """Order a row in the event table."""
        self.out.append(
            RecordEvent(
                type=kind,
                tenant_id=plan.tenant_id,
                plan_id=plan.plan_id,
                task_id=task_id,
                token=token,
                payload=payload or {},
            )
        )

    def touch(self, task: Task) -> None:
        """Remember that the row of the task must be written."""
        self.dirty.setdefault(task.task_id, task.version)
        self.touched.add(task.plan_id)
