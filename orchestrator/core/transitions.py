"""The legal moves of plans, tasks and attempts; moving.py and reports.py make them.

A move that is not in the table raises InvariantViolation and changes nothing: it is our own bug. (A late
message with a stale token never gets here; it is normal traffic.)
"""

from __future__ import annotations

from typing import TypeVar

from orchestrator.core.words import AttemptState, PlanState, TaskState
from orchestrator.errors import InvariantViolation

_T = TaskState
_A = AttemptState
_P = PlanState

TASK_MOVES: dict[TaskState, frozenset[TaskState]] = {
    _T.WAITING: frozenset({_T.READY, _T.VERIFYING, _T.HELD, _T.DONE, _T.CANCELLED, _T.SKIPPED}),
    _T.READY: frozenset({_T.RUNNING, _T.WAITING, _T.HELD, _T.DONE, _T.CANCELLED, _T.SKIPPED}),
    # running → waiting: a dependency was opened again, or added, while it was at work, and its attempt failed
    _T.RUNNING: frozenset(
        {_T.READY, _T.WAITING, _T.VERIFYING, _T.MERGING, _T.DONE, _T.FAILED, _T.HELD, _T.CANCELLED}
    ),
    # verifying → verifying: its gate is through, its review is not
    _T.VERIFYING: frozenset(
        {
            *(_T.READY, _T.WAITING, _T.VERIFYING, _T.MERGING, _T.DONE),
            *(_T.FAILED, _T.HELD, _T.CANCELLED, _T.SKIPPED),
        }
    ),
    _T.MERGING: frozenset({_T.READY, _T.DONE, _T.FAILED, _T.HELD, _T.CANCELLED}),
    # held → held: what was approved may still lack credentials
    _T.HELD: frozenset(
        {_T.WAITING, _T.HELD, _T.READY, _T.VERIFYING, _T.DONE, _T.FAILED, _T.CANCELLED, _T.SKIPPED}
    ),
    _T.FAILED: frozenset({_T.READY, _T.WAITING, _T.HELD, _T.DONE, _T.CANCELLED, _T.SKIPPED}),
    _T.DONE: frozenset({_T.READY, _T.WAITING, _T.HELD}),
    # cancelled → done: its author ticks it in the file
    _T.CANCELLED: frozenset({_T.READY, _T.WAITING, _T.HELD, _T.DONE}),
    _T.SKIPPED: frozenset({_T.READY, _T.WAITING, _T.HELD}),
}

_ENDS = frozenset({_A.SUCCEEDED, _A.FAILED, _A.TIMED_OUT, _A.CANCELLED, _A.INTERRUPTED, _A.LOST})

ATTEMPT_MOVES: dict[AttemptState, frozenset[AttemptState]] = {
    _A.LEASED: _ENDS | {_A.STARTED},
    _A.STARTED: _ENDS,
    _A.SUCCEEDED: frozenset(),
    _A.FAILED: frozenset(),
    _A.TIMED_OUT: frozenset(),
    _A.CANCELLED: frozenset(),
    _A.INTERRUPTED: frozenset(),
    _A.LOST: frozenset(),
}

PLAN_MOVES: dict[PlanState, frozenset[PlanState]] = {
    _P.SUBMITTED: frozenset({_P.ACTIVE}),
    _P.ACTIVE: frozenset({_P.PAUSED, _P.DONE, _P.STALLED, _P.CANCELLED}),
    _P.PAUSED: frozenset({_P.ACTIVE, _P.CANCELLED}),
    _P.STALLED: frozenset({_P.ACTIVE, _P.PAUSED, _P.CANCELLED}),
    _P.DONE: frozenset({_P.ACTIVE}),
    _P.CANCELLED: frozenset(),
}

S = TypeVar("S", TaskState, AttemptState, PlanState)


def check_move(moves: dict[S, frozenset[S]], *, what: str, old: S, new: S) -> None:
    """Raise InvariantViolation unless `old` → `new` is a legal move of `what`."""
    if new not in moves[old]:
        raise InvariantViolation(f"{what} cannot go from {old.value} to {new.value}.")
