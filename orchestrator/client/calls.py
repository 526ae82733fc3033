"""The HTTP API as values: one function per use case, which says what to send and how to read the answer.

No input or output here, so that the blocking and the asynchronous client share every line of it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter

from orchestrator.agent_types import AgentTypeView
from orchestrator.analysis_views import ForecastView, GraphView
from orchestrator.errors import RequestRefused
from orchestrator.proposals import Proposal
from orchestrator.status_views import StatusView
from orchestrator.views import (
    ContextPackView,
    EventView,
    LogView,
    NewLimits,
    NewNote,
    NoteView,
    Page,
    PlanDependencyView,
    PlanView,
    Revised,
    ReviseRequest,
    SourceView,
    SubmitRequest,
    Submitted,
    TaskDetail,
    TaskView,
)

#: How long a client waits for what a model is asked.
_MODEL_WAIT_MAX_S = 600.0

T = TypeVar("T")
V = TypeVar("V", bound=BaseModel)

#: Request kind → its route.
ROUTES: Mapping[str, str] = {
    "cancel_task": "/tasks/{task_id}/cancel",
    "skip_task": "/tasks/{task_id}/skip",
    "tick_task": "/tasks/{task_id}/tick",
    "untick_task": "/tasks/{task_id}/untick",
    "finish_task": "/tasks/{task_id}/finish",
    "retry_task": "/tasks/{task_id}/retry",
    "reopen_task": "/tasks/{task_id}/reopen",
    "hold_task": "/tasks/{task_id}/hold",
    "release_task": "/tasks/{task_id}/release",
    "approve_task": "/tasks/{task_id}/approve",
    "reject_task": "/tasks/{task_id}/reject",
    "set_task_budget": "/tasks/{task_id}/budget",
    "add_dependency": "/tasks/{task_id}/dependencies/add",
    "drop_dependency": "/tasks/{task_id}/dependencies/drop",
    "cancel_plan": "/plans/{plan_id}/cancel",
    "pause_plan": "/plans/{plan_id}/pause",
    "resume_plan": "/plans/{plan_id}/resume",
    "set_budget": "/plans/{plan_id}/budget",
    "pause_all": "/pause",
    "resume_all": "/resume",
    "set_limits": "/limits",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One HTTP exchange.

    Attributes:
        path: below `/api/v1`.
        params: query parameters; the empty ones are left out.
        read: turns the body of a 2xx answer into the result.
        timeout_s: how long the answer may take, where that is longer than others take.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    timeout_s: float | None = None

    @property
    def query(self) -> dict[str, str]:
        """The parameters that say something."""
        return {name: str(value) for name, value in self.params.items() if value not in ("", 0, None)}


def submit(request: SubmitRequest, *, idempotency_key: str = "") -> Call[Submitted]:
    """Hand in a plan. Without a key one is made, so that sending again stores nothing twice."""
    return Call(
        method="POST",
        path="/plans",
        read=Submitted.model_validate_json,
        headers=_json_headers(idempotency_key),
        body=request.model_dump_json().encode(),
    )


def plan(ref: str) -> Call[PlanView]:
    """Read a plan by id or name."""
    return _get(f"/plans/{_part(ref)}", PlanView)


def plans(*, after: str = "", limit: int = 100) -> Call[Page[PlanView]]:
    """List the plans, newest first."""
    return _get("/plans", Page[PlanView], after=after, limit=limit)


def source(ref: str) -> Call[SourceView]:
    """Read the text of a plan, and where its tasks stand."""
    return _get(f"/plans/{_part(ref)}/source", SourceView)


def revise(ref: str, request: ReviseRequest, *, is_applied: bool) -> Call[Revised]:
    """Have a plan compared with a new text, or run by it."""
    return Call(
        method="PUT",
        path=f"/plans/{_part(ref)}/source",
        read=Revised.model_validate_json,
        params={"apply": "true" if is_applied else ""},
        headers={"Accept": "application/json", "Content-Type": "application/json"},
        body=request.model_dump_json().encode(),
    )


def tasks(plan_id: int, *, state: str = "", after: str = "", limit: int = 200) -> Call[Page[TaskView]]:
    """List tasks of a plan in the author's order."""
    return _get(f"/plans/{plan_id}/tasks", Page[TaskView], state=state, after=after, limit=limit)


def graph(ref: str) -> Call[GraphView]:
    """Read what is left of a plan and how it hangs together."""
    return _get(f"/plans/{_part(ref)}/graph", GraphView)


def forecast(ref: str, *, width: int = 0, samples: int = 0, seed: int = 0) -> Call[ForecastView]:
    """Forecast when a plan is done and what it costs."""
    return _get(f"/plans/{_part(ref)}/forecast", ForecastView, width=width, samples=samples, seed=seed)


def export(ref: str, *, to: str) -> Call[str]:
    """Read a plan in another notation."""
    return Call(method="GET", path=f"/plans/{_part(ref)}/export", read=bytes.decode, params={"to": to})


def ready(plan_id: int, *, limit: int = 50) -> Call[tuple[TaskView, ...]]:
    """List what would start next."""
    return _get_list(f"/plans/{plan_id}/tasks/ready", TaskView, limit=limit)


def task(ref: str, *, plan_id: int | None = None) -> Call[TaskDetail]:
    """Read a task by id or key."""
    return _get(f"/tasks/{_part(ref)}", TaskDetail, plan=plan_id or 0)


def orient(
    *, task_id: int | None = None, plan_id: int | None = None, tokens: int = 0
) -> Call[ContextPackView]:
    """Read what a task is about, or a plan; within so many tokens, if any are named."""
    path = f"/plans/{plan_id}/context" if task_id is None else f"/tasks/{task_id}/context"
    return _get(path, ContextPackView, tokens=tokens)


