"""One seed from its beginning to its verdict."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import structlog

from orchestrator.core import events as e
from orchestrator.core.commands import Command
from orchestrator.core.invariants import check_invariants
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.state import Policy
from orchestrator.errors import InvariantViolation
from orchestrator.runtime import clock as clock_module
from orchestrator.runtime import scheduling as scheduling_module
from tests.simulation.people import People
from tests.simulation.trouble import Trouble, make_peace
from tests.simulation.world import World
from tests.support import history_rows as rows
from tests.support.history_checks import violations
from tests.support.memory_tables import MemoryTables

#: Longest virtual time from peace until every plan is over.
WITHIN_S = 400.0

#: After peace the term may pass on for so long; then it stays where it is.
SETTLED_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of a seed. `counts` are faults injected and requests answered."""

    seed: int
    violations: tuple[str, ...]
    counts: Counter[str]
    digest: str
    trace: tuple[str, ...]
    summary: str
    virtual_s: float


def simulate_many(seeds: range) -> list[Report]:
    """Run seeds one after the other; the trace is kept only of what went wrong."""
    reports = map(simulate, seeds)
    return [report if report.violations else replace(report, trace=()) for report in reports]


class CheckedState(SchedulerState):
    """The shipped core, with its invariants checked after every event that changed something."""

    def handle(self, event: AnyEvent, *, at_ms: int) -> list[Command]:
        commands = super().handle(event, at_ms=at_ms)
        if commands or not isinstance(event, e.Tick | e.BeatsRead):
            check_invariants(self)
        return commands


def simulate(seed: int) -> Report:
    """Run one seed."""
    world = World(seed)
    with _simulated_surroundings(world):
        people = People(world)
        world.loop.spawn(world.keep_a_scheduler())
        world.start_executors()
        Trouble(world)
        world.loop.run_until_complete(world.loop.spawn(_live(world, people)))
        virtual_s = world.loop.time()
        history = history_of(world.database.tables, world, people)
        world.violations += list(violations(history))
        _check_rebuilt(world)
        world.is_over = True
        digest = _digest(world)
        world.loop.bury(world.processes)
    return Report(
        seed=seed,
        violations=tuple(world.violations),
        counts=world.dice.counts,
        digest=digest,
        trace=tuple(world.trace),
        summary=history.summary,
        virtual_s=virtual_s,
    )


async def _live(world: World, people: People) -> None:
    await asyncio.sleep(world.dice.throw.uniform(20.0, 70.0))
    make_peace(world)
    world.loop.later(SETTLED_S, _watch_term, world)
    await people.see_through(within_s=WITHIN_S)
    await asyncio.sleep(SETTLED_S)  # late messages change nothing any more


def _watch_term(world: World) -> None:
    """From now on nobody takes the term."""
    before = world.database.tables.term

    def look() -> None:
        after = world.database.tables.term
        if not world.is_over and before is not None and after is not None and after.epoch != before.epoch:
            world.violation(f"the term passed from epoch {before.epoch} to {after.epoch} in peace")

    world.loop.later(SETTLED_S, look)


def _digest(world: World) -> str:
    for row in world.database.tables.events:
        world.digest.update(f"{row.seq} {row.epoch} {row.at_ms} {row.event}".encode())
    return world.digest.hexdigest()


@contextmanager
def _simulated_surroundings(world: World) -> Iterator[None]:
    """Give the runtime virtual time, a checked core, and a log that goes into the trace."""

    def to_trace(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        del logger
        told = {key: value for key, value in event.items() if key not in {"event", "exc_info"}}
        world.note(f"log {method}: {event['event']}", **told)
        error = event.get("exc_info")
        term = world.database.tables.term
        # It read some plans before and some after another took the term: of that it can write nothing.
        is_superseded = term is not None and event.get("epoch", term.epoch) != term.epoch
        if isinstance(error, InvariantViolation) and is_superseded:
            pass
        elif isinstance(error, InvariantViolation | AssertionError | KeyError | TypeError | AttributeError):
            world.violation(f"{event['event']}: {error!r}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[to_trace], cache_logger_on_first_use=False)
    real = vars(clock_module)["time"], vars(scheduling_module)["SchedulerState"]
    vars(clock_module)["time"] = SimpleNamespace(monotonic=world.loop.time)
    vars(scheduling_module)["SchedulerState"] = CheckedState
    try:
        yield
    finally:
        vars(clock_module)["time"], vars(scheduling_module)["SchedulerState"] = real
        structlog.configure(**before)


def _check_rebuilt(world: World) -> None:
    """Memory rebuilt from the tables must be sound."""
    state = SchedulerState(policy=Policy())
    attempts: tuple[e.LiveAttempt, ...] = ()
    try:
        for plan_id in world.database.tables.unfinished_plans():
            for part in world.database.tables.load_plan(plan_id):
                state.handle(e.PlanSliceLoaded(plan=part.plan, tasks=part.tasks, edges=part.edges), at_ms=0)
                attempts = part.attempts
            state.handle(e.PlanLoaded(plan_id=plan_id, attempts=attempts), at_ms=0)
        check_invariants(state)
    except InvariantViolation as error:
        world.violations.append(f"rebuilt: {error}")


def history_of(tables: MemoryTables, world: World, people: People) -> rows.History:
    """Return the history of a run, for the checks that every fault test ends with."""
    leaves = Counter(tables.plan_of[i] for i, task in tables.tasks.items() if not task.is_container)
    return rows.History(
        plans={i: rows.PlanRow(i, plan.state, leaves[i]) for i, plan in tables.plans.items()},
        tasks={i: _task_row(tables, i) for i in sorted(tables.tasks)},
        edges=tuple(rows.EdgeRow(i, on_id) for i, ons in tables.edges.items() for on_id in ons),
        attempts={token: _attempt_row(tables, token) for token in sorted(tables.attempts)},
        events=tuple(
            rows.EventRow(
                r.seq,
                r.event.plan_id,
                r.event.task_id,
                r.event.token,
                r.epoch,
                r.event.type,
                str(r.event.payload.get("state", "")),
            )
            for r in tables.events
        ),
        starts=frozenset(token for token, row in tables.attempts.items() if row.incarnation),
        results={token: row.state for token, row in tables.attempts.items() if row.has_result},
        leases=frozenset(tables.leases),
        effects=tuple(world.trees.effects),
        acknowledged=tuple(people.acknowledged),
    )


def _task_row(tables: MemoryTables, task_id: int) -> rows.TaskRow:
    task = tables.tasks[task_id]
    return rows.TaskRow(
        task_id=task_id,
        plan_id=tables.plan_of[task_id],
        key=f"T{task_id}",
        parent_id=task.parent_id,
        is_container=task.is_container,
        state=task.state,
        reason=task.reason,
        has_effects=False,
    )


def _attempt_row(tables: MemoryTables, token: int) -> rows.AttemptRow:
    row = tables.attempts[token]
    return rows.AttemptRow(
        token=token,
        plan_id=row.plan_id,
        task_id=row.task_id,
        kind=row.kind,
        number=row.number,
        epoch=row.epoch,
        state=row.state,
        end_reason=row.end_reason,
        failure_class=row.failure_class or "",
        leased_at=_moment(row.leased_at_ms),
        ended_at=None if row.ended_at_ms is None else _moment(row.ended_at_ms),
    )


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
