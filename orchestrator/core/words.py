"""The closed vocabularies of the core: states, kinds, classes and reasons.

The values are what stands in the tables, the events and the API; nobody spells them a second time.
"""

from __future__ import annotations

from enum import StrEnum


class PlanState(StrEnum):
    """Where a plan stands."""

    SUBMITTED = "submitted"  #: stored and inert until the scheduler has taken it whole
    ACTIVE = "active"  #: its tasks start as soon as they may
    PAUSED = "paused"  #: nothing new starts; what runs may end
    DONE = "done"  #: every task is done, skipped or cancelled
    STALLED = "stalled"  #: nothing runs and nothing can start without a person
    CANCELLED = "cancelled"  #: a person has ended it


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
    MERGING = "merging"  #: verified, its change is not on the branch; planned, nothing merges yet
    DONE = "done"  #: and what depends on it may start
    FAILED = "failed"  #: dead letter: out of attempts, or not retryable
    HELD = "held"  #: waits for the named reason to go away
    CANCELLED = "cancelled"  #: a person has ended it; what depends on it waits on
    SKIPPED = "skipped"  #: given up on, and what depends on it goes on without it


#: States that a task leaves only by a person's request.
SETTLED = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED})

#: A task in one of these relies on its dependencies.
AT_WORK = frozenset({TaskState.RUNNING, TaskState.VERIFYING, TaskState.MERGING})

#: A container counts a child as closed in these; a failed or held child keeps it open.
CLOSED = frozenset({TaskState.DONE, TaskState.CANCELLED, TaskState.SKIPPED})

#: A dependency on a task is met in these, and in no other.
SATISFIED = frozenset({TaskState.DONE, TaskState.SKIPPED})


class DependencyDecision(StrEnum):
    """What a person has decided about two tasks; it outlives what is read in the plan."""

    BLOCKS = "blocks"  #: the one waits for the other
    DROPPED = "dropped"  #: they have nothing to do with each other


class HoldReason(StrEnum):
    """Why a task is held."""

    BUDGET = "budget"  #: its plan has spent all that it may
    TASK_BUDGET = "task budget"  #: its attempts have spent all that they may together
    ATTEMPT_BUDGET = "attempt budget"  #: its last attempt has spent all that one may
    NO_PROGRESS = "no progress"  #: its plan has spent what it may without a task being done
    APPROVAL = "approval"  #: a person must approve it before it starts
    MANUAL = "manual"  #: a person does it
    BY_REQUEST = "by request"  #: a person asked to hold it
    NO_CREDENTIALS = "no credentials"  #: it needs a model and there is no key
    NOT_INSTALLED = "not installed"  #: its backend needs a program that is not here
    CANNOT_PROVE_DEAD = "cannot-prove-dead"  #: its session may still run where nobody answers
    LOST = "lost while it ran"  #: its plan wants a person to look before it starts again
    POISON = "poison"  #: lost three times in a row
    ELSEWHERE = "in progress elsewhere"  #: the plan marks it so, `[~]`
    BLOCKED_IN_PLAN = "blocked in the plan"  #: the plan marks it so, `[!]`


#: Reason of a task that its author has ticked in the plan's file.
BY_FILE = "by file"

#: Why an attempt is to end that a lowered budget no longer bears; its task goes back to the queue.
BUDGET_LOWERED = "its budget was lowered"

#: Reason of a task that its author has taken out of the plan.
REMOVED = "removed from plan"

#: Reason of a task whose plan was cancelled, unless the person who did so gave another.
PLAN_CANCELLED = "plan cancelled"


class AttemptKind(StrEnum):
    """What an attempt does for its task."""

    WORK = "work"
    GATE = "gate"  #: runs the `verify:` lines
    REVIEW = "review"  #: another agent type judges the work


class AttemptState(StrEnum):
    """Where an attempt stands."""

    LEASED = "leased"  #: its row is written; its executor is being told
    STARTED = "started"  #: its executor has stored the start
    SUCCEEDED = "succeeded"  #: its result says so
    FAILED = "failed"  #: its result says so, with a failure class
    TIMED_OUT = "timed_out"  #: it was ended after its longest time
    CANCELLED = "cancelled"  #: by request
    INTERRUPTED = "interrupted"  #: its executor stopped in good order, or its budget was lowered
    LOST = "lost"  #: it will never report; its token was taken away


#: At most one attempt of a task is in one of these; the database enforces it.
LIVE = frozenset({AttemptState.LEASED, AttemptState.STARTED})

#: The session of such an attempt had no say in its end; the next attempt goes on where it stood, if it can.
CUT_SHORT = frozenset({AttemptState.LOST, AttemptState.INTERRUPTED})


class FailureClass(StrEnum):
    """Who is to blame for a failed attempt; each class has its own policy (core/retry.py)."""

    INFRASTRUCTURE = "infrastructure"  #: a process, machine or network went away
    RATE_LIMITED = "rate_limited"  #: the provider of the model asked to wait
    BUDGET = "budget"  #: it reached its cap on money
    WORKSPACE = "workspace"  #: its place to work could not be made
    AGENT = "agent"  #: the session did not do what it was to do
    GATE = "gate"  #: a check or a review refused the work
    CONFLICT = "conflict"  #: the work does not fit what others have done meanwhile
    PLAN_DEFECT = "plan_defect"  #: the plan asks for what cannot be done
    TIMEOUT = "timeout"  #: it took too long, or was silent for too long


class RetryLost(StrEnum):
    """When a task may start again after a loss of an attempt that had started. Timeouts are no losses."""

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

    CLOSED = "closed"  #: all is well
    OPEN = "open"  #: nothing starts until its time is over
    HALF_OPEN = "half-open"  #: one probe may run
