"""Everything the core may order, in the imperative. Its only output.

Row commands are written in one transaction; only after its commit are the effects carried out.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.core.limits import Overrides
from orchestrator.core.values import value
from orchestrator.core.words import (
    AttemptKind,
    AttemptState,
    BreakerState,
    DependencyDecision,
    FailureClass,
    PlanState,
    TaskState,
)


@value
class Command:
    """Base of all commands."""


@value
class SaveTask(Command):
    """Write the state of a task; the row must still have version `expected`."""

    task_id: int
    state: TaskState
    reason: str
    not_before_ms: int
    attempts_used: int
    losses: int
    wants: AttemptKind
    expected: int
    version: int


@value
class ReleaseTask(Command):
    """Write that a person has let a task through that its author had wanted to be held."""

    task_id: int


@value
class SaveTaskBudget(Command):
    """Write what a person lets all attempts of a task spend; 0 = as its author says."""

    task_id: int
    budget_micros: int


@value
class SavePlan(Command):
    """Write the state of a plan, its scope, its budget and what it has spent without progress."""

    plan_id: int
    state: PlanState
    until_task: int
    budget_micros: int
    fruitless_micros: int = 0


@value
class EndRevision(Command):
    """Write that the plan runs by the revision now."""

    revision_id: int


@value
class LeaseAttempt(Command):
    """Insert an attempt and its lease. `reserved_micros`: what it may spend; 0 = no bound."""

    token: int
    tenant_id: str
    plan_id: int
    task_id: int
    kind: AttemptKind
    number: int
    agent_type: str
    backend: str
    executor: str
    reserved_micros: int = 0


@value
class TakeResult(Command):
    """Write that the stored result of an attempt is taken: its lease goes."""

    token: int


@value
class EndAttempt(Command):
    """Write the end of an attempt that stored no result; its lease goes.

    Attributes:
        kept_micros: what of its reservation counts as spent, because nobody knows better.
    """

    token: int
    state: AttemptState
    end_reason: str
    failure_class: FailureClass
    kept_micros: int = 0


@value
class AskCancel(Command):
    """Write the wish to cancel on the lease; the executor reads it with its next beat."""

    token: int
    reason: str


@value
class SaveDependency(Command):
    """Write what a person has decided about two tasks, in place of what was read."""

    tenant_id: str
    plan_id: int
    task_id: int
    on_task_id: int
    decision: DependencyDecision


@value
class SaveBreaker(Command):
    """Write the circuit breaker of an agent type."""

    agent_type: str
    state: BreakerState
    failures: int
    opened_at_ms: int


@value
class SaveControls(Command):
    """Write what people have set for everything."""

    is_paused: bool
    pause_reason: str = ""
    overrides: Overrides


@value
class SaveAnswer(Command):
    """Write the answer of a request under its key, in the transaction of what it changed."""

    tenant_id: str
    key: str
    digest: str
    result: Mapping[str, object]
    error: str
    remedy: str


@value
class RecordEvent(Command):
    """Record that something happened."""

    type: str
    tenant_id: str
    plan_id: int
    task_id: int = 0
    token: int = 0
    payload: Mapping[str, object]


@value
class RecordNote(Command):
    """Record an event that tells of a note, unless one does."""

    note_id: int


RowCommand = (
    SaveTask
    | ReleaseTask
    | SaveTaskBudget
    | SavePlan
    | EndRevision
    | LeaseAttempt
    | TakeResult
    | EndAttempt
    | AskCancel
    | SaveDependency
    | SaveBreaker
    | SaveControls
    | SaveAnswer
    | RecordEvent
    | RecordNote
)


@value
class StartAttempt(Command):
    """Tell the executor to start the leased attempt."""

    token: int
    executor: str


@value
class CancelAttempt(Command):
    """Tell the executor to stop the attempt."""

    token: int
    executor: str
    reason: str


@value
class ProveGone(Command):
    """Find out once what became of attempts that do not report.

    Answered by AttemptStarted, AttemptEnded, AttemptLost or AttemptUnproven.

    Attributes:
        reason: `start timeout` (if it did start after all, all is well); any other: whatever still runs is
            ended and confirmed gone first.
    """

    executor: str
    tokens: tuple[int, ...]
    reason: str


@value
class FenceAttempt(Command):
    """Take the token away without a proof; answered by AttemptLost, or by AttemptEnded if a result is in."""

    token: int
    reason: str


@value
class ReserveTokens(Command):
    """Fewer tokens are left than may be needed soon."""


@value
class Answer(Command):
    """Answer a request, once everything before it is committed.

    Attributes:
        error: empty when it was done; remedy: what to do about it.
        is_absent: its plan is not in memory; once it is, the same may be asked again.
    """

    request_id: int
    result: Mapping[str, object]
    error: str = ""
    remedy: str = ""
    is_absent: bool = False


Effect = StartAttempt | CancelAttempt | ProveGone | FenceAttempt | ReserveTokens | Answer