def notes(
    plan_id: int, *, task: str = "", kind: str = "", after: str = "", limit: int = 100
) -> Call[Page[NoteView]]:
    """List notes of a plan, the newest first."""
    path = f"/plans/{plan_id}/notes"
    return _get(path, Page[NoteView], task=task, kind=kind, after=after, limit=limit)


def write_note(plan_id: int, new: NewNote, *, idempotency_key: str = "") -> Call[NoteView]:
    """Leave a note. Without a key one is made, so that sending again stores nothing twice."""
    return Call(
        method="POST",
        path=f"/plans/{plan_id}/notes",
        read=NoteView.model_validate_json,
        headers=_json_headers(idempotency_key),
        body=new.model_dump_json().encode(),
    )


def decompose(task_id: int, *, again: bool = False, idempotency_key: str = "") -> Call[Proposal]:
    """Have a model propose subtasks; the server bounds the time. Without a key one is made."""
    return Call(
        method="POST",
        path=f"/tasks/{task_id}/decompose",
        read=Proposal.model_validate_json,
        params={"again": "true" if again else ""},
        headers=_json_headers(idempotency_key),
        timeout_s=_MODEL_WAIT_MAX_S,
    )


def dependencies(
    plan_id: int, *, kind: str = "", after: str = "", limit: int = 200
) -> Call[Page[PlanDependencyView]]:
    """List the dependencies of a plan's tasks in the author's order."""
    path = f"/plans/{plan_id}/dependencies"
    return _get(path, Page[PlanDependencyView], kind=kind, after=after, limit=limit)


def logs(task_id: int, *, token: int | None = None, after: int = 0) -> Call[tuple[LogView, ...]]:
    """Read the transcript of a task: of one attempt, or of all; with `after` what follows a seq."""
    return _get_list(f"/tasks/{task_id}/logs", LogView, token=token or 0, after=after)


def events(*, after: int = 0, plan_id: int | None = None, limit: int = 500) -> Call[tuple[EventView, ...]]:
    """Read events that follow `after`."""
    return _get_list("/events", EventView, after=after, plan=plan_id or 0, limit=limit)


def request(
    kind: str,
    *,
    plan_id: int = 0,
    task_id: int = 0,
    reason: str = "",
    until_key: str = "",
    budget_micros: int = 0,
    limits: NewLimits | None = None,
    idempotency_key: str = "",
) -> Call[Mapping[str, Any]]:
    """Ask for one change of a task, a plan or everything.

    Raises:
        RequestRefused: there is no such kind.
    """
    if kind not in ROUTES:
        raise RequestRefused(
            f"There is no request {kind!r}.", remedy=f"Use one of {', '.join(sorted(ROUTES))}."
        )
    body: dict[str, Any] = {"reason": reason, "until_key": until_key}
    if kind in {"set_budget", "set_task_budget"}:
        body["budget_micros"] = budget_micros
    if limits is not None:
        body |= limits.model_dump(mode="json")
    return Call(
        method="POST",
        path=ROUTES[kind].format(plan_id=plan_id, task_id=task_id),
        read=TypeAdapter(dict[str, Any]).validate_json,
        headers=_json_headers(idempotency_key),
        body=TypeAdapter(dict[str, Any]).dump_json({name: said for name, said in body.items() if said != ""}),
    )


def relink(
    kind: str, *, task_id: int, on_key: str, reason: str = "", idempotency_key: str = ""
) -> Call[Mapping[str, Any]]:
    """Ask to add or to drop a dependency of a task."""
    return Call(
        method="POST",
        path=ROUTES[kind].format(task_id=task_id),
        read=TypeAdapter(dict[str, Any]).validate_json,
        headers=_json_headers(idempotency_key),
        body=TypeAdapter(dict[str, Any]).dump_json({"on_key": on_key, "reason": reason}),
    )


def agent_types(*, plan: str = "") -> Call[tuple[AgentTypeView, ...]]:
    """List the agent types of everybody, and those that a plan brought along."""
    return _get_list("/agents", AgentTypeView, plan=plan)


def agent_type(name: str) -> Call[AgentTypeView]:
    """Read an agent type."""
    return _get(f"/agents/{_part(name)}", AgentTypeView)


def status() -> Call[StatusView]:
    """Read the service at a glance."""
    return _get("/status", StatusView)


def stream(*, after: int, plan_id: int | None = None) -> Call[EventView]:
    """Follow the events; `read` is for the data of one server-sent event."""
    return Call(
        method="GET",
        path="/events",
        read=EventView.model_validate_json,
        params={"after": after, "plan": plan_id or 0},
        headers={"Accept": "text/event-stream", "Last-Event-ID": str(after)},
    )


def _get(path: str, view: type[V], **params: str | int) -> Call[V]:
    headers = {"Accept": "application/json"}
    return Call(method="GET", path=path, read=view.model_validate_json, params=params, headers=headers)


def _get_list(path: str, view: type[V], **params: str | int) -> Call[tuple[V, ...]]:
    page = Page[view]  # type: ignore[valid-type]  # a type made at run time, like the models pydantic makes

    def read(body: bytes) -> tuple[V, ...]:
        return page.model_validate_json(body).items

    return Call(method="GET", path=path, read=read, params=params, headers={"Accept": "application/json"})


def _json_headers(idempotency_key: str) -> dict[str, str]:
    return {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Idempotency-Key": idempotency_key or uuid.uuid4().hex,
    }


def _part(ref: str) -> str:
    return quote(ref, safe="")
