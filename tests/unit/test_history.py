"""The checks of a history find what they are there for: a good history passes, each bad one is caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.history_checks import CHECKS, violations
from tests.support.history_rows import (
    Acknowledged,
    AttemptRow,
    EdgeRow,
    Effect,
    EventRow,
    History,
    PlanRow,
    TaskRow,
)

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: int) -> datetime:
    return BEGAN + timedelta(seconds=second)


def task(task_id: int, *, state: str = "done", **more: Any) -> TaskRow:
    base = TaskRow(task_id, 1, f"T.{task_id}", 0, False, state, "", True)
    return base._replace(**more)


def attempt(token: int, task_id: int, *, leased: int, ended: int, **more: Any) -> AttemptRow:
    base = AttemptRow(token, 1, task_id, "work", 1, 1, "succeeded", "reported", "", at(leased), at(ended))
    return base._replace(**more)


def events(*told: tuple[int, int, str, str], epoch: int = 1) -> tuple[EventRow, ...]:
    """Events from (task, token, type, state), numbered from 1."""
    return tuple(
        EventRow(seq, 1, task_id, token, epoch, type_, state)
        for seq, (task_id, token, type_, state) in enumerate(told, 1)
    )


def entry(edge: str, token: int, task_id: int, number: int = 1) -> Effect:
    return Effect(edge, token, f"T.{task_id}", number, 4000 + token)


#: Task 1 is lost once and then done; task 2 needs it and is done.
GOOD = History(
    plans={1: PlanRow(1, "done", 2)},
    tasks={1: task(1), 2: task(2)},
    edges=(EdgeRow(2, 1),),
    attempts={
        11: attempt(
            11, 1, leased=0, ended=5, state="lost", end_reason="executor lost", failure_class="infrastructure"
        ),
        12: attempt(12, 1, leased=5, ended=7, number=2),
        13: attempt(13, 2, leased=7, ended=9),
    },
    events=events(
        (1, 0, "task.ready", ""),
        (1, 0, "task.running", ""),
        (1, 11, "attempt.leased", ""),
        (1, 11, "attempt.started", ""),
        (1, 11, "attempt.lost", "lost"),
        (1, 0, "task.ready", ""),
        (1, 0, "task.running", ""),
        (1, 12, "attempt.leased", ""),
        (1, 12, "attempt.started", ""),
        (1, 12, "attempt.ended", "succeeded"),
        (1, 0, "task.done", ""),
        (2, 0, "task.ready", ""),
        (2, 0, "task.running", ""),
        (2, 13, "attempt.leased", ""),
        (2, 13, "attempt.ended", "succeeded"),
        (2, 0, "task.done", ""),
    ),
    starts=frozenset({11, 12, 13}),
    results={12: "succeeded", 13: "succeeded"},
    effects=(
        entry("start", 11, 1),
        entry("start", 12, 1, 2),
        entry("end", 12, 1, 2),
        entry("start", 13, 2),
        entry("end", 13, 2),
    ),
    acknowledged=(Acknowledged(1), Acknowledged(1, 2, "task.done")),
)


def with_task(h: History, task_id: int, **changes: Any) -> History:
    return replace(h, tasks={**h.tasks, task_id: h.tasks[task_id]._replace(**changes)})


def with_plan(h: History, **changes: Any) -> History:
    return replace(h, plans={1: h.plans[1]._replace(**changes)})


def with_attempt(h: History, token: int, **changes: Any) -> History:
    return replace(h, attempts={**h.attempts, token: h.attempts[token]._replace(**changes)})


def with_event(h: History, seq: int, **changes: Any) -> History:
    return replace(h, events=tuple(e._replace(**changes) if e.seq == seq else e for e in h.events))


def without_events(h: History, *seqs: int) -> History:
    return replace(h, events=tuple(e for e in h.events if e.seq not in seqs))


def with_effects(h: History, *effects: Effect) -> History:
    return replace(h, effects=effects)


#: What goes wrong, how, and the check that must find it.
BAD: dict[str, tuple[str, Callable[[History], History]]] = {
    "a plan was acknowledged and lost": (
        "acknowledged_things_exist",
        lambda h: replace(h, acknowledged=(Acknowledged(9),)),
    ),
    "a task was acknowledged and lost": (
        "acknowledged_things_exist",
        lambda h: replace(h, acknowledged=(Acknowledged(1, 9),)),
    ),
    "a request was acknowledged and lost": (
        "acknowledged_things_exist",
        lambda h: replace(h, acknowledged=(Acknowledged(1, 2, "task.cancelled"),)),
    ),
    "a plan's request was acknowledged and lost": (
        "acknowledged_things_exist",
        lambda h: replace(h, acknowledged=(Acknowledged(1, 0, "plan.paused"),)),
    ),
    "half a plan is stored": ("plans_are_whole", lambda h: with_plan(h, leaves=3)),
    "the second attempt begins before the first is lost": (
        "side_effects_do_not_overlap",
        lambda h: with_attempt(h, 11, ended_at=at(6)),
    ),
    "a zombie has its effect after its successor has begun": (
        "side_effects_do_not_overlap",
        lambda h: with_effects(h, *h.effects[:2], entry("end", 11, 1), *h.effects[2:]),
    ),
    "a session runs without a stored start": (
        "side_effects_are_recorded_starts",
        lambda h: replace(h, starts=frozenset({12, 13})),
    ),
    "a session runs for a token that is no attempt": (
        "side_effects_are_recorded_starts",
        lambda h: with_effects(h, *h.effects, entry("start", 99, 1), entry("end", 99, 1)),
    ),
    "a token runs twice": (
        "side_effects_are_recorded_starts",
        lambda h: with_effects(h, *h.effects, *h.effects[3:]),
    ),
    "a session ends that never began": (
        "side_effects_are_recorded_starts",
        lambda h: with_effects(h, *h.effects[:3], *h.effects[4:]),
    ),
    "a session works on another task": (
        "side_effects_are_recorded_starts",
        lambda h: with_effects(h, *h.effects[:4], h.effects[4]._replace(key="T.1")),
    ),
    "an attempt succeeded without having run": (
        "recorded_runs_had_their_side_effect",
        lambda h: with_effects(h, *h.effects[:3]),
    ),
    "an attempt succeeded before its end": (
        "recorded_runs_had_their_side_effect",
        lambda h: with_effects(h, *h.effects[:4]),
    ),
    "a result came without a start": (
        "results_are_of_started_attempts",
        lambda h: replace(h, starts=frozenset({11, 12})),
    ),
    "a task is done after a failure": (
        "done_tasks_have_an_accepted_result",
        lambda h: with_attempt(h, 13, state="failed", failure_class="agent"),
    ),
    "a task is done by its gate alone": (
        "done_tasks_have_an_accepted_result",
        lambda h: with_attempt(h, 13, kind="gate"),
    ),
    "a task waits for nothing": (
        "every_unfinished_task_has_a_reason",
        lambda h: with_task(h, 2, state="waiting"),
    ),
    "a task runs without an attempt": (
        "every_unfinished_task_has_a_reason",
        lambda h: with_task(h, 2, state="running"),
    ),
    "a task is held for no reason": (
        "every_unfinished_task_has_a_reason",
        lambda h: with_task(h, 2, state="held", reason="because"),
    ),
    "a ready task needs another": (
        "every_unfinished_task_has_a_reason",
        lambda h: with_task(with_task(h, 1, state="failed", reason="no"), 2, state="ready"),
    ),
    "a done task has a live attempt": (
        "every_unfinished_task_has_a_reason",
        lambda h: with_attempt(h, 13, state="started", ended_at=None),
    ),
    "a dead letter says nothing": (
        "every_unfinished_task_has_a_reason",
        lambda h: with_task(h, 2, state="failed"),
    ),
    "a container stays open": (
        "every_unfinished_task_has_a_reason",
        lambda h: replace(h, tasks={**h.tasks, 3: task(3, is_container=True, state="waiting")}),
    ),
    "a done plan has open tasks": ("plans_fit_their_tasks", lambda h: with_task(h, 2, state="ready")),
    "an active plan has nothing to do": ("plans_fit_their_tasks", lambda h: with_plan(h, state="active")),
    "two attempts are live at once": (
        "one_live_attempt_at_a_time",
        lambda h: with_attempt(h, 12, leased_at=at(4)),
    ),
    "a live attempt has ended": (
        "one_live_attempt_at_a_time",
        lambda h: with_attempt(h, 13, state="started"),
    ),
    "a lease outlives its attempt": (
        "leases_are_of_live_attempts",
        lambda h: replace(h, leases=frozenset({12})),
    ),
    "a live attempt has no lease": (
        "leases_are_of_live_attempts",
        lambda h: with_attempt(h, 13, state="leased", ended_at=None),
    ),
    "an attempt number is skipped": (
        "attempts_are_numbered_without_gaps",
        lambda h: with_attempt(h, 12, number=3),
    ),
    "an accepted task runs again": (
        "every_next_attempt_was_allowed",
        lambda h: with_attempt(h, 11, state="succeeded", failure_class=""),
    ),
    "a failure that may not be repeated is": (
        "every_next_attempt_was_allowed",
        lambda h: with_attempt(h, 11, state="failed", failure_class="plan_defect"),
    ),
    "a loss has no reason": ("every_next_attempt_was_allowed", lambda h: with_attempt(h, 11, end_reason="")),
    "an attempt follows that the task did not ask for": (
        "every_next_attempt_was_allowed",
        lambda h: without_events(h, 6),
    ),
    "a review comes before its gate": (
        "every_next_attempt_was_allowed",
        lambda h: with_attempt(
            with_attempt(h, 11, state="succeeded", failure_class="", kind="review"), 12, kind="gate"
        ),
    ),
    "a gate runs before the work is in": (
        "every_next_attempt_was_allowed",
        lambda h: with_attempt(with_attempt(h, 11, state="succeeded", failure_class=""), 12, kind="gate"),
    ),
    "a child is released too early": ("dependencies_are_done_first", lambda h: with_event(h, 1, task_id=2)),
    "a child is leased too early": (
        "dependencies_are_done_first",
        lambda h: replace(h, events=(h.events[13]._replace(seq=0), *h.events)),
    ),
    "an old epoch writes after a new one": ("epochs_do_not_go_back", lambda h: with_event(h, 9, epoch=2)),
    "an attempt is of another epoch than its lease": (
        "epochs_do_not_go_back",
        lambda h: with_attempt(h, 13, epoch=2),
    ),
    "an attempt was never leased": (
        "events_tell_the_life_of_each_attempt",
        lambda h: without_events(h, 14),
    ),
    "an attempt was leased twice": (
        "events_tell_the_life_of_each_attempt",
        lambda h: replace(h, events=(*h.events, h.events[13]._replace(seq=17))),
    ),
    "an attempt starts after its end": (
        "events_tell_the_life_of_each_attempt",
        lambda h: replace(h, events=(*h.events, h.events[8]._replace(seq=17))),
    ),
    "the end of an attempt is not told": (
        "events_tell_the_life_of_each_attempt",
        lambda h: without_events(h, 10),
    ),
    "an event tells another end": (
        "events_tell_the_life_of_each_attempt",
        lambda h: with_event(h, 10, state="failed"),
    ),
    "a start is told that is not stored": (
        "events_tell_the_life_of_each_attempt",
        lambda h: replace(h, starts=frozenset({11, 13})),
    ),
    "an event is of no attempt": (
        "events_tell_the_life_of_each_attempt",
        lambda h: replace(h, events=(*h.events, EventRow(17, 1, 1, 99, 1, "attempt.leased", ""))),
    ),
}


def test_a_good_history_passes() -> None:
    assert list(violations(GOOD)) == []
    assert GOOD.summary == (
        "1 plans, 2 tasks, 3 attempts (1 lost, 2 succeeded), 16 events, 1 epochs, 5 side effects, "
        "2 acknowledgements"
    )


@pytest.mark.parametrize("what", BAD)
def test_a_bad_history_is_caught(what: str) -> None:
    check, spoil = BAD[what]
    found = {one.partition(":")[0] for one in violations(spoil(GOOD))}
    assert check in found


def test_every_check_has_a_history_that_it_catches() -> None:
    assert {check.__name__ for check in CHECKS} == {check for check, _ in BAD.values()}


def test_a_lost_attempt_may_stand_without_its_event() -> None:
    """The scheduler died between the fence and the batch that would have told of it."""
    assert list(violations(without_events(GOOD, 5))) == []
