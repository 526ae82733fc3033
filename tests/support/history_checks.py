"""What must be true of every history, whatever went wrong on the way. One named function per check.

Time is the database's: the order of events by seq, of attempts by token and by their two moments; the order
of side effects is that of the lines in their file. No clock of a process is believed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

from orchestrator.core.retry import POLICIES
from orchestrator.core.words import (
    CLOSED,
    LIVE,
    SATISFIED,
    AttemptKind,
    AttemptState,
    FailureClass,
    HoldReason,
    PlanState,
    TaskState,
)
from tests.support.history_rows import AttemptRow, EventRow, History, TaskRow

_GOES_ON = {TaskState.READY, TaskState.RUNNING, TaskState.VERIFYING, TaskState.MERGING}
_HOLDS = {reason.value for reason in HoldReason}

_TASK_MOVES = {f"task.{state.value}" for state in TaskState}

#: What lets those start that need the task.
_RELEASING = {f"task.{state.value}" for state in SATISFIED}

#: A task that went through one of these had been given up or accepted; somebody asked for it again.
_SETTLING = {"task.failed", "task.held", "task.cancelled", "task.skipped", "task.done"}

#: In the order in which they may come.
_ATTEMPT_EVENTS = {"attempt.leased": 0, "attempt.started": 1, "attempt.ended": 2, "attempt.lost": 2}
_ENDINGS = {"attempt.ended", "attempt.lost"}

#: Attempts that ended in one of these have run to an end of their own.
_RAN = {AttemptState.SUCCEEDED, AttemptState.FAILED}

#: Failures of these classes may come before the first line of the task was run.
_BEFORE_IT_RAN = {FailureClass.INFRASTRUCTURE, FailureClass.WORKSPACE}


def violations(history: History) -> Iterator[str]:
    """Yield what is wrong, each with the name of the check that found it."""
    for check in CHECKS:
        for found in check(history):
            yield f"{check.__name__}: {found}"


def acknowledged_things_exist(h: History) -> Iterator[str]:
    told = {(event.plan_id, event.type) for event in h.events}
    told_of_task = {(event.task_id, event.type) for event in h.events}
    for one in h.acknowledged:
        if one.plan_id not in h.plans:
            yield f"plan {one.plan_id} was acknowledged and is not stored"
        elif one.task_id and one.task_id not in h.tasks:
            yield f"task {one.task_id} was acknowledged and is not stored"
        elif one.event and one.task_id and (one.task_id, one.event) not in told_of_task:
            yield f"{one.event} of task {one.task_id} was acknowledged and is not recorded"
        elif one.event and not one.task_id and (one.plan_id, one.event) not in told:
            yield f"{one.event} of plan {one.plan_id} was acknowledged and is not recorded"


def plans_are_whole(h: History) -> Iterator[str]:
    leaves = Counter(task.plan_id for task in h.tasks.values() if not task.is_container)
    for plan in h.plans.values():
        if leaves[plan.plan_id] != plan.leaves:
            yield f"plan {plan.plan_id} has {leaves[plan.plan_id]} of its {plan.leaves} tasks"


def side_effects_do_not_overlap(h: History) -> Iterator[str]:
    going_on: dict[int, dict[int, AttemptRow]] = defaultdict(dict)
    latest: dict[int, int] = {}
    for effect in h.effects:
        attempt = h.attempts.get(effect.token)
        if attempt is None:
            continue  # side_effects_are_recorded_starts tells
        task_id, open_ = attempt.task_id, going_on[attempt.task_id]
        if effect.edge == "start":
            for other in open_.values():
                if other.ended_at is None or other.ended_at > attempt.leased_at:
                    yield f"task {task_id}: {effect.token} began while {other.token} went on"
            open_[effect.token] = attempt
            latest[task_id] = max(latest.get(task_id, 0), effect.token)
        else:
            open_.pop(effect.token, None)
            if latest.get(task_id, 0) > effect.token:
                yield f"task {task_id}: {effect.token} had an effect after {latest[task_id]} had begun"


def side_effects_are_recorded_starts(h: History) -> Iterator[str]:
    seen: Counter[tuple[str, int]] = Counter((effect.edge, effect.token) for effect in h.effects)
    for effect in h.effects:
        attempt = h.attempts.get(effect.token)
        if attempt is None:
            yield f"token {effect.token} had an effect and is no attempt"
        elif effect.token not in h.starts:
            yield f"token {effect.token} had an effect and no stored start"
        elif (h.tasks[attempt.task_id].key, attempt.number) != (effect.key, effect.attempt):
            yield f"token {effect.token} worked on {effect.key}, attempt {effect.attempt}: not its own"
    for (edge, token), count in seen.items():
        if count > 1:
            yield f"token {token} has {count} entries {edge!r}"
        if edge == "end" and not seen["start", token]:
            yield f"token {token} ended and never began"


def recorded_runs_had_their_side_effect(h: History) -> Iterator[str]:
    seen = {(effect.edge, effect.token) for effect in h.effects}
    for attempt in h.attempts.values():
        keeps_log = h.tasks[attempt.task_id].has_effects and attempt.kind == AttemptKind.WORK
        if not keeps_log or attempt.state not in _RAN or attempt.failure_class in _BEFORE_IT_RAN:
            continue
        for edge in ("start", "end"):
            if (edge, attempt.token) not in seen:
                yield f"attempt {attempt.token} {attempt.state} and has no entry {edge!r}"


def results_are_of_started_attempts(h: History) -> Iterator[str]:
    for token in sorted(h.results.keys() - h.starts):
        yield f"the result {token} belongs to an attempt that never started"


def done_tasks_have_an_accepted_result(h: History) -> Iterator[str]:
    """Unless a person said so, and why; that it is one result, every_next_attempt_was_allowed says."""
    for task_id, attempts in h.attempts_by_task.items():
        if h.tasks[task_id].state != TaskState.DONE or h.tasks[task_id].reason:
            continue
        if attempts[-1].state != AttemptState.SUCCEEDED:
            yield f"task {task_id} is done, and its last attempt {attempts[-1].token} {attempts[-1].state}"
        work = [attempt for attempt in attempts if attempt.kind == AttemptKind.WORK]
        if not work or h.results.get(work[-1].token) != AttemptState.SUCCEEDED:
            yield f"task {task_id} is done and no result of its work is stored"


def every_unfinished_task_has_a_reason(h: History) -> Iterator[str]:
    live = {a.task_id: a for a in h.attempts.values() if a.state in LIVE or _is_untaken(h, a)}
    open_children = {t.parent_id for t in h.tasks.values() if t.state not in CLOSED}
    for task in h.tasks.values():
        if h.plans[task.plan_id].state == PlanState.SUBMITTED:
            continue
        stuck = _why_stuck(h, task, live.get(task.task_id), has_open_children=task.task_id in open_children)
        if stuck:
            yield f"task {task.task_id} ({task.key}) is {task.state} {stuck}"


def _why_stuck(h: History, task: TaskRow, live: AttemptRow | None, *, has_open_children: bool) -> str:
    unmet = sum(h.tasks[on_id].state not in SATISFIED for on_id in h.needs.get(task.task_id, ()))
    if task.is_container:
        is_open = task.state not in CLOSED
        return "" if is_open == has_open_children else f"and open children: {has_open_children}"
    if live is not None and task.state not in {TaskState.RUNNING, TaskState.VERIFYING}:
        return f"with the live attempt {live.token}"
    if task.state in _GOES_ON and unmet:
        return f"with {unmet} unmet dependencies"
    if task.state == TaskState.WAITING and not unmet:
        return "for nothing"
    if task.state == TaskState.RUNNING and (live is None or live.kind != AttemptKind.WORK):
        return "without a live attempt at its work"
    if task.state == TaskState.HELD and task.reason not in _HOLDS:
        return f"for no known reason: {task.reason!r}"
    return "for no reason" if task.state == TaskState.FAILED and not task.reason else ""


def plans_fit_their_tasks(h: History) -> Iterator[str]:
    states: dict[int, set[str]] = defaultdict(set)
    for task in h.tasks.values():
        if not task.is_container:
            states[task.plan_id].add(task.state)
    for plan in h.plans.values():
        found = states[plan.plan_id]
        if plan.state == PlanState.DONE and not found <= CLOSED:
            yield f"plan {plan.plan_id} is done with tasks that are {sorted(found - CLOSED)}"
        if plan.state == PlanState.ACTIVE and not found & _GOES_ON:
            yield f"plan {plan.plan_id} is active and nothing in it can go on"


def one_live_attempt_at_a_time(h: History) -> Iterator[str]:
    for task_id, attempts in h.attempts_by_task.items():
        for before, after in pairwise(attempts):
            if before.ended_at is None or before.ended_at > after.leased_at:
                yield f"task {task_id}: {after.token} was leased while {before.token} was live"
        for attempt in attempts:
            if (attempt.state in LIVE) is not (attempt.ended_at is None):
                yield f"attempt {attempt.token} is {attempt.state} and ended at {attempt.ended_at}"


def leases_are_of_live_attempts(h: History) -> Iterator[str]:
    live = {token for token, attempt in h.attempts.items() if attempt.state in LIVE}
    for token in sorted(live - h.leases):
        yield f"attempt {token} is live without a lease"
    untaken = {token for token in h.leases & h.attempts.keys() if _is_untaken(h, h.attempts[token])}
    for token in sorted(h.leases - live - untaken):
        yield f"token {token} has a lease and is not live"


def attempts_are_numbered_without_gaps(h: History) -> Iterator[str]:
    numbers: dict[tuple[int, str], list[int]] = defaultdict(list)
    for attempt in h.attempts.values():
        numbers[attempt.task_id, attempt.kind].append(attempt.number)
    for (task_id, kind), found in numbers.items():
        if found != list(range(1, len(found) + 1)):
            yield f"task {task_id}: its {kind} attempts are numbered {found}"


def every_next_attempt_was_allowed(h: History) -> Iterator[str]:
    """Between two attempts stands what allowed the second: how the first ended, and the task's own move."""
    for task_id, attempts in h.attempts_by_task.items():
        for before, after in pairwise(attempts):
            moves = _moves_between(h, task_id, before, after)
            follows = f"task {task_id}: {after.token} follows {before.token}, which {before.state}"
            if before.state == AttemptState.LOST and not before.end_reason:
                yield f"{follows} for no reason"
            if after.kind == AttemptKind.WORK and "task.ready" not in moves:
                yield f"{follows}, and the task was not ready again"
            if before.state != AttemptState.SUCCEEDED:
                is_due = _is_retryable(before) or bool(moves & _SETTLING)
            elif after.kind == AttemptKind.WORK:
                is_due = bool(moves & _SETTLING)
            else:
                is_due = _is_next_judge(before, after) and "task.verifying" in moves
            if not is_due:
                yield f"{follows} {before.failure_class or 'as accepted'}"


