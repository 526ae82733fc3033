"""The closed vocabularies of the core: states, kinds, classes and reasons.

The values are what stands in the tables, the events and the API; nobody spells them a second time.
"""

from __future__ import annotations

from enum import StrEnum


class PlanState(StrEnum):
    """Where a plan stands."""

    SUBMITTED = "submitted"  #: stored and inert until the scheduler has taken it whole
    ACTIVE = "active"
    PAUSED = "paused"  #: nothing new starts; what runs may end
    DONE = "done"  #: every task is done, skipped or cancelled
    STALLED = "stalled"  #: nothing runs and nothing can start without a person
    CANCELLED = "cancelled"


#: Plans that need nobody any more, until somebody asks for something again.
FINISHED = frozenset({PlanState.DONE, PlanState.CANCELLED})

#: Nothing more happens by itself in a plan that is in one of these.
AT_REST = FINISHED | {PlanState.STALLED, PlanState.PAUSED}


class TaskKind(StrEnum):
    """What a node of a plan is."""

    LEAF = "leaf"  #: atomic: executed by an agent
    CONTAINER = "container"  #: rolls up its children


class TaskState(StrEnum):
    """Where a task stands."""

    WAITING = "waiting"  #: a dependency is not done
    READY = "ready"  #: may start as soon as a slot is free and its back-off is over
    RUNNING = "running"  #: a work attempt is live
    VERIFYING = "verifying"  #: its work is in, its gate is not through
    MERGING = "merging"  #: verified, its change is not on the branch
    DONE = "done"
    FAILED = "failed"  #: dead letter: out of attempts, or not retryable
    HELD = "held"  #: waits for the named reason to go away
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


#: States that a task leaves only by a person's request.
SETTLED = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED})


class HoldReason(StrEnum):
    """Why a task is held."""

    BUDGET = "budget"
    APPROVAL = "approval"
    MANUAL = "manual"
    NO_CREDENTIALS = "no credentials"
    CANNOT_PROVE_DEAD = "cannot-prove-dead"
    POISON = "poison"  #: lost three times in a row
    ELSEWHERE = "in progress elsewhere"
    BLOCKED_IN_PLAN = "blocked in the plan"


class AttemptKind(StrEnum):
    """What an attempt does for its task."""

    WORK = "work"
    GATE = "gate"
    REVIEW = "review"


class AttemptState(StrEnum):
    """Where an attempt stands."""

    LEASED = "leased"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    REJECTED = "rejected"  #: refused by the fence


#: At most one attempt of a task is in one of these; the database enforces it.
LIVE = frozenset({AttemptState.LEASED, AttemptState.STARTED})


class FailureClass(StrEnum):
    """Who is to blame for a failed attempt; each class has its own policy (core/retry.py)."""

    INFRASTRUCTURE = "infrastructure"
    RATE_LIMITED = "rate_limited"
    BUDGET = "budget"
    WORKSPACE = "workspace"
    AGENT = "agent"
    GATE = "gate"
    CONFLICT = "conflict"
    PLAN_DEFECT = "plan_defect"
    TIMEOUT = "timeout"
