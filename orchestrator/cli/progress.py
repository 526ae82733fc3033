"""How far a plan is, folded from messages: tasks by state and agent type, and the sessions that are live."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from orchestrator.cli.messages import (
    Accepted,
    Ended,
    Happened,
    LiveRead,
    LogsRead,
    Message,
    PlanRead,
    TasksRead,
)
from orchestrator.core.words import AT_REST, AT_WORK, TaskState
from orchestrator.views import AttemptView, EventView, LogView, PlanView, TaskView

_STATES = frozenset(TaskState)


@dataclass(slots=True, kw_only=True)
class TaskLine:
    """One task as it stands. `failure` is the summary of its last attempt that did not succeed."""

    id: int
    key: str
    title: str
    agent_type: str
    state: str
    reason: str
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A live attempt. `since` is the time of its start, by the service."""

    task_key: str
    title: str
    agent_type: str
    kind: str
    number: int
    since: datetime


@dataclass(slots=True, kw_only=True)
class AgentTypeCount:
    """Tasks of one agent type."""

    agent_type: str
    tasks: int = 0
    done: int = 0
    failed: int = 0
    running: int = 0


@dataclass(slots=True)
class Progress:
    """The state of one plan that is being followed.

    Attributes:
        is_continued: the plan was known when it was handed in, and goes on.
        started_s, plan_read_s: when this process began to follow, and last read the plan; monotonic.
    """

    plan: PlanView | None = None
    name: str = ""
    reason: str = ""
    is_continued: bool = False
    tasks: dict[int, TaskLine] = field(default_factory=dict)
    sessions: dict[int, Session] = field(default_factory=dict)
    logs: dict[str, tuple[LogView, ...]] = field(default_factory=dict)
    started_s: float = field(default_factory=time.monotonic)
    plan_read_s: float = 0.0

    def take(self, message: Message) -> None:
        """Fold one message in."""
        match message:
            case Accepted(submitted=submitted):
                self.name, self.is_continued = submitted.name, not submitted.is_new
            case TasksRead(items=items):
                self._take_tasks(items)
            case Happened(event=event):
                self._take_event(event)
            case PlanRead(plan=plan) | Ended(plan=plan):
                self.plan, self.name, self.plan_read_s = plan, plan.name, time.monotonic()
            case LiveRead(task_id=task_id, attempt=attempt):
                self._take_live(task_id, attempt)
            case LogsRead(task_key=task_key, items=logs):
                self.logs[task_key] = logs

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.plan is not None and self.plan.state in AT_REST

    @property
    def elapsed_s(self) -> float:
        """Seconds that the plan takes, by its own times; of one that goes on, since it is followed."""
        if self.plan is None or self.is_continued:
            return time.monotonic() - self.started_s
        return ((self.plan.ended_at or self.now(self.plan)) - self.plan.created_at).total_seconds()

    def now(self, plan: PlanView) -> datetime:
        """Return the time at the service: that of its last answer, and what has passed since."""
        return plan.read_at + timedelta(seconds=time.monotonic() - self.plan_read_s)

    def lasts_s(self, session: Session) -> float:
        """Return the seconds for which a session has been live; 0 until the time at the service is known."""
        return (self.now(self.plan) - session.since).total_seconds() if self.plan else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end by the service's last estimate, less the time since; None if unknown."""
        if self.plan is None or self.plan.eta_s is None:
            return None
        return max(self.plan.eta_s - (time.monotonic() - self.plan_read_s), 0.0)

    def counts(self) -> Counter[str]:
        """Return the number of tasks by state."""
        return Counter(task.state for task in self.tasks.values())

    def in_state(self, state: str) -> Iterator[TaskLine]:
        """Yield the tasks in a state, in the author's order."""
        return (task for task in self.tasks.values() if task.state == state)

    def by_agent_type(self) -> list[AgentTypeCount]:
        """Return the counts of each agent type, the largest first."""
        found: dict[str, AgentTypeCount] = {}
        for task in self.tasks.values():
            entry = found.setdefault(task.agent_type, AgentTypeCount(agent_type=task.agent_type))
            entry.tasks += 1
            entry.done += task.state == TaskState.DONE
            entry.failed += task.state == TaskState.FAILED
            entry.running += task.state in AT_WORK
        return sorted(found.values(), key=lambda entry: (-entry.tasks, entry.agent_type))

    def _take_tasks(self, items: tuple[TaskView, ...]) -> None:
        """Replace the tasks as a whole, so that another thread can go through them meanwhile."""
        failures = {task.id: task.failure for task in self.tasks.values()}
        self.tasks = {
            item.id: TaskLine(
                id=item.id,
                key=item.key,
                title=item.title,
                agent_type=item.agent_type,
                state=item.state,
                reason=item.reason,
                failure=failures.get(item.id, ""),
            )
            for item in items
        }

    def _take_event(self, event: EventView) -> None:
        noun, _, what = event.type.partition(".")
        if noun == "plan":
            self.reason = str(event.payload.get("reason", ""))
        task = self.tasks.get(event.task_id or 0)
        if task is None:
            return
        if noun == "task":
            if what not in _STATES:
                return  # it stays where it is: `task.flagged`, `task.budget`
            task.state, task.reason = what, str(event.payload.get("reason", ""))
        elif what == "started":
            self.sessions[task.id] = _session(task, event)
        elif what in {"ended", "lost"}:
            self.sessions.pop(task.id, None)
            if event.payload.get("state") != "succeeded":
                task.failure = str(event.payload.get("summary", ""))

    def _take_live(self, task_id: int, attempt: AttemptView) -> None:
        if attempt.started_at is None:  # its start is an event to come
            return
        task = self.tasks[task_id]
        self.sessions[task_id] = Session(
            task_key=task.key,
            title=task.title,
            agent_type=attempt.agent_type,
            kind=attempt.kind,
            number=attempt.number,
            since=attempt.started_at,
        )


def _session(task: TaskLine, event: EventView) -> Session:
    payload = event.payload
    return Session(
        task_key=task.key,
        title=task.title,
        agent_type=str(payload.get("agent_type") or task.agent_type),
        kind=str(payload.get("kind", "work")),
        number=int(payload.get("number", 1)),
        since=event.at,
    )