def _moves_between(h: History, task_id: int, before: AttemptRow, after: AttemptRow) -> set[str]:
    """Return the types of the task's events between the leases of two of its attempts."""
    events = h.events_by_task.get(task_id, [])
    leases = {event.token: event.seq for event in events if event.type == "attempt.leased"}
    first, last = leases.get(before.token, 0), leases.get(after.token, 0)
    return {event.type for event in events if first < event.seq < last}


def _is_next_judge(before: AttemptRow, after: AttemptRow) -> bool:
    """Work is judged by its gate, then by its review; either may be the only one."""
    order = (AttemptKind.WORK, AttemptKind.GATE, AttemptKind.REVIEW)
    return order.index(AttemptKind(before.kind)) < order.index(AttemptKind(after.kind))


def _is_retryable(attempt: AttemptRow) -> bool:
    return not attempt.failure_class or POLICIES[FailureClass(attempt.failure_class)].is_retryable


def dependencies_are_done_first(h: History) -> Iterator[str]:
    """By the order of events: nothing is ready, let alone leased, before all that it needs is met."""
    moved = {event.task_id for event in h.events if event.type in _TASK_MOVES}
    met = {t.task_id for t in h.tasks.values() if t.state in SATISFIED and t.task_id not in moved}
    for event in h.events:
        if event.type in _TASK_MOVES:
            (met.add if event.type in _RELEASING else met.discard)(event.task_id)
        if event.type in {"task.ready", "attempt.leased"}:
            for on_id in h.needs.get(event.task_id, ()):
                if on_id not in met:
                    yield f"event {event.seq}: {event.type} of task {event.task_id} before {on_id} was met"


