"""The blocking client."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2

from orchestrator.agent_types import AgentTypeView
from orchestrator.analysis_views import ForecastView, GraphView
from orchestrator.client import calls
from orchestrator.client.calls import Call
from orchestrator.client.patience import Patience
from orchestrator.client.transport import Endpoint, read_answer, request_arguments, stream_arguments
from orchestrator.errors import OrchestratorError
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

T = TypeVar("T")


class Client:
    """Talks to an orchestrator over HTTP; each call blocks until its answer is there.

    Use it as a context manager, or call `close`. Every method raises the errors of orchestrator.errors.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._http = httpx2.Client(**endpoint.options())

    @classmethod
    def of_home(cls, home: Path) -> Self:
        """Return a client of the stack that runs in this home; see Endpoint.of_home for the errors."""
        return cls(Endpoint.of_home(home))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, request: SubmitRequest, *, idempotency_key: str = "") -> Submitted:
        """Hand in a plan."""
        return self._send(calls.submit(request, idempotency_key=idempotency_key))

    def plan(self, ref: str) -> PlanView:
        """Return a plan by id or name."""
        return self._send(calls.plan(ref))

    def source(self, ref: str) -> SourceView:
        """Return the text of a plan, and where its tasks stand."""
        return self._send(calls.source(ref))

    def revise(self, ref: str, request: ReviseRequest, *, is_applied: bool = False) -> Revised:
        """Tell what a new text of a plan changes; if it is applied, the plan runs by it."""
        return self._send(calls.revise(ref, request, is_applied=is_applied))

    def plans(self, *, after: str = "", limit: int = 100) -> Page[PlanView]:
        """Return one page of the plans."""
        return self._send(calls.plans(after=after, limit=limit))

    def tasks(self, plan_id: int, *, state: str = "", after: str = "", limit: int = 200) -> Page[TaskView]:
        """Return one page of a plan's tasks."""
        return self._send(calls.tasks(plan_id, state=state, after=after, limit=limit))

    def all_tasks(self, plan_id: int, *, state: str = "") -> tuple[TaskView, ...]:
        """Return every task of a plan, page by page."""
        page = self.tasks(plan_id, state=state)
        found = list(page.items)
        while page.next:
            page = self.tasks(plan_id, state=state, after=page.next)
            found.extend(page.items)
        return tuple(found)

    def graph(self, ref: str) -> GraphView:
        """Return what is left of a plan and how it hangs together."""
        return self._send(calls.graph(ref))

    def forecast(self, ref: str, *, width: int = 0, samples: int = 0, seed: int = 0) -> ForecastView:
        """Return when a plan is done and what it costs; a width or samples of 0 are left to the server."""
        return self._send(calls.forecast(ref, width=width, samples=samples, seed=seed))

    def export(self, ref: str, *, to: str) -> str:
        """Return a plan in another notation, such as `mermaid`."""
        return self._send(calls.export(ref, to=to))

    def ready(self, plan_id: int, *, limit: int = 50) -> tuple[TaskView, ...]:
        """Return what would start next, the most urgent first."""
        return self._send(calls.ready(plan_id, limit=limit))

    def task(self, ref: str, *, plan_id: int | None = None) -> TaskDetail:
        """Return a task by id or key."""
        return self._send(calls.task(ref, plan_id=plan_id))

    def orient(
        self, *, task_id: int | None = None, plan_id: int | None = None, tokens: int = 0
    ) -> ContextPackView:
        """Return what a task is about, or a plan; within so many tokens, if any are named."""
        return self._send(calls.orient(task_id=task_id, plan_id=plan_id, tokens=tokens))

    def notes(
        self, plan_id: int, *, task: str = "", kind: str = "", after: str = "", limit: int = 100
    ) -> Page[NoteView]:
        """Return one page of a plan's notes, the newest first."""
        return self._send(calls.notes(plan_id, task=task, kind=kind, after=after, limit=limit))

    def write_note(self, plan_id: int, new: NewNote, *, idempotency_key: str = "") -> NoteView:
        """Leave a note on a task or on a plan."""
        return self._send(calls.write_note(plan_id, new, idempotency_key=idempotency_key))

    def decompose(self, task_id: int, *, again: bool = False, idempotency_key: str = "") -> Proposal:
        """Have a model propose subtasks for a task, anew if `again`; nothing is changed by that."""
        return self._send(calls.decompose(task_id, again=again, idempotency_key=idempotency_key))

    def dependencies(self, plan_id: int, *, kind: str = "") -> tuple[PlanDependencyView, ...]:
        """Return every dependency of a plan, or those of one kind, page by page."""
        page = self._send(calls.dependencies(plan_id, kind=kind))
        found = list(page.items)
        while page.next:
            page = self._send(calls.dependencies(plan_id, kind=kind, after=page.next))
            found.extend(page.items)
        return tuple(found)

    def logs(self, task_id: int, *, token: int | None = None, after: int = 0) -> tuple[LogView, ...]:
        """Return the transcript of one attempt, or of all attempts of a task; `after` a seq read before."""
        return self._send(calls.logs(task_id, token=token, after=after))

    def events(
        self, *, after: int = 0, plan_id: int | None = None, limit: int = 500
    ) -> tuple[EventView, ...]:
        """Return the events that follow `after`."""
        return self._send(calls.events(after=after, plan_id=plan_id, limit=limit))

    def watch(self, *, plan_id: int | None = None, after: int = 0) -> Iterator[EventView]:
        """Yield events for ever, going on behind the last one seen when the connection breaks."""
        patience = Patience(total_s=math.inf)
        while True:
            try:
                with contextlib.closing(self._stream(calls.stream(after=after, plan_id=plan_id))) as stream:
                    for event in stream:
                        after = event.seq
                        patience.renew()
                        yield event
            except OrchestratorError as error:
                time.sleep(patience.delay_s(error))

    def request(
        self,
        kind: str,
        *,
        plan_id: int = 0,
        task_id: int = 0,
        reason: str = "",
        until_key: str = "",
        budget_micros: int = 0,
        limits: NewLimits | None = None,
        idempotency_key: str = "",
    ) -> Mapping[str, Any]:
        """Ask for one change, answered after its commit; see Service.request for the kinds."""
        call = calls.request(
            kind,
            plan_id=plan_id,
            task_id=task_id,
            reason=reason,
            until_key=until_key,
            budget_micros=budget_micros,
            limits=limits,
            idempotency_key=idempotency_key,
        )
        return self._send(call)

    def relink(self, kind: str, *, task_id: int, on_key: str, reason: str = "") -> Mapping[str, Any]:
        """Add or drop a dependency of a task: `add_dependency`, `drop_dependency`."""
        return self._send(calls.relink(kind, task_id=task_id, on_key=on_key, reason=reason))

    def agent_types(self, *, plan: str = "") -> tuple[AgentTypeView, ...]:
        """Return the agent types of everybody, then those that a plan brought along, if one is named."""
        return self._send(calls.agent_types(plan=plan))

    def agent_type(self, name: str) -> AgentTypeView:
        """Return an agent type by its name, or by `name@plan`."""
        return self._send(calls.agent_type(name))

    def status(self) -> StatusView:
        """Return the service at a glance."""
        return self._send(calls.status())

    def _send(self, call: Call[T]) -> T:
        patience = Patience(total_s=self.endpoint.patience_s)
        while True:
            try:
                with self._meaning():
                    answer = self._http.request(**request_arguments(call))
                return read_answer(call, answer.status_code, answer.headers, answer.content)
            except OrchestratorError as error:
                time.sleep(patience.delay_s(error))

    def _stream(self, call: Call[EventView]) -> Generator[EventView]:
        """Yield until the connection ends; its end is an error too."""
        with self._meaning():
            with self._http.stream(**stream_arguments(call, self.endpoint)) as answer:
                if answer.is_error:
                    read_answer(call, answer.status_code, answer.headers, answer.read())
                for event in httpx2.EventSource(answer):
                    if event.data:
                        yield call.read(event.data.encode())
            raise httpx2.RemoteProtocolError("the stream of events ended")

    @contextlib.contextmanager
    def _meaning(self) -> Iterator[None]:
        try:
            yield
        except httpx2.HTTPError as error:
            raise self.endpoint.broken(error) from error
