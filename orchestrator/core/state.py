"""What the scheduler knows: plain data with no behaviour beyond reading it.

Only `machine.py` and its helpers change it, and only while handling an event.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.core.commands import Command, RecordEvent
from orchestrator.core.events import AffinityRow
from orchestrator.core.limits import Bounds
from orchestrator.core.ready import PlanQueue
from orchestrator.core.task import Task
from orchestrator.core.words import (
    BUDGET_LOWERED,
    AttemptKind,
    AttemptState,
    BreakerState,
    PlanState,
    TaskState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings of the core. Durations in milliseconds.

    Attributes:
        backoff_ms: delay before the 2nd, 3rd, ... try; the last one repeats.
        rate_limited_backoff_ms: the same after the 1st, 2nd, ... rate limit in a row.
        timeout_ms, grace_ms: longest time of an attempt, and what its executor then gets to end it; past
            both, and `timeout_margin_ms`, it is ended without the executor.
        wait_max_ms: what a session with a model may wait beside that, for leave to ask it.
        lease_ms, lease_grace_ms: a lease whose beat stands still for both together is over.
        prove_retry_ms: pause before an unproven end is looked into again.
        prove_patience_ms: time after the end of a lease for which a proof is waited for.
        breaker_failures: tasks failing in a row, without a success between, that open a breaker; 0 = never.
        breaker_open_ms: time until an open breaker lets a probe through.
        attempt_cost_micros: most that an attempt may spend; 0 = no bound.
        task_budget_micros: most that the attempts of a task may spend that names no budget; 0 = no bound.
        fuse_micros: most that a plan may spend without a task being done; 0 = no bound.
    """

    losses_max: int = 3
    backoff_ms: tuple[int, ...] = (1000, 2000, 4000, 8000, 16000)
    rate_limited_backoff_ms: tuple[int, ...] = (1000, 2000, 4000, 8000, 16000, 32000, 60000)
    jitter: float = 0.1
    seed: int = 0
    start_resend_ms: int = 8_000
    start_timeout_ms: int = 20_000
    timeout_ms: int = 7_200_000
    grace_ms: int = 5_000
    timeout_margin_ms: int = 30_000
    wait_max_ms: int = 0
    lease_ms: int = 120_000
    lease_grace_ms: int = 10_000
    prove_retry_ms: int = 1_000
    prove_patience_ms: int = 60_000
    breaker_failures: int = 5
    breaker_open_ms: int = 60_000
    attempt_cost_micros: int = 5_000_000
    task_budget_micros: int = 0
    fuse_micros: int = 0
    tokens_low: int = 500


@dataclass(slots=True, kw_only=True)
class Attempt:
    """A live attempt. `beat_at_ms` is when its beat was last seen to move.

    Attributes:
        is_counted_on: a budget was lowered, and what this one gives back is taken to be all it reserved.
        prove_reason: why its end is looked into; empty while it is trusted.
        prove_at_ms: when to look again; 0 while an answer is awaited.
        prove_since_ms: when it was first looked into.
    """

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
    started_at_ms: int = 0
    beat: int = 0
    is_resent: bool = False
    cancel_reason: str = ""
    is_counted_on: bool = False
    reserved_micros: int = 0
    prove_reason: str = ""
    prove_at_ms: int = 0
    prove_since_ms: int = 0

    @property
    def is_given_up(self) -> bool:
        """Whether its task is to end with it, because somebody has cancelled or ticked that."""
        return self.cancel_reason not in {"", BUDGET_LOWERED}


@dataclass(slots=True, kw_only=True)
class Purse:
    """What was spent of a budget, and what live attempts may yet spend, in millionths of a US dollar."""

    spent: int = 0
    reserved: int = 0


@dataclass(slots=True, kw_only=True)
class Plan:
    """A plan in memory. `counts` are its leaves by state.

    Attributes:
        fruitless_micros: spent since a task of it was last done (core/fuse.py).
        proposed_micros: of what its purse has spent, the part that was paid for proposals.
        wanted: leaves that `until_task` needs; None = all.
        ran: stride: attempts leased, with a head start for whoever comes or comes back.
        is_idle: after the last event that touched it, nothing of it was live and nothing could start.
        offered: pools whose order (core/fairness.py) has an entry of this plan.
        is_parked: it was left out of an order because a limit or its budget was reached.
    """

    plan_id: int
    tenant_id: str
    state: PlanState
    budget_micros: int
    purse: Purse
    until_task: int
    fruitless_micros: int = 0
    proposed_micros: int = 0
    is_loaded: bool = False
    live: int = 0
    counts: Counter[TaskState] = field(default_factory=Counter)
    task_ids: list[int] = field(default_factory=list)
    wanted: frozenset[int] | None = None
    queue: PlanQueue = field(default_factory=PlanQueue)
    ran: int = 0
    is_idle: bool = True
    offered: set[str] = field(default_factory=set)
    is_parked: bool = False


