"""The Python client: submit plans, watch them and change them from any program on the cluster.

    from actors import connect

    with connect() as orchestrator:
        plan = orchestrator.submit("plan.md")
        for event in orchestrator.watch(plan):
            print(event.type, event.task_key)
        print(orchestrator.result(plan).plan.state)

Reads go to PostgreSQL, changes to the Scheduler actor. `aconnect` gives the same for asyncio.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeAlias

from actors.joining import join_ray
from orchestrator.agent_types import AgentTypeView
from orchestrator.core.words import AT_REST, PlanState
from orchestrator.errors import EnvironmentFault
from orchestrator.money import MICROS
from orchestrator.plan.files import agents_beside
from orchestrator.plan.read import read_path
from orchestrator.routing import Routing
from orchestrator.runtime.service import Service
from orchestrator.settings import Settings, load_settings
from orchestrator.stack import require_stack
from orchestrator.status_views import StatusView
from orchestrator.store.crypto import known_keys
from orchestrator.store.embedded import attach
from orchestrator.store.engine import make_engine
from orchestrator.store.urls import settings_urls
from orchestrator.views import (
    ContextPackView,
    EventView,
    LogView,
    NewLimits,
    NewNote,
    NoteView,
    PlanView,
    SubmitRequest,
    Submitted,
    TaskDetail,
    TaskView,
)

#: A plan as callers name it: what `submit` or `plan` returned, its id, or its name.
PlanLike: TypeAlias = Submitted | PlanView | int | str

_CONNECTIONS_MAX = 4
_ENDINGS = frozenset(f"plan.{state.value}" for state in AT_REST)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanResult:
    """How a plan ended, with its tasks in the plan's order, containers included."""

    plan: PlanView
    tasks: tuple[TaskView, ...]

    @property
    def is_done(self) -> bool:
        """Whether all of it is done."""
        return self.plan.state == PlanState.DONE


async def aconnect(address: str | None = None, home: Path | str | None = None) -> AsyncOrchestrator:
    """Connect to the stack of a home.

    Args:
        address: `host:port` of its Ray; by default the one that the stack says, or the settings.
        home: ORCHESTRATOR_HOME; by default from the environment, else the user's data folder.

    Raises:
        EnvironmentFault: nothing runs there, or Ray or PostgreSQL does not answer.
    """
    settings = await asyncio.to_thread(load_settings, Path(home) if home is not None else None)
    await asyncio.to_thread(_join, settings, address)
    from actors.gateway import RayScheduler  # after joining: Ray reads its configuration when imported
    from actors.governor import governors_of

    service = Service(
        engine=make_engine(_api_url(settings), connections_max=_CONNECTIONS_MAX, name="orchestrator-client"),
        scheduler=RayScheduler(),
        routing=Routing.from_settings(settings),
        settings=settings,
        keys=known_keys(settings),
        governors=governors_of(settings),
    )
    return AsyncOrchestrator(service)


