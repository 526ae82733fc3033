"""What executors and pools report: starts, ends, losses, beats; and the passing of time."""

from __future__ import annotations

from heapq import heappop

from orchestrator.core.assign import attempt_payload, unregister
from orchestrator.core.commands import Answer, EndAttempt, MarkStarted, ProveGone, StartAttempt
from orchestrator.core.events import (
    AttemptEnded,
    AttemptLost,
    AttemptStarted,
    BeatsRead,
    ExecutorJoined,
    ExecutorLost,
    ExecutorRetired,
    ExecutorsListed,
)
from orchestrator.core.moving import apply_failure, enqueue, finish_task, make_ready, move_task, verify_task
from orchestrator.core.state import ENDED_REMEMBERED, Attempt, Executor, State, Task
from orchestrator.core.transitions import ATTEMPT_MOVES, check_move
from orchestrator.core.words import FINISHED, AttemptKind, AttemptState, FailureClass, TaskState

#: Why the end of an attempt is looked into.
START_TIMEOUT = "start timeout"
EXECUTOR_LOST = "executor lost"
LEASE_EXPIRED = "lease expired"


def on_executor_joined(s: State, event: ExecutorJoined) -> None:
    """Count an executor in; a known one keeps what runs on it."""
    tokens = {a.token for a in s.attempts.values() if a.executor == event.executor}
    executor = Executor(name=event.executor, pool=event.agent_type, slots=event.slots, tokens=tokens)
    s.executors[event.executor] = executor
    s.pools.setdefault(event.agent_type, {})[event.executor] = executor


def _forget_executor(s: State, name: str) -> Executor | None:
    executor = s.executors.pop(name, None)
    if executor is not None:
        del s.pools[executor.pool][name]
        if not s.pools[executor.pool]:
            del s.pools[executor.pool]
    return executor


def on_executor_lost(s: State, event: ExecutorLost) -> None:
    """Give the executor nothing more, and have the end of what ran on it proven."""
    _lose(s, event.executor)


def on_executors_listed(s: State, event: ExecutorsListed) -> None:
    """Lose every executor that is counted on and not alive."""
    known = set(s.executors) | {attempt.executor for attempt in s.attempts.values()}
    for name in sorted(known - event.alive):
        _lose(s, name)


def _lose(s: State, name: str) -> None:
    _forget_executor(s, name)
    attempts = [a for a in s.attempts.values() if a.executor == name and not a.is_being_proven]
    _prove_gone(s, name, attempts, reason=EXECUTOR_LOST)


def on_executor_retired(s: State, event: ExecutorRetired) -> None:
    """Let the pool end an executor on which nothing is live."""
    executor = s.executors.get(event.executor)
    may_end = executor is None or not executor.tokens
    if may_end:
        _forget_executor(s, event.executor)
    s.out.append(Answer(request_id=event.request_id, result={"may_end": may_end}))


def _prove_gone(s: State, executor: str, attempts: list[Attempt], *, reason: str) -> None:
    for attempt in attempts:
        attempt.is_being_proven = True
    if attempts:
        s.out.append(ProveGone(executor=executor, tokens=tuple(a.token for a in attempts), reason=reason))


def on_attempt_started(s: State, event: AttemptStarted, *, at_ms: int) -> None:
    """The executor holds the start; a repeated report changes nothing."""
    attempt = s.attempts.get(event.token)
    if attempt is None:
        _record_late(s, event.token)
        return
    attempt.is_being_proven = False
    if attempt.state is AttemptState.STARTED:
        return
    attempt.state = AttemptState.STARTED
    attempt.beat_at_ms = at_ms
    s.out.append(MarkStarted(token=event.token))
    plan = s.plans[attempt.plan_id]
    s.record(
        "attempt.started", plan, task_id=attempt.task_id, token=event.token, payload=attempt_payload(attempt)
    )


def _record_late(s: State, token: int) -> None:
    if token not in s.ended:
        s.late_reports += 1


def _end(s: State, attempt: Attempt, *, state: AttemptState, payload: dict[str, object]) -> Task:
    check_move(ATTEMPT_MOVES, what=f"attempt {attempt.token}", old=attempt.state, new=state)
    unregister(s, attempt)
    s.ended[attempt.token] = state
    while len(s.ended) > ENDED_REMEMBERED:
        del s.ended[next(iter(s.ended))]
    task = s.tasks[attempt.task_id]
    task.token = 0
    kind = "attempt.lost" if state is AttemptState.LOST else "attempt.ended"
    s.record(
        kind,
        s.plans[attempt.plan_id],
        task_id=attempt.task_id,
        token=attempt.token,
        payload={**attempt_payload(attempt), "state": state.value, **payload},
    )
    return task


def on_attempt_ended(s: State, event: AttemptEnded, *, at_ms: int) -> None:
    """Take a stored result: end the attempt, settle the budget, move the task."""
    attempt = s.attempts.get(event.token)
    if attempt is None:
        _record_late(s, event.token)
        return
    failure = event.failure_class.value if event.failure_class else None
    s.out.append(
        EndAttempt(
            token=event.token,
            state=event.state,
            end_reason="reported",
            failure_class=event.failure_class,
            has_result=True,
        )
    )
    payload: dict[str, object] = {
        "failure_class": failure,
        "summary": event.summary,
        "cost_micros": event.cost_micros,
    }
    task = _end(s, attempt, state=event.state, payload=payload)
    s.plans[attempt.plan_id].spent_micros += event.cost_micros
    _follow(s, task, attempt, event, at_ms=at_ms)


