"""The parts of a state that are kept once each, tables and cores: what is forgotten, and what must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from orchestrator.core.invariants import check_invariants
from orchestrator.core.machine import SchedulerState
from orchestrator.core.words import LIVE, AttemptState, TaskState
from orchestrator.errors import InvariantViolation
from tests.model.search import Violation
from tests.support.memory_tables import MemoryTables

#: The only task, and the only moment: what matters of time is which timeouts have come.
TASK = 1
NOW_MS = 1


def settled(tables: MemoryTables, change: Callable[[MemoryTables], Any]) -> Any:
    """Do a transaction; then forget what only counts: events, batches."""
    answer = change(tables)
    tables.events.clear()
    if tables.term is not None:
        tables.term = replace(tables.term, batch=0)
    return answer


def check_tables(tables: MemoryTables) -> None:
    """Raise Violation if the rows say what must never be."""
    live = [row for row in tables.attempts.values() if row.state in LIVE]
    if len(live) > 1:
        raise Violation(f"attempts {[row.token for row in live]} of one task are live at once")
    for token, row in tables.attempts.items():
        if row.state not in LIVE and not row.end_reason:
            raise Violation(f"attempt {token} ended for no reason")
        if row.has_result and not row.incarnation:
            raise Violation(f"attempt {token} has a result and never started")
    succeeded = [row for row in tables.attempts.values() if row.state is AttemptState.SUCCEEDED]
    successes = [row for row in succeeded if row.token not in tables.leases]  # those that are taken
    if (tables.tasks[TASK].state is TaskState.DONE) != bool(successes) or len(successes) > 1:
        raise Violation(f"the task is {tables.tasks[TASK].state}, {len(successes)} attempts succeeded")


def check_core(core: SchedulerState) -> None:
    """Raise Violation if an invariant of the core is broken."""
    try:
        check_invariants(core)
    except InvariantViolation as error:
        raise Violation(str(error)) from error


def normalise(core: SchedulerState) -> None:
    """Forget what only counts, tells the time or is stale: any timeout may come at any moment."""
    core.late_reports = 0
    core.ended.clear()
    core.timers = [(at, task_id) for at, task_id in core.timers if _backs_off(core, at, task_id)]
    core.executors = dict(sorted(core.executors.items()))
    for pool in core.pools.values():
        pool.executors = dict(sorted(pool.executors.items()))
    list_idle(core)
    if not any(task.ticket for task in core.tasks.values()):
        core.ticket = 0
    for attempt in core.attempts.values():
        attempt.leased_at_ms = attempt.beat_at_ms = NOW_MS
        attempt.started_at_ms = min(attempt.started_at_ms, NOW_MS)
        attempt.prove_since_ms = min(attempt.prove_since_ms, NOW_MS)
        attempt.prove_at_ms = min(attempt.prove_at_ms, NOW_MS)
        attempt.is_resent = False


def list_idle(core: SchedulerState) -> None:
    """Order anew which executors have room."""
    for pool in core.pools.values():
        pool.idle = sorted((-x.free, x.name) for x in pool.executors.values() if x.free > 0)
        pool.listed = set(pool.idle)


def _backs_off(core: SchedulerState, at_ms: int, task_id: int) -> bool:
    task = core.tasks.get(task_id)
    return task is not None and task.not_before_ms == at_ms
