"""Attempts that do not report: starts that do not come, beats that stand still, executors that are gone.

The end of such an attempt is looked into before anything follows from it. What is decided without a proof is
decided here: when its node is dead, or when the patience is over.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core.assign import note_idle
from orchestrator.core.commands import Answer, FenceAttempt, ProveGone, StartAttempt
from orchestrator.core.events import (
    AttemptUnproven,
    BeatsRead,
    DatabaseHung,
    ExecutorJoined,
    ExecutorLost,
    ExecutorRetired,
    ExecutorsListed,
)
from orchestrator.core.state import Attempt, Executor, State
from orchestrator.core.task import MODEL_BACKENDS
from orchestrator.core.words import AttemptState

#: Why the end of an attempt is looked into.
START_TIMEOUT = "start timeout"
EXECUTOR_LOST = "executor lost"
LEASE_EXPIRED = "lease expired"
TIMED_OUT = "timed out"

#: What is added to the reason when an attempt is ended without a proof that its processes are gone.
UNPROVEN = ", unproven"


def on_executor_joined(s: State, event: ExecutorJoined) -> None:
    """Count an executor in; a known one keeps what runs on it."""
    tokens = {a.token for a in s.attempts.values() if a.executor == event.executor}
    executor = Executor(name=event.executor, pool=event.agent_type, slots=event.slots, tokens=tokens)
    s.executors[event.executor] = executor
    s.pool(event.agent_type).executors[event.executor] = executor
    note_idle(s, executor)


def _forget_executor(s: State, name: str) -> None:
    executor = s.executors.pop(name, None)
    if executor is not None:
        del s.pools[executor.pool].executors[name]


def on_executor_lost(s: State, event: ExecutorLost, *, at_ms: int) -> None:
    """Give the executor nothing more, and have the end of what ran on it proven."""
    _lose(s, event.executor, at_ms=at_ms)


def on_executors_listed(s: State, event: ExecutorsListed, *, at_ms: int) -> None:
    """Lose every executor that is counted on and not alive."""
    known = set(s.executors) | {attempt.executor for attempt in s.attempts.values()}
    for name in sorted(known - event.alive):
        _lose(s, name, at_ms=at_ms)


def _lose(s: State, name: str, *, at_ms: int) -> None:
    _forget_executor(s, name)
    lost = (attempt for attempt in s.attempts.values() if attempt.executor == name)
    _look_into(s, lost, reason=EXECUTOR_LOST, at_ms=at_ms)


def on_executor_retired(s: State, event: ExecutorRetired) -> None:
    """Let the pool end an executor on which nothing is live."""
    executor = s.executors.get(event.executor)
    may_end = executor is None or not executor.tokens
    if may_end:
        _forget_executor(s, event.executor)
    s.out.append(Answer(request_id=event.request_id, result={"may_end": may_end}))


def on_beats_read(s: State, event: BeatsRead, *, at_ms: int) -> None:
    """Expire leases whose beat has stood still for the lease and its grace, on our own clock.

    Only what has started beats; what has not has its start timeout.
    """
    expired: list[Attempt] = []
    for token, beat in event.beats.items():
        attempt = s.attempts.get(token)
        if attempt is None:
            continue
        if beat != attempt.beat:
            attempt.beat, attempt.beat_at_ms = beat, at_ms
        elif attempt.state is AttemptState.STARTED and _is_over(s, attempt, at_ms=at_ms):
            expired.append(attempt)
    _look_into(s, expired, reason=LEASE_EXPIRED, at_ms=at_ms)


def _is_over(s: State, attempt: Attempt, *, at_ms: int) -> bool:
    return at_ms - attempt.beat_at_ms >= s.policy.lease_ms + s.policy.lease_grace_ms


def on_database_returned(s: State, *, at_ms: int) -> None:
    """Nobody could store a start or renew while the database was away: every lease is counted afresh.

    Nor a result: what should have ended meanwhile gets the margin for it once more.
    """
    for attempt in s.attempts.values():
        attempt.leased_at_ms = attempt.beat_at_ms = at_ms
        attempt.is_resent = False
        begun_ms = at_ms - _longest_ms(s, attempt) + s.policy.timeout_margin_ms
        attempt.started_at_ms = max(attempt.started_at_ms, begun_ms)


def on_database_hung(s: State, event: DatabaseHung, *, at_ms: int) -> None:
    """The time in which it hung counts for nobody; however slow it is, the rest of the time does."""
    for attempt in s.attempts.values():
        attempt.leased_at_ms = min(at_ms, attempt.leased_at_ms + event.for_ms)
        attempt.beat_at_ms = min(at_ms, attempt.beat_at_ms + event.for_ms)
        attempt.started_at_ms = min(at_ms, attempt.started_at_ms + event.for_ms)


def _look_into(s: State, attempts: Iterable[Attempt], *, reason: str, at_ms: int) -> None:
    """Have the end of attempts found out, one order for each executor."""
    tokens: dict[str, list[int]] = {}
    for attempt in attempts:
        if not attempt.prove_reason:
            attempt.prove_reason, attempt.prove_since_ms, attempt.prove_at_ms = reason, at_ms, 0
            tokens.setdefault(attempt.executor, []).append(attempt.token)
    for executor, group in tokens.items():
        s.out.append(ProveGone(executor=executor, tokens=tuple(group), reason=reason))


def on_attempt_unproven(s: State, event: AttemptUnproven, *, at_ms: int) -> None:
    """Look again after a pause, until its lease is over and its node dead or the patience at an end."""
    attempt = s.attempts.get(event.token)
    if attempt is None or not attempt.prove_reason:
        return
    policy = s.policy
    lease_end_ms = attempt.beat_at_ms + policy.lease_ms + policy.lease_grace_ms
    patience_end_ms = max(lease_end_ms, attempt.prove_since_ms) + policy.prove_patience_ms
    if at_ms < lease_end_ms or (at_ms < patience_end_ms and not event.is_node_dead):
        attempt.prove_at_ms = at_ms + policy.prove_retry_ms
        return
    # Past its lease an executor has ended its sessions, or its whole machine is gone.
    reason = attempt.prove_reason if event.is_node_dead else attempt.prove_reason + UNPROVEN
    s.out.append(FenceAttempt(token=attempt.token, reason=reason))


def watch_attempts(s: State, *, at_ms: int) -> None:
    """See to attempts that should have started or ended by now, and to those whose end is looked into."""
    unstarted: list[Attempt] = []
    overdue: list[Attempt] = []
    for attempt in s.attempts.values():
        if attempt.prove_reason:
            if attempt.prove_at_ms and at_ms >= attempt.prove_at_ms:
                attempt.prove_at_ms = 0
                s.out.append(
                    ProveGone(executor=attempt.executor, tokens=(attempt.token,), reason=attempt.prove_reason)
                )
        elif attempt.state is AttemptState.LEASED:
            if _is_start_overdue(s, attempt, at_ms=at_ms):
                unstarted.append(attempt)
        elif at_ms - attempt.started_at_ms >= _longest_ms(s, attempt):
            overdue.append(attempt)
    _look_into(s, unstarted, reason=START_TIMEOUT, at_ms=at_ms)
    _look_into(s, overdue, reason=TIMED_OUT, at_ms=at_ms)


def _is_start_overdue(s: State, attempt: Attempt, *, at_ms: int) -> bool:
    """Tell whether its start is overdue; one that is merely late is sent once more."""
    age_ms = at_ms - attempt.leased_at_ms
    timeout_ms = s.tasks[attempt.task_id].rules.start_timeout_ms or s.policy.start_timeout_ms
    if age_ms >= s.policy.start_resend_ms and not attempt.is_resent:
        attempt.is_resent = True
        s.out.append(StartAttempt(token=attempt.token, executor=attempt.executor))
    return age_ms >= timeout_ms


def _longest_ms(s: State, attempt: Attempt) -> int:
    """Return how long an attempt may take until it is ended without its executor."""
    policy = s.policy
    timeout_ms = s.tasks[attempt.task_id].rules.timeout_ms or policy.timeout_ms
    wait_ms = policy.wait_max_ms if attempt.backend in MODEL_BACKENDS else 0
    return timeout_ms + wait_ms + policy.grace_ms + policy.timeout_margin_ms