def epochs_do_not_go_back(h: History) -> Iterator[str]:
    """Once a term has written an event, no earlier one writes."""
    for before, after in pairwise(h.events):
        if after.epoch < before.epoch:
            yield f"event {after.seq} is of epoch {after.epoch}, the one before it of {before.epoch}"
    for event in h.events:
        attempt = h.attempts.get(event.token)
        if event.type == "attempt.leased" and attempt is not None and attempt.epoch != event.epoch:
            yield f"attempt {event.token} is of epoch {attempt.epoch}, its lease of {event.epoch}"


def events_tell_the_life_of_each_attempt(h: History) -> Iterator[str]:
    lives: dict[int, list[EventRow]] = defaultdict(list)
    for event in h.events:
        if event.type in _ATTEMPT_EVENTS:
            lives[event.token].append(event)
    for token in sorted(lives.keys() - h.attempts.keys()):
        yield f"token {token} has events and is no attempt"
    for token, attempt in h.attempts.items():
        types = [event.type for event in lives[token]]
        places = [_ATTEMPT_EVENTS[type_] for type_ in types]
        if types[:1] != ["attempt.leased"] or any(a >= b for a, b in pairwise(places)):
            yield f"attempt {token} has the events {types}"
        elif types[-1] in _ENDINGS and lives[token][-1].state != attempt.state:
            yield f"attempt {token} is {attempt.state}, its last event says {lives[token][-1].state}"
        elif types[-1] not in _ENDINGS and attempt.state not in LIVE and not _is_unheard(h, attempt):
            yield f"attempt {token} is {attempt.state} and no event tells of its end"
        if "attempt.started" in types and token not in h.starts:
            yield f"attempt {token} is told to have started, and no start is stored"


