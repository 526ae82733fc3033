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
    VERIFYING = "verifying"  #: its work is in; its gate, then its review, is not through
    MERGING = "merging"  #: verified, its change is not on the branch
    DONE = "done"
    FAILED = "failed"  #: dead letter: out of attempts, or not retryable
    HELD = "held"  #: waits for the named reason to go away
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  #: given up on, and what depends on it goes on without it


#: States that a task leaves only by a person's request.
SETTLED = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED})

#: A container counts a child as closed in these; a failed or held child keeps it open.
CLOSED = frozenset({TaskState.DONE, TaskState.CANCELLED, TaskState.SKIPPED})

#: A dependency on a task is met in these, and in no other.
SATISFIED = frozenset({TaskState.DONE, TaskState.SKIPPED})


class HoldReason(StrEnum):
    """Why a task is held."""

    BUDGET = "budget"
    APPROVAL = "approval"
    MANUAL = "manual"  #: a person does it
    BY_REQUEST = "by request"  #: a person asked to hold it
    NO_CREDENTIALS = "no credentials"
    CANNOT_PROVE_DEAD = "cannot-prove-dead"  #: its session may still run where nobody answers
    LOST = "lost while it ran"  #: its plan wants a person to look before it starts again
    POISON = "poison"  #: lost three times in a row
    ELSEWHERE = "in progress elsewhere"
    BLOCKED_IN_PLAN = "blocked in the plan"


class AttemptKind(StrEnum):
    """What an attempt does for its task."""

    WORK = "work"
    GATE = "gate"  #: runs the `verify:` lines
    REVIEW = "review"  #: another agent type judges the work


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


class RetryLost(StrEnum):
    """When a task may start again after a loss of an attempt that had started."""

    PROVEN = "proven"  #: once its process tree is proven gone; else a person decides
    ALWAYS = "always"  #: also when the proof cannot be had: the work is harmless twice
    NEVER = "never"  #: a person decides each time: the work must not be done twice


class Proof(StrEnum):
    """What a node says of the process tree of an attempt."""

    GONE = "gone"  #: no process of it is left
    UNPROVEN = "unproven"  #: the node does not answer, or something is left
    NODE_DEAD = "node dead"  #: the cluster has declared the node dead


class BreakerState(StrEnum):
    """Whether an agent type gets work."""

    CLOSED = "closed"
    OPEN = "open"  #: nothing starts until its time is over
    HALF_OPEN = "half-open"  #: one probe may run