class AsyncOrchestrator:
    """The orchestrator, for asyncio. Every method raises the errors of orchestrator.errors."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to PostgreSQL; Ray stays joined, because a process can join only once."""
        await self.service.close()

    async def submit(
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
        """Hand in a plan and have it worked on.

        Args:
            plan: the text if it has more than one line, else the path of a file or folder.
            name: identity of the plan; by default its front matter or title.
            workdir: absolute folder of the work; by default the front matter's, relative to the file.
            until_key: work only on this task and what it needs.
            take: also work on tasks marked in progress.
            is_fresh: set a known plan of the name aside and start over.

        Raises:
            PlanError: the plan is at fault; nothing was stored.
        """
        request = await asyncio.to_thread(_request, plan)
        choices = {
            "name": name or request.name,
            "workdir": workdir,
            "backend": backend,
            "until_key": until_key,
            "take": take,
            "is_fresh": is_fresh,
        }
        request = request.model_copy(update=choices)
        return await self.service.submit(request, idempotency_key=idempotency_key)

    async def watch(self, plan: PlanLike, *, after: int = 0) -> AsyncIterator[EventView]:
        """Yield the events of a plan, past and coming, until nothing more happens by itself.

        Args:
            after: seq of the last event seen.
        """
        view = await self.plan(plan)
        is_ending = view.state in AT_REST
        if is_ending and view.last_seq <= after:
            return
        async for event in self.service.watch(plan_id=view.id, after=after):
            yield event
            is_ending = event.type in _ENDINGS or (is_ending and event.type != "plan.active")
            if is_ending and await self._is_over(view.id, event.seq):
                return

    async def result(self, plan: PlanLike) -> PlanResult:
        """Wait until nothing more happens by itself, and return how the plan stands."""
        view = await self.plan(plan)
        async for _ in self.watch(view, after=view.last_seq):
            pass
        return PlanResult(plan=await self.plan(view), tasks=await self.tasks(view))

    async def plan(self, plan: PlanLike) -> PlanView:
        """Return a plan with its roll-up. Raises NotFound."""
        return await self.service.plan(_ref(plan))

    async def plans(self) -> tuple[PlanView, ...]:
        """Return every plan, newest first."""
        page = await self.service.plans()
        found = page.items
        while page.next:
            page = await self.service.plans(after=page.next)
            found += page.items
        return found

    async def tasks(self, plan: PlanLike, *, state: str = "") -> tuple[TaskView, ...]:
        """Return every task of a plan, or those of one state, in the plan's order."""
        plan_id = await self.service.plan_id(_ref(plan))
        page = await self.service.tasks(plan_id, state=state)
        found = page.items
        while page.next:
            page = await self.service.tasks(plan_id, state=state, after=page.next)
            found += page.items
        return found

    async def task(self, task: int | str, *, plan: PlanLike | None = None) -> TaskDetail:
        """Return a task by id, or by key together with its plan. Raises NotFound, Conflict."""
        plan_id = await self.service.plan_id(_ref(plan)) if plan is not None else None
        return await self.service.task(str(task), plan_id=plan_id)

    async def logs(self, task_id: int, *, token: int | None = None) -> tuple[LogView, ...]:
        """Return what the attempts of a task said; `token` keeps one attempt."""
        return await self.service.logs(task_id, token=token)

    async def orient(self, plan: PlanLike, *, task: str = "", tokens: int = 0) -> ContextPackView:
        """Return what a plan is about, or one of its tasks by key or id; `tokens` bounds the text."""
        plan_id = await self.service.plan_id(_ref(plan))
        return await self.service.orient(task, plan_id=plan_id, tokens_max=tokens)

    async def notes(self, plan: PlanLike, *, task: str = "", kind: str = "") -> tuple[NoteView, ...]:
        """Return every note of a plan, or those on one task or of one kind, the newest first."""
        plan_id = await self.service.plan_id(_ref(plan))
        page = await self.service.notes(plan_id, task=task, kind=kind)
        found = page.items
        while page.next:
            page = await self.service.notes(plan_id, task=task, kind=kind, after=page.next)
            found += page.items
        return found

    async def write_note(self, plan: PlanLike, new: NewNote, *, idempotency_key: str = "") -> NoteView:
        """Leave a note on a task or on a plan."""
        plan_id = await self.service.plan_id(_ref(plan))
        return await self.service.write_note(plan_id, new, idempotency_key=idempotency_key)

    async def agent_types(self, plan: PlanLike | None = None) -> tuple[AgentTypeView, ...]:
        """Return the agent types of everybody, then those that a plan brought along, if one is named."""
        plan_id = 0 if plan is None else await self.service.plan_id(_ref(plan))
        return await self.service.agent_types(plan_id=plan_id)

    async def agent_type(self, name: str) -> AgentTypeView:
        """Return an agent type by its name, or by `name@plan`."""
        return await self.service.agent_type(name)

    async def status(self) -> StatusView:
        """Return the whole service at a glance."""
        return await self.service.status()

    async def cancel(self, plan: PlanLike, *, reason: str = "") -> Mapping[str, object]:
        """Stop what runs of a plan and start nothing more of it."""
        return await self._change_plan("cancel_plan", plan, reason)

    async def pause(self, plan: PlanLike, *, reason: str = "") -> Mapping[str, object]:
        """Start nothing more of a plan; what runs may end."""
        return await self._change_plan("pause_plan", plan, reason)

    async def resume(self, plan: PlanLike, *, reason: str = "") -> Mapping[str, object]:
        """Go on with a paused plan."""
        return await self._change_plan("resume_plan", plan, reason)

    async def cancel_task(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Stop the session of a task and start it no more."""
        return await self.service.request("cancel_task", task_id=task_id, reason=reason)

    async def retry(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Give a failed, cancelled or skipped task new attempts."""
        return await self.service.request("retry_task", task_id=task_id, reason=reason)

    async def skip(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Give up on a task; what depends on it goes on without it."""
        return await self.service.request("skip_task", task_id=task_id, reason=reason)

    async def finish(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Say that a task is done, by hand."""
        return await self.service.request("finish_task", task_id=task_id, reason=reason)

    async def reopen(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Have a task done again; what depends on it and has not started waits for it again."""
        return await self.service.request("reopen_task", task_id=task_id, reason=reason)

    async def hold(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Keep a task that waits or is ready from starting until it is released."""
        return await self.service.request("hold_task", task_id=task_id, reason=reason)

    async def release(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Say that what a task was held for is settled."""
        return await self.service.request("release_task", task_id=task_id, reason=reason)

    async def approve(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Let a task start that is held for approval."""
        return await self.service.request("approve_task", task_id=task_id, reason=reason)

    async def reject(self, task_id: int, *, reason: str = "") -> Mapping[str, object]:
        """Refuse what is held for approval: the task fails, and may be retried."""
        return await self.service.request("reject_task", task_id=task_id, reason=reason)

    async def set_budget(self, plan: PlanLike, usd: float) -> Mapping[str, object]:
        """Set the most that a plan may spend, what it has spent included; 0 = no limit."""
        plan_id = await self.service.plan_id(_ref(plan))
        return await self.service.request(
            "set_budget", plan_id=plan_id, budget_micros=math.ceil(usd * MICROS)
        )

    async def set_task_budget(self, task_id: int, usd: float) -> Mapping[str, object]:
        """Set the most that all attempts of a task may spend together; 0 = as its author says."""
        return await self.service.request(
            "set_task_budget", task_id=task_id, budget_micros=math.ceil(usd * MICROS)
        )

    async def pause_all(self, *, reason: str = "") -> Mapping[str, object]:
        """Start nothing more in any plan, also after a restart; what runs may end."""
        return await self.service.request("pause_all", reason=reason)

    async def resume_all(self, *, reason: str = "") -> Mapping[str, object]:
        """Take back the pause of everything."""
        return await self.service.request("resume_all", reason=reason)

    async def set_limits(self, limits: NewLimits) -> Mapping[str, object]:
        """Change how many sessions may be live at once, which ends none, and what may be spent."""
        return await self.service.request("set_limits", limits=limits)

    async def _change_plan(self, kind: str, plan: PlanLike, reason: str) -> Mapping[str, object]:
        plan_id = await self.service.plan_id(_ref(plan))
        return await self.service.request(kind, plan_id=plan_id, reason=reason)

    async def _is_over(self, plan_id: int, seq: int) -> bool:
        view = await self.service.plan(str(plan_id))
        return view.state in AT_REST and view.last_seq <= seq


def _ref(plan: PlanLike) -> str:
    if isinstance(plan, Submitted):
        return str(plan.plan_id)
    return str(plan.id) if isinstance(plan, PlanView) else str(plan)


def _request(plan: str | Path) -> SubmitRequest:
    if isinstance(plan, str) and "\n" in plan:
        return SubmitRequest(text=plan, base_dir=str(Path.cwd()))
    path = Path(plan).absolute()
    found = read_path(path)
    base_dir = path if path.is_dir() else path.parent
    name = "" if found.name or found.title else path.stem
    return SubmitRequest(
        text=found.source,
        agents=agents_beside(path),
        source=str(plan),
        base_dir=str(base_dir),
        name=name,
    )


def _join(settings: Settings, address: str | None) -> None:
    join_ray(address or settings.ray.address or require_stack(settings.home).ray_address, home=settings.home)


def _api_url(settings: Settings) -> str:
    if not settings.database.is_embedded:
        return settings_urls(settings.database).api
    found = attach(settings.home)
    if found is None:
        raise EnvironmentFault(
            f"The embedded PostgreSQL of {settings.home} does not run.",
            remedy="Start the stack with `orchestrator up`.",
        )
    return found.urls().api
