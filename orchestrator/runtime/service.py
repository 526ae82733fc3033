"""The use cases of every front end: submit a plan, ask for a change, read, watch.

The HTTP API, the Python client and the Host all call this class, and nobody else reads the database for
users. It adds rows (plans and revisions, inert; notes and proposals); whatever changes a task or a plan is
asked of the scheduler.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any

from orchestrator import __version__
from orchestrator.agent_types import AgentTypeView
from orchestrator.analysis_views import ForecastView, GraphView
from orchestrator.core.requests import GLOBAL_REQUESTS, PLAN_REQUESTS, TASK_REQUESTS
from orchestrator.errors import Conflict, DatabaseUnavailable, Overloaded
from orchestrator.grant_ports import GovernorPort
from orchestrator.plan.export import export_plan
from orchestrator.ports import SchedulerPort
from orchestrator.proposals import Proposal
from orchestrator.routing import Routing, provider_of_models
from orchestrator.routing.backends import SIMULATED, backend_note
from orchestrator.runtime.agents import agent_type_named, agent_type_views, require_agent_types
from orchestrator.runtime.decomposition import Decompositions
from orchestrator.runtime.orientation import Orientation
from orchestrator.runtime.outlook import forecast_of, graph_of
from orchestrator.runtime.revision import Revisions
from orchestrator.runtime.status import seen_by_tenant
from orchestrator.runtime.submission import Submissions, until_task
from orchestrator.settings import Settings
from orchestrator.status_views import GovernorView, StatusView
from orchestrator.store import event_views, plan_views, plans, task_views, transcripts
from orchestrator.store.crypto import NO_KEYS, FieldKeys
from orchestrator.store.engine import Connection, Engine, libpq_url, tenant_transaction
from orchestrator.store.listener import EventListener
from orchestrator.store.past_attempts import past_attempts
from orchestrator.store.whole_plans import read_whole
from orchestrator.text import id_in
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

_PAGE_MAX = 1000
_TASK = re.compile(r"\b[Tt]ask (\d+)\b")
_WATCH_PAGE = 500
_POLL_S = 1.0


class Service:
    """One tenant's view of the orchestrator.

    Args:
        engine: connects as the role `api`; row level security keeps tenants apart.
        scheduler: where changes are asked for.
        routing: decides the agent type of every leaf of a new plan.
        keys: decrypt transcripts.
        governors: of each credential; who asks a model here, asks them too.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        scheduler: SchedulerPort,
        routing: Routing,
        settings: Settings,
        tenant_id: str = "local",
        keys: FieldKeys = NO_KEYS,
        governors: Mapping[str, GovernorPort] = MappingProxyType({}),
    ) -> None:
        self._engine = engine
        self._scheduler = scheduler
        self._routing = routing
        self._settings = settings
        self._tenant_id = tenant_id
        self._keys = keys
        self._governors = governors
        self._listener = EventListener(libpq_url(engine))
        self._submissions = Submissions(
            transaction=self._transaction,
            scheduler=scheduler,
            routing=routing,
            settings=settings,
            tenant_id=tenant_id,
        )
        self._decompositions = Decompositions(
            transaction=self._transaction,
            scheduler=scheduler,
            governor=governors.get(provider_of_models(settings)),
            routing=routing,
            settings=settings,
            tenant_id=tenant_id,
        )
        self._orientation = Orientation(transaction=self._transaction, settings=settings, tenant_id=tenant_id)
        self._revisions = Revisions(
            transaction=self._transaction,
            scheduler=scheduler,
            listener=self._listener,
            routing=routing,
            settings=settings,
            tenant_id=tenant_id,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._listener.close()
        await self._engine.dispose()

    # --- changes

    async def submit(self, request: SubmitRequest, *, idempotency_key: str = "") -> Submitted:
        """Store a new plan, inert, or go on with the known plan of that name; see Submissions.submit."""
        return await self._submissions.submit(request, idempotency_key=idempotency_key)

    async def request(
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
    ) -> Mapping[str, object]:
        """Have the scheduler change one task, one plan or everything; returns after the commit.

        The same request under the same key is carried out once and answered alike, also by a scheduler that
        was restarted in between.

        Args:
            until_key: of `resume_plan`: key of the task to work up to; empty = the whole plan.
            budget_micros: of `set_budget`, 0 = no budget; of `set_task_budget`, 0 = as its author says.
            limits: of `set_limits`.

        Raises:
            NotFound: this tenant has no such plan or task, the plan no task of that key, or nobody such an
                agent type.
            Conflict: its state does not allow the change, the budget is out of bounds, there is no such kind
                of request, or the key was used for another one.
            Overloaded: the scheduler is away or full.
        """
        async with self._transaction() as connection:
            if kind in TASK_REQUESTS:
                plan_id = (await task_views.require_task(connection, task_id)).plan_id
            elif kind in PLAN_REQUESTS:
                await plans.require_plan(connection, str(plan_id))
            elif kind not in GLOBAL_REQUESTS:
                known = ", ".join(sorted(TASK_REQUESTS | PLAN_REQUESTS | GLOBAL_REQUESTS))
                raise Conflict(f"There is no request {kind!r}.", remedy=f"Ask for one of {known}.")
            if limits is not None:
                await self._require_limited(connection, limits)
            args = {
                "tenant_id": self._tenant_id,
                "plan_id": plan_id,
                "task_id": task_id,
                "reason": reason,
                "until_task": await until_task(connection, until_key, plan_id=plan_id),
                "budget_micros": budget_micros,
                "limits": limits and limits.model_dump(mode="json"),
            }
        return await self._ask(kind, args, idempotency_key)

    async def relink(
        self, kind: str, *, task_id: int, on_key: str, reason: str = "", idempotency_key: str = ""
    ) -> Mapping[str, object]:
        """Have the scheduler add or drop a dependency of a task; returns after the commit.

        Args:
            kind: one of `core.requests.DEPENDENCY_REQUESTS`.
            on_key: key or id of the task that it waits for, in the same plan.

        Raises:
            NotFound: this tenant has no such task, or its plan none of that key.
            Conflict: it would close a cycle, which is named; or as `request`.
            Overloaded: the scheduler is away or full.
        """
        async with self._transaction() as connection:
            task = await task_views.require_task(connection, task_id)
            on = await task_views.find_task(connection, on_key, plan_id=task.plan_id)
        args = {
            "tenant_id": self._tenant_id,
            "plan_id": task.plan_id,
            "task_id": task_id,
            "on_task": on.id,
            "reason": reason,
        }
        return await self._ask(kind, args, idempotency_key)

    async def _ask(self, kind: str, args: Mapping[str, object], idempotency_key: str) -> Mapping[str, object]:
        try:
            return await self._scheduler.request(kind, args, idempotency_key)
        except Conflict as refused:
            raise Conflict(await self._with_keys(refused.message), remedy=refused.remedy) from refused

    # --- plans

    async def plan(self, ref: str) -> PlanView:
        """Return the plan whose id, or else whose name, is `ref`. Raises NotFound."""
        async with self._transaction() as connection:
            known = await plans.require_plan(connection, ref)
            return await plan_views.plan_view(connection, known.id)

    async def plan_id(self, ref: str) -> int:
        """Return the id of the plan whose id, or else whose name, is `ref`. Raises NotFound."""
        async with self._transaction() as connection:
            return (await plans.require_plan(connection, ref)).id

    async def plans(self, *, after: str = "", limit: int = 100) -> Page[PlanView]:
        """Return the plans, newest first; `after` is the `next` of the page before."""
        async with self._transaction() as connection:
            return await plan_views.plan_page(connection, after=after, limit=min(limit, _PAGE_MAX))

    async def source(self, ref: str) -> SourceView:
        """Return the text of a plan, and where its tasks stand. Raises NotFound."""
        return await self._revisions.source(ref)

    async def revise(self, ref: str, request: ReviseRequest, *, is_applied: bool) -> Revised:
        """Tell what a new text of a plan changes, or have the plan run by it; see Revisions.revise."""

        async def ask(kind: str, task_id: int, reason: str) -> Mapping[str, object]:
            return await self.request(kind, task_id=task_id, reason=reason)

        return await self._revisions.revise(ref, request, is_applied=is_applied, ask=ask)

    async def dependencies(
        self, plan_id: int, *, kind: str = "", after: str = "", limit: int = 200
    ) -> Page[PlanDependencyView]:
        """Return the dependencies of a plan's tasks in its order, those of a task always in one page.

        Args:
            kind: keeps those of one kind, such as `blocks`.
            limit: how many tasks with dependencies a page tells of.
        """
        async with self._transaction() as connection:
            return await task_views.dependency_page(
                connection, plan_id, kind=kind, after=after, limit=min(limit, _PAGE_MAX)
            )

    async def graph(self, plan_id: int) -> GraphView:
        """Return what is left of a plan and how it hangs together."""
        async with self._transaction() as connection:
            whole = await read_whole(connection, plan_id)
        return await asyncio.to_thread(graph_of, whole)

    async def forecast(
        self, plan_id: int, *, width: int = 0, samples: int = 0, seed: int = 0
    ) -> ForecastView:
        """Return when a plan will be done and what it will cost, by its estimates and past attempts.

        Raises:
            PlanError: width or samples are out of bounds.
        """
        async with self._transaction() as connection:
            whole = await read_whole(connection, plan_id)
            past = await past_attempts(connection, without_backend=SIMULATED)
        return await asyncio.to_thread(forecast_of, whole, past, width=width, samples=samples, seed=seed)

    async def export(self, plan_id: int, *, to: str) -> str:
        """Return a plan in another notation, with the marks of its tasks' states.

        Raises:
            PlanError: there is no such notation.
        """
        async with self._transaction() as connection:
            whole = await read_whole(connection, plan_id)
        return await asyncio.to_thread(export_plan, whole.plan, to)

    # --- tasks

    async def tasks(
        self, plan_id: int, *, state: str = "", after: str = "", limit: int = 200
    ) -> Page[TaskView]:
        """Return the tasks of a plan in its order; `after` is the `next` of the page before."""
        async with self._transaction() as connection:
            return await task_views.task_page(
                connection, plan_id, state=state, after=after, limit=min(limit, _PAGE_MAX)
            )

    async def ready(self, plan_id: int, *, limit: int = 50) -> tuple[TaskView, ...]:
        """Return the ready tasks of a plan, the next one first."""
        async with self._transaction() as connection:
            return await task_views.ready_tasks(connection, plan_id, limit=min(limit, _PAGE_MAX))

    async def task(self, ref: str, *, plan_id: int | None = None) -> TaskDetail:
        """Return the task of that id or key. Raises NotFound, and Conflict if the key is not unique."""
        async with self._transaction() as connection:
            known = await task_views.find_task(connection, ref, plan_id=plan_id)
            return await task_views.task_detail(connection, known.id)

    async def decompose(self, task_id: int, *, again: bool = False, idempotency_key: str = "") -> Proposal:
        """Have a model propose subtasks for a task; see Decompositions.propose."""
        return await self._decompositions.propose(task_id, again=again, idempotency_key=idempotency_key)

    async def orient(
        self, ref: str = "", *, plan_id: int | None = None, tokens_max: int = 0
    ) -> ContextPackView:
        """Return the context pack of a task, or without one the brief of a plan; see Orientation."""
        if plan_id is not None and not ref:
            return await self._orientation.of_plan(plan_id, tokens_max=tokens_max)
        return await self._orientation.of_task(ref, plan_id=plan_id, tokens_max=tokens_max)

    async def notes(
        self, plan_id: int, *, task: str = "", kind: str = "", after: str = "", limit: int = 100
    ) -> Page[NoteView]:
        """Return notes of a plan, the newest first; see Orientation.notes."""
        return await self._orientation.notes(
            plan_id, task=task, kind=kind, after=after, limit=min(limit, _PAGE_MAX)
        )

    async def write_note(self, plan_id: int, new: NewNote, *, idempotency_key: str = "") -> NoteView:
        """Record a note of a person; see Orientation.write."""
        return await self._orientation.write(plan_id, new, idempotency_key=idempotency_key)

    async def logs(self, task_id: int, *, token: int | None = None, after: int = 0) -> tuple[LogView, ...]:
        """Return what the attempts of a task said; `token` keeps one, `after` what follows a seq of it.

        Raises:
            NotFound: no such task.
        """
        async with self._transaction() as connection:
            await task_views.require_task(connection, task_id)
            return await transcripts.task_logs(connection, task_id, token=token, after=after, keys=self._keys)

    # --- what happened, and how it goes

    async def events(
        self, *, after: int = 0, plan_id: int | None = None, limit: int = 500
    ) -> tuple[EventView, ...]:
        """Return the events after a seq, oldest first."""
        async with self._transaction() as connection:
            return await event_views.events_after(
                connection, after=after, plan_id=plan_id, limit=min(limit, _PAGE_MAX)
            )

    async def watch(self, *, plan_id: int | None = None, after: int = 0) -> AsyncIterator[EventView]:
        """Yield every event after a seq as it is committed; never ends by itself.

        A database that is away only delays it.
        """
        with self._listener.subscribed() as wake:
            while True:
                wake.clear()  # before the fetch: a commit between the two wakes us again
                found: tuple[EventView, ...] = ()
                with contextlib.suppress(DatabaseUnavailable, Overloaded):
                    found = await self.events(after=after, plan_id=plan_id, limit=_WATCH_PAGE)
                for event in found:
                    after = event.seq
                    yield event
                if len(found) < _WATCH_PAGE:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_POLL_S):
                            await wake.wait()

    async def status(self) -> StatusView:
        """Return the whole service at a glance; a scheduler that is away shows as not ready."""
        async with self._transaction() as connection:
            plans_by_state, tasks_by_state = await plan_views.counts(connection)
        fields: dict[str, Any] = {
            "version": __version__,
            "epoch": 0,
            "is_ready": False,
            "is_paused": False,
            "pause_reason": "",
            "uptime_s": 0.0,
            "sessions_max": self._settings.limits.sessions_max,
            "sessions": 0,
            "pools": (),
            "limits": (),
            "budgets": (),
            "unknown_commits": 0,
            "backend_note": backend_note(self._settings),
        }
        with contextlib.suppress(Overloaded):
            told = await self._scheduler.status()
            fields |= {name: value for name, value in told.items() if name in fields}
            for name in ("limits", "budgets"):
                fields[name] = seen_by_tenant(fields[name], self._tenant_id)
        governors = await asyncio.gather(*(_governor_view(*item) for item in self._governors.items()))
        return StatusView(**fields, plans=plans_by_state, tasks=tasks_by_state, governors=tuple(governors))

    async def agent_types(self, *, plan_id: int = 0) -> tuple[AgentTypeView, ...]:
        """Return the agent types of everybody, then those that a plan brought along, if one is named."""
        told: Mapping[str, Any] | None = None
        with contextlib.suppress(Overloaded):
            told = await self._scheduler.status()
        async with self._transaction() as connection:
            return await agent_type_views(
                connection, self._routing, plan_id=plan_id, settings=self._settings, told=told
            )

    async def agent_type(self, name: str) -> AgentTypeView:
        """Return the agent type of that name; `name@plan` is of a plan. Raises NotFound."""
        _, _, plan = name.partition("@")
        return agent_type_named(name, await self.agent_types(plan_id=id_in(plan) or 0))

    async def _require_limited(self, connection: Connection, limits: NewLimits) -> None:
        """Raise NotFound if a plan or an agent type is limited that there is not; 0 takes any limit back."""
        for plan_id in limits.plans:
            await plans.require_plan(connection, str(plan_id))
        limited = [name for name, most in limits.agents.items() if most]
        await require_agent_types(connection, self._routing, limited)

    async def _with_keys(self, message: str) -> str:
        """Call the tasks of a message by their keys: the core knows their ids alone."""
        ids = {int(number) for number in _TASK.findall(message)}
        if not ids:
            return message
        async with self._transaction() as connection:
            keys = await task_views.keys_of(connection, ids)
        return _TASK.sub(lambda match: f"{match[0][:4]} {keys.get(int(match[1]), match[1])}", message)

    def _transaction(self) -> AbstractAsyncContextManager[Connection]:
        return tenant_transaction(self._engine, self._tenant_id)


async def _governor_view(credential: str, governor: GovernorPort) -> GovernorView:
    try:
        told: dict[str, Any] = dict(await governor.status())
    except Overloaded:
        told = {"is_away": True}
    return GovernorView(credential=credential, **told)
