"""Follows a plan over HTTP, in the same messages that a Host sends over its pipe."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator
from itertools import islice

from orchestrator.cli.messages import Ended, Happened, LiveRead, LogsRead, Message, PlanRead, TasksRead
from orchestrator.cli.summary import LOG_LINES_MAX
from orchestrator.client import Client
from orchestrator.core.words import AT_REST, AT_WORK, LIVE, TaskKind, TaskState
from orchestrator.views import PlanView, TaskView

_LOOK_EVERY_S = 0.5
_EVENTS_MAX = 1000
_LOGS_MAX = 20
_LIVE_READ_MAX = 20  # about as many as a view shows


def follow_plan(client: Client, ref: str) -> Iterator[Message]:
    """Yield the plan as it stands, then what happens, until nothing more happens by itself."""
    plan = client.plan(ref)
    yield PlanRead(plan=plan)
    tasks = leaves(client, plan.id)
    yield TasksRead(items=tasks)
    yield from _live(client, tasks)
    plan = yield from _until_over(client, plan)
    tasks = leaves(client, plan.id)
    yield TasksRead(items=tasks)
    failed = [task for task in tasks if task.state == TaskState.FAILED]
    for task in failed[:_LOGS_MAX]:
        yield LogsRead(task_key=task.key, items=client.logs(task.id)[-LOG_LINES_MAX:])
    yield Ended(plan=plan)


def leaves(client: Client, plan_id: int) -> tuple[TaskView, ...]:
    """Return the tasks of a plan that are executed."""
    return tuple(task for task in client.all_tasks(plan_id) if task.kind == TaskKind.LEAF)


def _live(client: Client, tasks: Iterable[TaskView]) -> Iterator[Message]:
    """Yield the attempts that are live: their starts are no events to come."""
    at_work = (task for task in tasks if task.state in AT_WORK)
    for task in islice(at_work, _LIVE_READ_MAX):
        attempts = client.task(str(task.id), plan_id=task.plan_id).attempts
        yield from (LiveRead(task_id=task.id, attempt=each) for each in attempts if each.state in LIVE)


def _until_over(client: Client, plan: PlanView) -> Generator[Message, None, PlanView]:
    """Yield events and the plan, a look every half second, and return the plan as it ended."""
    seq = plan.last_seq
    while plan.state not in AT_REST:
        time.sleep(_LOOK_EVERY_S)
        plan = client.plan(str(plan.id))
        while events := client.events(after=seq, plan_id=plan.id, limit=_EVENTS_MAX):
            yield from (Happened(event=event) for event in events)
            seq = events[-1].seq
        yield PlanRead(plan=plan)
    return plan
