"""Everything that may happen to the scheduler, in the past tense. The only input of the core.

When it happened is told beside it, by whoever hands it in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from orchestrator.core.limits import Limits, Overrides
from orchestrator.core.task import Task
from orchestrator.core.values import value
from orchestrator.core.words import AttemptKind, AttemptState, BreakerState, FailureClass, PlanState


@value
class Event:
    """Base of all events."""


@value
class PlanSpec:
    """What the core knows of a plan. Money is in millionths of a US dollar; 0 = no budget.

    Attributes:
        spent_micros: by its attempts that have ended, and for proposals; `proposed_micros` is the latter.
        until_task: work only for this task; 0 = the whole plan.
        fruitless_micros: spent since a task of it was last done.
    """

    plan_id: int
    tenant_id: str
    state: PlanState
    budget_micros: int
    spent_micros: int
    until_task: int
    fruitless_micros: int = 0
    proposed_micros: int = 0


@value
class LiveAttempt:
    """An attempt that still had a lease when the plan was read: a live one, or one whose end is not taken.

    Attributes:
        state: `leased`, `started`, or `lost` for a fenced one, whose task knows nothing of it yet. One whose
            result is stored counts as `started`: its result is found as any that nobody reported.
        started_at_ms: 0 if it has not started.
        reserved_micros: what it may spend, or has spent if its result is stored; 0 = no bound.
        end_reason: of a fenced one, why it was.
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
    started_at_ms: int = 0
    reserved_micros: int = 0
    end_reason: str = ""


@value
class TokensReserved(Event):
    """The database granted the tokens first, first + 1, ... first + count - 1."""

    first: int
    count: int


@value
class PlanSliceLoaded(Event):
    """Some tasks of a plan were read, with the `blocks` edges that end at them: (task, on).

    The tasks are handed over: from now on they are the core's.
    """

    plan: PlanSpec
    tasks: tuple[Task, ...]
    edges: tuple[tuple[int, int], ...]


@value
class PlanLoaded(Event):
    """Every slice of the plan is in; it may run."""

    plan_id: int
    attempts: tuple[LiveAttempt, ...] = ()


@value
class PlanRevised(Event):
    """The tables hold a new text of a plan that is in memory: all its tasks and `blocks` edges (task, on).

    The tasks are handed over; of those that are known only what the author wrote counts.
    """

    request_id: int
    revision_id: int
    plan_id: int
    tasks: tuple[Task, ...]
    edges: tuple[tuple[int, int], ...]


@value
class LimitsSet(Event):
    """The settings say how many attempts may be live at once, and what can work here.

    Attributes:
        keyless: backends that ask a model for which there is no key.
        not_installed: backends that need a program which is not on this machine.
    """

    limits: Limits
    keyless: frozenset[str] = frozenset()
    not_installed: frozenset[str] = frozenset()


@value
class BreakerRow:
    """A circuit breaker as the tables have it."""

    agent_type: str
    state: BreakerState
    failures: int
    opened_at_ms: int


@value
class ControlsRead(Event):
    """What people set while an earlier scheduler ran, the breakers that it tripped, and what was spent.

    Attributes:
        spent: by tenant, in all its plans; `spent_today`: by everybody since midnight, UTC; both by attempts
            whose end is written.
    """

    is_paused: bool
    pause_reason: str = ""
    overrides: Overrides
    breakers: tuple[BreakerRow, ...] = ()
    spent: Mapping[str, int] = field(default_factory=dict)
    spent_today: int = 0


@value
class ExecutorJoined(Event):
    """An executor of the agent type's pool takes up to `slots` sessions at once."""

    executor: str
    agent_type: str
    slots: int


@value
class ExecutorsListed(Event):
    """The pools told every executor that lives; what ran on any other is lost."""

    alive: frozenset[str]


@value
class ExecutorLost(Event):
    """The executor's process is gone; its sessions may still have children."""

    executor: str


@value
class ExecutorRetired(Event):
    """The pool wants to end an executor; it may, if nothing is live on it."""

    executor: str
    request_id: int


@value
class AttemptStarted(Event):
    """The executor holds a stored start for the token."""

    token: int


@value
class AttemptEnded(Event):
    """The executor stored a result for the token."""

    token: int
    state: AttemptState
    failure_class: FailureClass | None
    summary: str
    cost_micros: int


@value
class ProposalsPaid(Event):
    """Models were asked to decompose tasks of a plan; all that this has cost so far."""

    plan_id: int
    cost_micros: int


@value
class NotesWritten(Event):
    """There are notes of which no event tells."""

    note_ids: tuple[int, ...]


@value
class AttemptLost(Event):
    """The attempt will never report: its process tree is proven gone, or it never started."""

    token: int
    reason: str


@value
class AttemptUnproven(Event):
    """Nobody could prove that the attempt's process tree is gone. It is asked again, or decided without."""

    token: int
    is_node_dead: bool


@value
class BeatsRead(Event):
    """The beats of live leases, by token."""

    beats: Mapping[int, int]


@value
class DatabaseReturned(Event):
    """The database answers again; leases get a fresh count, because nobody could renew."""


@value
class DatabaseHung(Event):
    """The database took `for_ms` too long over a write; meanwhile nobody could store anything."""

    for_ms: int


@value
class AffinityRow:
    """History of one (agent type, task type, domain)."""

    agent_type: str
    task_type: str
    domain: str
    attempts: int
    success: float
    duration_ms: float


@value
class AffinityRead(Event):
    """Rows of the affinity table that changed since the last reading."""

    rows: tuple[AffinityRow, ...]


@value
class Requested(Event):
    """A person or program asks for a change; answered after the commit.

    Attributes:
        kind: one of `core.requests.REQUEST_KINDS`.
        plan_id: 0 for requests about everything.
        task_id: 0 for requests about a plan.
        on_task: of `add_dependency` and `drop_dependency`: what the task waits for, or is not to wait for.
        until_task: of `resume_plan`: the task to work up to; 0 = the whole plan.
        budget_micros: of `set_budget`, 0 = no budget; of `set_task_budget`, 0 = as its author says.
        overrides: of `set_limits`.
        tenant_id: of whoever asks; only plans of this tenant are changed.
        key, digest: name the answer, so that the same request of a tenant asked again gets the same one; an
            empty key names none.
    """

    request_id: int
    kind: str
    tenant_id: str
    plan_id: int = 0
    task_id: int = 0
    reason: str = ""
    on_task: int = 0
    until_task: int = 0
    budget_micros: int = 0
    overrides: Overrides | None = None
    key: str = ""
    digest: str = ""


@value
class Tick(Event):
    """Time passed. Drives every timeout."""
