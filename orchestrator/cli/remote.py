"""Follows a plan over HTTP, in the same messages that a Host sends over its pipe."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

from orchestrator.cli.messages import Ended, Happened, LogsRead, Message, PlanRead, TasksRead
from orchestrator.cli.progress import PLAN_OVER
from orchestrator.cli.summary import LOG_LINES_MAX
from orchestrator.client import Client
from orchestrator.core.words import TaskKind, TaskState
from orchestrator.errors import OrchestratorError
from orchestrator.views import EventView, PlanView, TaskView

_PLAN_EVERY_S = 1.0
_LOGS_MAX = 20


def follow_plan(client: Client, ref: str) -> Iterator[Message]:
    """Yield the plan as it stands, then what happens, until nothing more happens by itself."""
    plan = client.plan(ref)
    yield PlanRead(plan=plan)
    yield TasksRead(items=leaves(client, plan.id))
    if plan.state not in PLAN_OVER:
        for message in _until_over(client, plan):
            yield message
            if isinstance(message, PlanRead):
                plan = message.plan
    tasks = leaves(client, plan.id)
    yield TasksRead(items=tasks)
    failed = [task for task in tasks if task.state == TaskState.FAILED]
    for task in failed[:_LOGS_MAX]:
        yield LogsRead(task_key=task.key, items=client.logs(task.id)[-LOG_LINES_MAX:])
    yield Ended(plan=plan)


def leaves(client: Client, plan_id: int) -> tuple[TaskView, ...]:
    """Return the tasks of a plan that are executed."""
    return tuple(task for task in client.all_tasks(plan_id) if task.kind == TaskKind.LEAF)


def _until_over(client: Client, plan: PlanView) -> Iterator[Message]:
    """Yield events as they come, and the plan each second; the plan, not an event, tells of the end."""
    events: queue.SimpleQueue[EventView | OrchestratorError] = queue.SimpleQueue()
    threading.Thread(
        target=_listen, args=(Client(client.endpoint), plan, events), name="events", daemon=True
    ).start()
    read_s = time.monotonic()
    while plan.state not in PLAN_OVER:
        yield from _arrived(events, wait_s=max(read_s + _PLAN_EVERY_S - time.monotonic(), 0.0))
        if time.monotonic() - read_s >= _PLAN_EVERY_S:
            plan, read_s = client.plan(str(plan.id)), time.monotonic()
            yield PlanRead(plan=plan)
    yield from _arrived(events, wait_s=0.0)


def _listen(client: Client, plan: PlanView, events: queue.SimpleQueue[EventView | OrchestratorError]) -> None:
    try:
        with client:
            for event in client.watch(plan_id=plan.id, after=plan.last_seq):
                events.put(event)
    except OrchestratorError as error:
        events.put(error)


def _arrived(events: queue.SimpleQueue[EventView | OrchestratorError], *, wait_s: float) -> Iterator[Message]:
    """Yield what is in the queue, waiting for the first."""
    try:
        found = events.get(timeout=wait_s) if wait_s else events.get_nowait()
        while True:
            if isinstance(found, OrchestratorError):
                raise found
            yield Happened(event=found)
            found = events.get_nowait()
    except queue.Empty:
        return