def _follow(s: State, task: Task, attempt: Attempt, event: AttemptEnded, *, at_ms: int) -> None:
    if event.state is AttemptState.SUCCEEDED and attempt.kind is AttemptKind.GATE:
        finish_task(s, task)
    elif event.state is AttemptState.SUCCEEDED and not (attempt.cancel_reason and task.has_gate):
        verify_task(s, task)
    elif attempt.cancel_reason:
        move_task(s, task, TaskState.CANCELLED, reason=attempt.cancel_reason)
    elif event.state is AttemptState.CANCELLED:
        _interrupted(s, task, attempt)
    else:
        default = FailureClass.TIMEOUT if event.state is AttemptState.TIMED_OUT else FailureClass.AGENT
        failure = event.failure_class or default
        apply_failure(s, task, failure, summary=event.summary, at_ms=at_ms)


def _interrupted(s: State, task: Task, attempt: Attempt) -> None:
    """The executor was stopped in good order: nobody is charged, the task starts again at once."""
    if attempt.kind is AttemptKind.GATE:
        enqueue(s, task)
    else:
        make_ready(s, task)


def on_attempt_lost(s: State, event: AttemptLost, *, at_ms: int) -> None:
    """The attempt is fenced and proven gone; the task may be leased again, by the stated policy."""
    attempt = s.attempts.get(event.token)
    if attempt is None:
        _record_late(s, event.token)
        return
    s.out.append(
        EndAttempt(
            token=event.token,
            state=AttemptState.LOST,
            end_reason=event.reason,
            failure_class=FailureClass.INFRASTRUCTURE,
            has_result=False,
        )
    )
    losses = f"{s.tasks[attempt.task_id].losses + 1} of {s.policy.losses_max} losses in a row"
    failure = FailureClass.INFRASTRUCTURE.value
    payload: dict[str, object] = {"failure_class": failure, "summary": event.reason, "policy": losses}
    task = _end(s, attempt, state=AttemptState.LOST, payload=payload)
    if attempt.cancel_reason:
        move_task(s, task, TaskState.CANCELLED, reason=attempt.cancel_reason)
    else:
        apply_failure(s, task, FailureClass.INFRASTRUCTURE, summary=event.reason, at_ms=at_ms)


def on_beats_read(s: State, event: BeatsRead, *, at_ms: int) -> None:
    """Expire leases whose beat has stood still for the lease and its grace, on our own clock."""
    patience_ms = s.policy.lease_ms + s.policy.lease_grace_ms
    expired: dict[str, list[Attempt]] = {}
    for token, beat in event.beats.items():
        attempt = s.attempts.get(token)
        if attempt is None:
            continue
        if beat != attempt.beat:
            attempt.beat, attempt.beat_at_ms = beat, at_ms
        elif at_ms - attempt.beat_at_ms >= patience_ms and not attempt.is_being_proven:
            expired.setdefault(attempt.executor, []).append(attempt)
    for executor, attempts in expired.items():
        _prove_gone(s, executor, attempts, reason=LEASE_EXPIRED)


def on_database_returned(s: State, *, at_ms: int) -> None:
    """Nobody could store a start or renew while the database was away: every lease is counted afresh."""
    for attempt in s.attempts.values():
        attempt.leased_at_ms = attempt.beat_at_ms = at_ms
        attempt.is_resent = False


def on_tick(s: State, *, at_ms: int) -> None:
    """End back-offs, see to starts that were not answered, and let go of plans that are over."""
    _end_backoffs(s, at_ms=at_ms)
    _chase_starts(s, at_ms=at_ms)
    _forget_plans(s)


def _forget_plans(s: State) -> None:
    for plan in [p for p in s.plans.values() if p.state in FINISHED and p.is_loaded and not p.live]:
        for task_id in plan.task_ids:
            del s.tasks[task_id]
        del s.plans[plan.plan_id]


def _end_backoffs(s: State, *, at_ms: int) -> None:
    while s.timers and s.timers[0][0] <= at_ms:
        not_before_ms, task_id = heappop(s.timers)
        task = s.tasks.get(task_id)
        if task is not None and task.not_before_ms == not_before_ms and task.token == 0:
            task.not_before_ms = 0
            if task.state in {TaskState.READY, TaskState.VERIFYING}:
                enqueue(s, task)


def _chase_starts(s: State, *, at_ms: int) -> None:
    """Send an unanswered start once more, then have it looked into whether it will ever come."""
    overdue: dict[str, list[Attempt]] = {}
    for attempt in s.attempts.values():
        if attempt.state is not AttemptState.LEASED or attempt.is_being_proven:
            continue
        age_ms = at_ms - attempt.leased_at_ms
        if age_ms >= s.policy.start_timeout_ms:
            overdue.setdefault(attempt.executor, []).append(attempt)
        elif age_ms >= s.policy.start_resend_ms and not attempt.is_resent:
            attempt.is_resent = True
            s.out.append(StartAttempt(token=attempt.token, executor=attempt.executor))
    for executor, attempts in overdue.items():
        _prove_gone(s, executor, attempts, reason=START_TIMEOUT)
