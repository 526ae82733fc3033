"""The scheduler's memory built anew from the tables, and compared with memory that lived through it all.

state = await rebuild(urls.service)
assert differences(picture(state), live) == []
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.core.commands import RowCommand, SavePlan, SaveTask
from orchestrator.core.events import LimitsSet, PlanLoaded, PlanSliceLoaded
from orchestrator.core.invariants import check_invariants
from orchestrator.core.limits import Limits
from orchestrator.core.machine import SchedulerState
from orchestrator.core.state import Policy, State
from orchestrator.core.words import PlanState
from tests.support.rows import make_store

#: What memory knows, as JSON could carry it: by kind, by id, named values.
Picture = dict[str, dict[str, dict[str, Any]]]

#: Nothing may start: memory is only looked at.
_AT_REST = LimitsSet(limits=Limits(sessions_max=0))


async def rebuild(url: str) -> SchedulerState:
    """Load every plan that was taken and is not over, as recovery does, without acting on it.

    Raises:
        InvariantViolation: the tables do not make a sound memory.
        AssertionError: loading would have changed a row, so memory and tables had parted.
    """
    state, changes = SchedulerState(policy=Policy()), list[RowCommand]()
    state.handle(_AT_REST, at_ms=0)
    store = make_store(url)
    try:
        for plan_id in await store.unfinished_plans():
            async for part in store.load_plan(plan_id):
                if part.plan.state is PlanState.SUBMITTED:
                    break
                attempts = part.attempts
                slice_ = PlanSliceLoaded(plan=part.plan, tasks=part.tasks, edges=part.edges)
                changes += _changes(state, slice_)
            else:
                changes += _changes(state, PlanLoaded(plan_id=plan_id, attempts=attempts))
    finally:
        await store.close()
    check_invariants(state)
    assert changes == [], f"loading changes {len(changes)} rows, first {changes[0]}"
    return state


def _changes(state: SchedulerState, event: PlanSliceLoaded | PlanLoaded) -> list[RowCommand]:
    return [command for command in state.handle(event, at_ms=0) if isinstance(command, SaveTask | SavePlan)]


def picture(state: State) -> Picture:
    """Return what the tables must also say of memory; back-offs and queues follow from it."""
    return {
        "plan": {
            str(plan.plan_id): {"state": plan.state.value, "live": plan.live} for plan in state.plans.values()
        },
        "task": {
            str(task.task_id): {
                "state": task.state.value,
                "reason": task.reason,
                "unmet": task.unmet,
                "attempts_used": task.attempts_used,
                "losses": task.losses,
                "token": task.token,
                "version": task.version,
            }
            for task in state.tasks.values()
        },
        "attempt": {
            str(attempt.token): {
                "task": attempt.task_id,
                "kind": attempt.kind.value,
                "number": attempt.number,
                "executor": attempt.executor,
                "state": attempt.state.value,
            }
            for attempt in state.attempts.values()
        },
    }


def differences(rebuilt: Picture, live: Picture) -> list[str]:
    """Return in words what differs; plans that the live memory keeps although they are over do not count."""
    return list(_differences(rebuilt, live))


def _differences(rebuilt: Picture, live: Picture) -> Iterator[str]:
    for kind, things in rebuilt.items():
        for id_, values in things.items():
            found = live[kind].get(id_, {})
            for name, value in values.items():
                if found.get(name) != value:
                    yield f"{kind} {id_}: {name} is {value!r} in the tables, {found.get(name)!r} in memory"
    for token in live["attempt"].keys() - rebuilt["attempt"].keys():
        yield f"attempt {token} is live in memory and not in the tables"
