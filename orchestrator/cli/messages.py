"""What is told while a plan runs: the lines of a Host's stdout, and the same made from HTTP.

One JSON object a line, told apart by `kind`; see cluster.stdio for the writer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import OrchestratorError, rebuild
from orchestrator.views import AttemptView, EventView, LogView, PlanView, Submitted, TaskView


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Base of the messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting(Message):
    """A step of the start is over."""

    text: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Message):
    """The plan is stored."""

    submitted: Submitted


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksRead(Message):
    """The leaves of the plan as they stand."""

    items: tuple[TaskView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRead(Message):
    """An attempt that was live already when the following began."""

    task_id: int
    attempt: AttemptView


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened(Message):
    """Something happened."""

    event: EventView


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRead(Message):
    """The plan as it stands."""

    plan: PlanView


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsRead(Message):
    """The end of the transcript of a failed task."""

    task_key: str
    items: tuple[LogView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Message):
    """Nothing more will happen by itself."""

    plan: PlanView


def _tasks(fields: Mapping[str, Any]) -> Message:
    return TasksRead(items=tuple(TaskView.model_validate(item) for item in fields["items"]))


def _logs(fields: Mapping[str, Any]) -> Message:
    items = tuple(LogView.model_validate(item) for item in fields["items"])
    return LogsRead(task_key=fields["task_key"], items=items)


def _error(fields: Mapping[str, Any]) -> Message:
    raise rebuild(
        fields["code"],
        message=fields["message"],
        remedy=fields.get("remedy", ""),
        findings=fields.get("findings") or (),
    )


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Message]] = {
    "progress": lambda fields: Starting(text=fields["text"], at_s=fields.get("at_s", 0.0)),
    "submitted": lambda fields: Accepted(submitted=Submitted.model_validate(fields)),
    "tasks": _tasks,
    "event": lambda fields: Happened(event=EventView.model_validate(fields)),
    "plan": lambda fields: PlanRead(plan=PlanView.model_validate(fields)),
    "logs": _logs,
    "ended": lambda fields: Ended(plan=PlanView.model_validate(fields["plan"])),
    "error": _error,
}


def read_message(line: str | bytes) -> Message:
    """Return the message that a line carries.

    Raises:
        OrchestratorError: the line tells of an error, or is none of ours.
    """
    try:
        fields = json.loads(line)
        reader = _READERS[fields.pop("kind")]
        return reader(fields)
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise OrchestratorError(
            f"The Host said what this command line does not understand: {line[:200]!r}.",
            remedy="Use the same version of both.",
        ) from error