def _is_unheard(h: History, attempt: AttemptRow) -> bool:
    """Its row says how it ended; the scheduler may have died before it wrote more."""
    is_fenced = attempt.state == AttemptState.LOST and bool(attempt.end_reason)
    return is_fenced or _is_untaken(h, attempt)


def _is_untaken(h: History, attempt: AttemptRow) -> bool:
    """Its result is stored, and the scheduler has not taken it yet."""
    is_open = attempt.token in h.results and attempt.token in h.leases
    return is_open and all(e.token != attempt.token or e.type not in _ENDINGS for e in h.events)


CHECKS: tuple[Callable[[History], Iterator[str]], ...] = (
    acknowledged_things_exist,
    plans_are_whole,
    side_effects_do_not_overlap,
    side_effects_are_recorded_starts,
    recorded_runs_had_their_side_effect,
    results_are_of_started_attempts,
    done_tasks_have_an_accepted_result,
    every_unfinished_task_has_a_reason,
    plans_fit_their_tasks,
    one_live_attempt_at_a_time,
    leases_are_of_live_attempts,
    attempts_are_numbered_without_gaps,
    every_next_attempt_was_allowed,
    dependencies_are_done_first,
    epochs_do_not_go_back,
    events_tell_the_life_of_each_attempt,
)
