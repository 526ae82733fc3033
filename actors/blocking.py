"""The Python client for programs without asyncio: the same calls, each waiting for its answer.

The asynchronous client does the work, on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from actors.client import AsyncOrchestrator, PlanLike, PlanResult, aconnect
from orchestrator.agent_types import AgentTypeView
from orchestrator.status_views import StatusView
from orchestrator.views import (
    ContextPackView,
    EventView,
    LogView,
    NewLimits,
    NewNote,
    NoteView,
    PlanView,
    Submitted,
    TaskDetail,
    TaskView,
)

T = TypeVar("T")


def connect(address: str | None = None, home: Path | str | None = None) -> Orchestrator:
    """Connect to the stack of a home; see actors.client.aconnect for arguments and errors."""
    loop = _LoopThread()
    try:
        return Orchestrator(loop.run(aconnect(address, home)), loop=loop)
    except BaseException:
        loop.close()
        raise


class Orchestrator:
    """The orchestrator; every method waits, and is described at actors.client.AsyncOrchestrator."""

    def __init__(self, asynchronous: AsyncOrchestrator, *, loop: _LoopThread) -> None:
        self._async = asynchronous
        self._loop = loop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to PostgreSQL."""
        self._loop.run(self._async.close())
        self._loop.close()

    def submit(
        self,
        plan: str | Path,
        *,
        name: str = "",
        workdir: str = "",
        backend: str = "auto",
        until_key: str = "",
        take: bool = False,
        is_fresh: bool = False,
        idempotency_key: str = "",
    ) -> Submitted:
        """Hand in a plan, as text or path, and have it worked on."""
        handed_in = self._async.submit(
            plan,
            name=name,
            workdir=workdir,
            backend=backend,
            until_key=until_key,
            take=take,
            is_fresh=is_fresh,
            idempotency_key=idempotency_key,
        )
        return self._loop.run(handed_in)

    def watch(self, plan: PlanLike, *, after: int = 0) -> Iterator[EventView]:
        """Yield the events of a plan, past and coming, until nothing more happens by itself."""
        events = self._async.watch(plan, after=after)
        try:
            while (event := self._loop.run(_next(events))) is not None:
                yield event
        finally:
            self._loop.run(_close(events))

    def result(self, plan: PlanLike) -> PlanResult:
        """Wait until nothing more happens by itself, and return how the plan stands."""
        return self._loop.run(self._async.result(plan))

    def plan(self, plan: PlanLike) -> PlanView:
        """Return a plan with its roll-up."""
        return self._loop.run(self._async.plan(plan))

    def plans(self) -> tuple[PlanView, ...]:
        """Return every plan, newest first."""
        return self._loop.run(self._async.plans())

    def tasks(self, plan: PlanLike, *, state: str = "") -> tuple[TaskView, ...]:
        """Return every task of a plan, or those of one state, in the plan's order."""
        return self._loop.run(self._async.tasks(plan, state=state))

    def task(self, task: int | str, *, plan: PlanLike | None = None) -> TaskDetail:
        """Return a task by id, or by key together with its plan."""
        return self._loop.run(self._async.task(task, plan=plan))

    def logs(self, task_id: int, *, token: int | None = None) -> tuple[LogView, ...]:
        """Return what the attempts of a task said; `token` keeps one attempt."""
        return self._loop.run(self._async.logs(task_id, token=token))

    def orient(self, plan: PlanLike, *, task: str = "", tokens: int = 0) -> ContextPackView:
        """Return what a plan is about, or one of its tasks by key or id; `tokens` bounds the text."""
        return self._loop.run(self._async.orient(plan, task=task, tokens=tokens))

    def notes(self, plan: PlanLike, *, task: str = "", kind: str = "") -> tuple[NoteView, ...]:
        """Return every note of a plan, or those on one task or of one kind, the newest first."""
        return self._loop.run(self._async.notes(plan, task=task, kind=kind))

    def write_note(self, plan: PlanLike, new: NewNote, *, idempotency_key: str = "") -> NoteView:
        """Leave a note on a task or on a plan."""
        return self._loop.run(self._async.write_note(plan, new, idempotency_key=idempotency_key))

    def agent_types(self, plan: PlanLike | None = None) -> tuple[AgentTypeView, ...]:
        """Return the agent types of everybody, then those that a plan brought along, if one is named."""
        return self._loop.run(self._async.agent_types(plan))

    def agent_type(self, name: str) -> AgentTypeView:
        """Return an agent type by its name, or by `name@plan`."""
        return self._loop.run(self._async.agent_type(name))

    def status(self) -> StatusView:
        """Return the whole service at a glance."""
        return self._loop.run(self._async.status())

    def cancel(self, plan: PlanLike, *, reason: str = "") -> Mapping[str, object]:
        """Stop what runs of a plan and start nothing more of it."""
        return self._loop.run(self._async.cancel(plan, reason=reason))

    def pause(self, plan: PlanLike, *, reason: str = "") -> Mapping[str, object]:
        """Start nothing more of a plan; what runs may end."""
        return self._loop.run(self._async.pause(plan, reason=reason))

    def resume(self, plan: PlanLike, *, reason: str = "") -> Mapping[str, object]:
        """Go on with a paused plan."""
        return self._loop.run(self._async.resume(plan, reason=reason))

    def cancel_task(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Stop the session of a task and start it no more."""
        return self._loop.run(self._async.cancel_task(task_id, reason=reason))

    def retry(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Give a failed, cancelled or skipped task new attempts."""
        return self._loop.run(self._async.retry(task_id, reason=reason))

    def skip(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Give up on a task; what depends on it goes on without it."""
        return self._loop.run(self._async.skip(task_id, reason=reason))

    def finish(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Say that a task is done, by hand."""
        return self._loop.run(self._async.finish(task_id, reason=reason))

    def reopen(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Have a task done again; what depends on it and has not started waits for it again."""
        return self._loop.run(self._async.reopen(task_id, reason=reason))

    def hold(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Keep a task that waits or is ready from starting until it is released."""
        return self._loop.run(self._async.hold(task_id, reason=reason))

    def release(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Say that what a task was held for is settled."""
        return self._loop.run(self._async.release(task_id, reason=reason))

    def approve(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Let a task start that is held for approval."""
        return self._loop.run(self._async.approve(task_id, reason=reason))

    def reject(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Refuse what is held for approval: the task fails, and may be retried."""
        return self._loop.run(self._async.reject(task_id, reason=reason))

    def set_budget(self, plan: PlanLike, usd: float) -> Mapping[str, object]:
        """Set the most that a plan may spend, what it has spent included; 0 = no limit."""
        return self._loop.run(self._async.set_budget(plan, usd))

    def set_task_budget(self, task_id: int, usd: float) -> Mapping[str, object]:
        """Set the most that all attempts of a task may spend together; 0 = as its author says."""
        return self._loop.run(self._async.set_task_budget(task_id, usd))

    def pause_all(self, *, reason: str = "") -> Mapping[str, object]:
        """Start nothing more in any plan, also after a restart; what runs may end."""
        return self._loop.run(self._async.pause_all(reason=reason))

    def resume_all(self, *, reason: str = "") -> Mapping[str, object]:
        """Take back the pause of everything."""
        return self._loop.run(self._async.resume_all(reason=reason))

    def set_limits(self, limits: NewLimits) -> Mapping[str, object]:
        """Change how many sessions may be live at once; a lowered limit ends nothing."""
        return self._loop.run(self._async.set_limits(limits))


class _LoopThread:
    """An event loop in a thread of its own; a waiting caller can still be interrupted."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="orchestrator-client", daemon=True
        )
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End loop and thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(events: Any) -> EventView | None:
    event: EventView | None = await anext(events, None)
    return event


async def _close(events: Any) -> None:
    await events.aclose()
