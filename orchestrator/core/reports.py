"""What executors report: starts, ends and losses of attempts, and what follows for their tasks."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.core import breaker, fuse
from orchestrator.core.assign import attempt_payload, unregister
from orchestrator.core.commands import EndAttempt, TakeResult
from orchestrator.core.events import AttemptEnded, AttemptLost, AttemptStarted
from orchestrator.core.leases import START_TIMEOUT, TIMED_OUT, UNPROVEN
from orchestrator.core.moving import (
    apply_failure,
    finish_task,
    go_on,
    move_task,
    start_or_wait,
    verify_task,
)
from orchestrator.core.retry import POLICIES, BreakerEffect, failure_of
from orchestrator.core.state import ENDED_REMEMBERED, Attempt, State
from orchestrator.core.task import Task
from orchestrator.core.transitions import ATTEMPT_MOVES, check_move
from orchestrator.core.words import (
    BY_FILE,
    AttemptKind,
    AttemptState,
    FailureClass,
    HoldReason,
    RetryLost,
    TaskState,
)


def on_attempt_started(s: State, event: AttemptStarted, *, at_ms: int) -> None:
    """The executor holds the start; a repeated report changes nothing."""
    attempt = s.attempts.get(event.token)
    if attempt is None:
        _record_late(s, event.token)
        return
    if attempt.prove_reason == START_TIMEOUT:
        attempt.prove_reason, attempt.prove_at_ms = "", 0
    if attempt.state is AttemptState.STARTED:
        return
    attempt.state = AttemptState.STARTED
    attempt.beat_at_ms = attempt.started_at_ms = at_ms
    plan = s.plans[attempt.plan_id]
    s.record(
        "attempt.started", plan, task_id=attempt.task_id, token=event.token, payload=attempt_payload(attempt)
    )


def _record_late(s: State, token: int) -> None:
    if token not in s.ended:
        s.late_reports += 1


def on_attempt_ended(s: State, event: AttemptEnded, *, at_ms: int) -> None:
    """Take a stored result: end the attempt, settle the budget, move the task."""
    attempt = s.attempts.get(event.token)
    if attempt is None:
        _record_late(s, event.token)
        return
    failure = failure_of(event.state, event.failure_class)
    payload = {"summary": event.summary, "cost_micros": event.cost_micros}
    task = _record_end(s, attempt, event.state, failure, payload)
    unregister(s, attempt, cost_micros=event.cost_micros)
    s.out.append(TakeResult(token=event.token))
    breaker.note_outcome(s, attempt, _breaker_effect(event.state, failure), at_ms=at_ms)
    _follow(s, task, attempt, event, failure, at_ms=at_ms)
    fuse.judge(s, s.plans[attempt.plan_id], task, event.cost_micros)


def _breaker_effect(state: AttemptState, failure: FailureClass | None) -> BreakerEffect:
    if state is AttemptState.SUCCEEDED:
        return BreakerEffect.SUCCESS
    return POLICIES[failure].breaker if failure is not None else BreakerEffect.NEUTRAL


def _record_end(
    s: State,
    attempt: Attempt,
    state: AttemptState,
    failure: FailureClass | None,
    payload: Mapping[str, object],
) -> Task:
    """Tell of the end of an attempt, and remember it for late reports; return its task."""
    check_move(ATTEMPT_MOVES, what=f"attempt {attempt.token}", old=attempt.state, new=state)
    s.ended[attempt.token] = state
    while len(s.ended) > ENDED_REMEMBERED:
        s.ended.popitem(last=False)
    told = {**attempt_payload(attempt), "state": state.value, "failure_class": failure, **payload}
    kind = "attempt.lost" if state is AttemptState.LOST else "attempt.ended"
    s.record(kind, s.plans[attempt.plan_id], task_id=attempt.task_id, token=attempt.token, payload=told)
    return s.tasks[attempt.task_id]


def _end_without_result(
    s: State, attempt: Attempt, state: AttemptState, failure: FailureClass, *, reason: str, **payload: object
) -> tuple[Task, int]:
    """End an attempt that nobody will hear of any more; return its task, and what counts as its cost."""
    task = _record_end(s, attempt, state, failure, {"summary": reason, **payload})
    kept_micros = unregister(s, attempt, cost_micros=None)
    s.out.append(
        EndAttempt(
            token=attempt.token,
            state=state,
            end_reason=reason,
            failure_class=failure,
            kept_micros=kept_micros,
        )
    )
    return task, kept_micros


def _follow(
    s: State,
    task: Task,
    attempt: Attempt,
    event: AttemptEnded,
    failure: FailureClass | None,
    *,
    at_ms: int,
) -> None:
    if event.state is AttemptState.SUCCEEDED and not (attempt.is_given_up and _has_more(task, attempt)):
        verify_task(s, task, passed=attempt.kind)
    elif attempt.is_given_up:
        _end_as_asked(s, task, attempt)
    elif failure is None:
        _interrupted(s, task, attempt)
    else:
        apply_failure(s, task, failure, summary=event.summary, at_ms=at_ms)


def _end_as_asked(s: State, task: Task, attempt: Attempt) -> None:
    """The attempt was to end: its author has ticked the task, or somebody cancelled it."""
    if attempt.cancel_reason == BY_FILE:
        finish_task(s, task, reason=BY_FILE)
    else:
        move_task(s, task, TaskState.CANCELLED, reason=attempt.cancel_reason)


def _has_more(task: Task, attempt: Attempt) -> bool:
    """Tell whether the task is not done with this attempt, should it have succeeded."""
    if attempt.kind is AttemptKind.WORK:
        return task.has_gate or task.rules.review_agent != ""
    return attempt.kind is AttemptKind.GATE and task.rules.review_agent != ""


def _interrupted(s: State, task: Task, attempt: Attempt) -> None:
    """Its executor was stopped in good order, or its budget lowered: the task starts again, uncharged."""
    if task.rules.retry_lost is RetryLost.NEVER:
        move_task(s, task, TaskState.HELD, reason=HoldReason.LOST.value)
    elif attempt.kind is AttemptKind.WORK:
        start_or_wait(s, task)
    else:
        go_on(s, task)


def on_attempt_lost(s: State, event: AttemptLost, *, at_ms: int) -> None:
    """The attempt is fenced; the task may be leased again, by the stated policy."""
    attempt = s.attempts.get(event.token)
    if attempt is None:
        _record_late(s, event.token)
        return
    if event.reason == TIMED_OUT:
        _time_out(s, attempt, at_ms=at_ms)
        return
    task = s.tasks[attempt.task_id]
    hold = _hold_after_loss(task, attempt, event.reason)
    policy = f"{task.losses + 1} of {s.policy.losses_max} losses in a row"
    failure = FailureClass.INFRASTRUCTURE
    ended = AttemptState.LOST
    _, kept_micros = _end_without_result(
        s, attempt, ended, failure, reason=event.reason, policy=hold or policy
    )
    breaker.note_outcome(s, attempt, BreakerEffect.NEUTRAL, at_ms=at_ms)
    if attempt.is_given_up:
        _end_as_asked(s, task, attempt)
    elif hold is not None:
        task.losses += 1
        move_task(s, task, TaskState.HELD, reason=hold.value)
    else:
        apply_failure(s, task, failure, summary=event.reason, at_ms=at_ms)
    fuse.judge(s, s.plans[attempt.plan_id], task, kept_micros)


def _hold_after_loss(task: Task, attempt: Attempt, reason: str) -> HoldReason | None:
    """Return why a person must decide before the task starts again; None if it may."""
    if reason.endswith(UNPROVEN) and task.rules.retry_lost is not RetryLost.ALWAYS:
        return HoldReason.CANNOT_PROVE_DEAD
    if attempt.state is AttemptState.STARTED and task.rules.retry_lost is RetryLost.NEVER:
        return HoldReason.LOST
    return None


def _time_out(s: State, attempt: Attempt, *, at_ms: int) -> None:
    """Its executor did not end it in time, so its node did."""
    failure, reason = FailureClass.TIMEOUT, TIMED_OUT
    task, kept_micros = _end_without_result(s, attempt, AttemptState.TIMED_OUT, failure, reason=reason)
    breaker.note_outcome(s, attempt, POLICIES[failure].breaker, at_ms=at_ms)
    if attempt.is_given_up:
        _end_as_asked(s, task, attempt)
    else:
        apply_failure(s, task, failure, summary=reason, at_ms=at_ms)
    fuse.judge(s, s.plans[attempt.plan_id], task, kept_micros)