@dataclass(slots=True, kw_only=True)
class Tenant:
    """A tenant in memory. `ran`: stride, as of plans; `live`: its live attempts."""

    ran: int = 0
    live: int = 0
    is_parked: bool = False
    purse: Purse = field(default_factory=Purse)


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


@dataclass(slots=True, kw_only=True)
class Pool:
    """The executors of an agent type, and the order in which plans get their slots.

    Attributes:
        live: live attempts, also on executors that are gone.
        idle: heap of (-free slots, executor); an entry counts while it is true. `listed`: what is in it.
        tenants: heap of (ran, tenant); `plans`: by tenant, heap of (ran, plan id). An entry may be too low,
            never too high, because what has run only grows (core/fairness.py).
        present: tenants in `tenants`.
    """

    executors: dict[str, Executor] = field(default_factory=dict)
    live: int = 0
    idle: list[tuple[int, str]] = field(default_factory=list)
    listed: set[tuple[int, str]] = field(default_factory=set)
    tenants: list[tuple[int, str]] = field(default_factory=list)
    present: set[str] = field(default_factory=set)
    plans: dict[str, list[tuple[int, int]]] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Breaker:
    """The circuit breaker of an agent type.

    Attributes:
        failed: tasks that failed since the last success, as far as they matter.
        probe: token of the one attempt that runs while it is half-open, or 0.
    """

    state: BreakerState = BreakerState.CLOSED
    opened_at_ms: int = 0
    failed: set[int] = field(default_factory=set)
    probe: int = 0


#: Tenant of what belongs to no tenant's plan.
EVERYBODY = "local"

#: How many ended tokens are remembered, to tell a repeated report from a stranger's.
ENDED_REMEMBERED = 20_000


@dataclass(slots=True, kw_only=True)
class State:
    """All of the scheduler's memory, and the commands of the event being handled.

    Attributes:
        is_paused: nothing starts, in any plan; pause_reason: what the person said who asked for it.
        today: the spend of everybody on `day`, counted from 1970 in UTC.
        is_short: a plan was left out because its tenant or the day could not bear an attempt.
        timers: heap of (not_before_ms, task id) of tasks in back-off; an entry counts while it is true.
        pools: by agent type, and the pool of gates.
        affinity: how each (agent type, task type, domain) has done, kept in step with the tables. Nothing
            asks it yet: routing at dispatch, which is planned, will decide by it without reading them.
        ended: tokens that ended lately, oldest first.
        out: commands of the event being handled, in order.
        dirty: tasks it changed, with the version that their rows have.
        touched: plans it changed.
    """

    policy: Policy
    bounds: Bounds = field(default_factory=Bounds)
    keyless: frozenset[str] = frozenset()
    not_installed: frozenset[str] = frozenset()
    is_paused: bool = False
    pause_reason: str = ""
    plans: dict[int, Plan] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    attempts: dict[int, Attempt] = field(default_factory=dict)
    executors: dict[str, Executor] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    tenants: dict[str, Tenant] = field(default_factory=dict)
    breakers: dict[str, Breaker] = field(default_factory=dict)
    affinity: dict[tuple[str, str, str], AffinityRow] = field(default_factory=dict)
    today: Purse = field(default_factory=Purse)
    day: int = 0
    is_short: bool = False
    timers: list[tuple[int, int]] = field(default_factory=list)
    early_edges: dict[int, list[int]] = field(default_factory=dict)  #: dependents of tasks not loaded yet
    early_proposals: dict[int, int] = field(default_factory=dict)  #: what those of plans not loaded yet cost
    #: Oldest first; a plain dict looks ever longer for the oldest of its keys.
    ended: OrderedDict[int, AttemptState] = field(default_factory=OrderedDict)
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
        return sum(map(len, self.tokens))

    def take_token(self) -> int:
        """Take the next token; there must be one."""
        block = self.tokens[0]
        if len(block) == 1:
            self.tokens.pop(0)
        else:
            self.tokens[0] = block[1:]
        return block[0]

    def pool(self, name: str) -> Pool:
        """Return the pool of the name; a new one if it was not heard of."""
        found = self.pools.get(name)
        if found is None:
            found = self.pools[name] = Pool()
        return found

    def tenant(self, tenant_id: str) -> Tenant:
        """Return the tenant; a new one if it was not heard of."""
        found = self.tenants.get(tenant_id)
        if found is None:
            found = self.tenants[tenant_id] = Tenant()
        return found

    def record(
        self,
        kind: str,
        plan: Plan,
        *,
        task_id: int = 0,
        token: int = 0,
        payload: Mapping[str, object] | None = None,
    ) -> None:
        """Order an event of a plan to be recorded."""
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

    def record_globally(self, kind: str, payload: Mapping[str, object]) -> None:
        """Order an event that belongs to no plan to be recorded."""
        self.out.append(RecordEvent(type=kind, tenant_id=EVERYBODY, plan_id=0, payload=payload))

    def touch(self, task: Task) -> None:
        """Remember that the row of the task must be written."""
        self.dirty.setdefault(task.task_id, task.version)
        self.touched.add(task.plan_id)
