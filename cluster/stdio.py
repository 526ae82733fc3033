"""What the command line hears in mode `run` of the plan that it handed in (cluster/orders.py).

Out go the lines of `orchestrator.cli.messages`, the views of `orchestrator.views` under their kinds.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid

from cluster.progress import Progress
from orchestrator.core.words import AT_REST, TaskKind, TaskState
from orchestrator.errors import Conflict, DatabaseUnavailable, Overloaded
from orchestrator.runtime.service import Service
from orchestrator.views import EventView, PlanView, SubmitRequest, TaskView

_PLAN_PERIOD_S = 1.0
_RETRY_S = 0.5
_PAGE = 1000
_STARTED = "attempt.started"

#: At the end: so many failed tasks, and of each so many lines.
_LOGS_MAX = 20
_LOG_LINES_MAX = 20


class Dialogue:
    """Stores one plan and tells about it until nothing more happens by itself."""

    def __init__(self, *, service: Service, progress: Progress, has_started: asyncio.Event) -> None:
        self._service = service
        self._progress = progress
        self._seq = 0  # of the last event told
        self._has_started = has_started  # set when the first attempt has started

    async def run(self, request: SubmitRequest) -> None:
        """Carry out one order.

        Raises:
            PlanError: the plan is refused; nothing was stored.
            Conflict: everything is paused, so nothing of it would ever start.
            OrchestratorError: it cannot be stored.
        """
        plan = await self._submit(request)
        self._seq = plan.last_seq
        await self._tell_leaves(plan.id)
        plan = await self._follow(plan)
        for task in await self._tell_leaves(plan.id):
            await self._tell_logs(task)
        self._progress.tell("ended", {"plan": plan.model_dump(mode="json")})

    async def _submit(self, request: SubmitRequest) -> PlanView:
        """Store the plan; what changes a known plan waits until there is a scheduler."""
        key, submitted = uuid.uuid4().hex, None
        while submitted is None:
            try:
                submitted = await self._service.submit(request, idempotency_key=key)
            except Overloaded:
                await asyncio.sleep(_RETRY_S)
        self._progress.tell("submitted", submitted.model_dump(mode="json"))
        return await self._service.plan(str(submitted.plan_id))

    async def _follow(self, plan: PlanView) -> PlanView:
        """Tell events as they come and the plan each second; the plan, not an event, tells of its end."""
        events = asyncio.create_task(self._tell_events(plan.id))
        try:
            while plan.state not in AT_REST:
                await asyncio.sleep(_PLAN_PERIOD_S)
                with contextlib.suppress(DatabaseUnavailable, Overloaded):  # it is being started again
                    await self._refuse_if_paused()
                    plan = await self._service.plan(str(plan.id))
                    self._progress.tell("plan", plan.model_dump(mode="json"))
        finally:
            events.cancel()
            await asyncio.wait([events])
        while found := await self._service.events(after=self._seq, plan_id=plan.id):
            for event in found:
                self._tell_event(event)
        return plan

    async def _refuse_if_paused(self) -> None:
        """Nobody can take the pause back while this runs alone: without HTTP there is no way in."""
        if self._has_started.is_set():
            return
        status = await self._service.status()
        if status.is_paused:
            raise Conflict(
                f"Everything is paused ({status.pause_reason}), so nothing of the plan starts.",
                remedy="Take it back with `orchestrator up` and `orchestrator resume --all`.",
            )

    async def _tell_events(self, plan_id: int) -> None:
        async for event in self._service.watch(plan_id=plan_id, after=self._seq):
            self._tell_event(event)

    def _tell_event(self, event: EventView) -> None:
        self._seq = event.seq
        if event.type == _STARTED:
            self._has_started.set()
        self._progress.tell("event", event.model_dump(mode="json"))

    async def _tell_leaves(self, plan_id: int) -> list[TaskView]:
        """Tell the tasks that are executed, and return those that failed."""
        leaves: list[TaskView] = []
        after = ""
        while True:
            page = await self._service.tasks(plan_id, after=after, limit=_PAGE)
            leaves += [task for task in page.items if task.kind == TaskKind.LEAF]
            after = page.next
            if not after:
                break
        self._progress.tell("tasks", {"items": [task.model_dump(mode="json") for task in leaves]})
        return [task for task in leaves if task.state == TaskState.FAILED][:_LOGS_MAX]

    async def _tell_logs(self, task: TaskView) -> None:
        logs = (await self._service.logs(task.id))[-_LOG_LINES_MAX:]
        items = [line.model_dump(mode="json") for line in logs]
        self._progress.tell("logs", {"task_key": task.key, "items": items})
