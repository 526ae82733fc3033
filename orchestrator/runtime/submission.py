"""Handing in a plan: it is read and made ready, then stored, or the known plan of its name goes on.

Reading takes as long as the plan is large, so it is done in a thread. Whatever is wrong with a plan is a
PlanError, before anything is stored.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from orchestrator.core.words import FINISHED, PlanState
from orchestrator.errors import Conflict, PlanError
from orchestrator.money import MICROS
from orchestrator.plan.amounts import money_micros
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.model import Plan
from orchestrator.plan.read import read_files, read_plan
from orchestrator.ports import SchedulerPort
from orchestrator.routing import Routing, checked_plan, wanted_backend
from orchestrator.routing.backends import AUTO
from orchestrator.runtime.agents import stored_routing
from orchestrator.runtime.plan_repository import repository_of
from orchestrator.settings import Settings
from orchestrator.store import agent_types, idempotency, plans, task_views
from orchestrator.store.engine import Connection
from orchestrator.store.plan_rows import NewPlan
from orchestrator.store.plans import KnownPlan
from orchestrator.text import storable
from orchestrator.views import FindingView, SubmitRequest, Submitted

_NAME_CHARS_MAX = 500


class Submissions:
    """Takes the plans that one tenant hands in.

    Args:
        transaction: opens a transaction of the tenant.
    """

    def __init__(
        self,
        *,
        transaction: Callable[[], AbstractAsyncContextManager[Connection]],
        scheduler: SchedulerPort,
        routing: Routing,
        settings: Settings,
        tenant_id: str,
    ) -> None:
        self._transaction = transaction
        self._scheduler = scheduler
        self._routing = routing
        self._settings = settings
        self._tenant_id = tenant_id

    async def submit(self, request: SubmitRequest, *, idempotency_key: str = "") -> Submitted:
        """Store a new plan, inert, or go on with the known plan of that name.

        Raises:
            PlanError: the plan is at fault; nothing was stored.
            Conflict: the name belongs to another text, another backend or a cancelled plan, or the key to
                another request.
            Overloaded: the known plan must be changed first and the scheduler is away.
        """
        digest = sha256(json.dumps(request.model_dump()).encode()).hexdigest()
        if answer := await self._answered(key=idempotency_key, digest=digest):
            return answer
        with _uncollected():
            return await self._take(request, key=idempotency_key, digest=digest)

    async def _take(self, request: SubmitRequest, *, key: str, digest: str) -> Submitted:
        """Read the plan, and store it or go on with the one that is known."""
        async with self._transaction() as connection:
            routing = await stored_routing(connection, self._routing)
        routing = routing.with_own(request.agents)
        new = await asyncio.to_thread(read_submission, request, routing=routing, settings=self._settings)
        if request.is_fresh:
            await self._cancel_live(new.name)
        async with self._transaction() as connection:
            if key:
                given = await idempotency.claim(
                    connection, tenant_id=self._tenant_id, key=key, body_digest=digest
                )
                if given is not None:
                    return Submitted.model_validate(given)
            known = await self._store(connection, new, request)
            await agent_types.save_own(
                connection, routing.own.values(), plan_id=known.id, tenant_id=self._tenant_id
            )
            if not known.is_new:  # before the answer is kept: what the scheduler refused is asked for again
                await self._resume(connection, known, new, retry=request.retry)
                await self._set_budget(known, request.budget_micros)
            submitted = _submitted(new, known)
            if key:
                answer_json = submitted.model_dump(mode="json")
                await idempotency.store_answer(connection, key=key, answer=answer_json)
        await self._scheduler.nudge()
        return submitted

    async def _answered(self, *, key: str, digest: str) -> Submitted | None:
        if not key:
            return None
        async with self._transaction() as connection:
            answer = await idempotency.stored_answer(connection, key=key, body_digest=digest)
        return Submitted.model_validate(answer) if answer is not None else None

    async def _cancel_live(self, name: str) -> None:
        async with self._transaction() as connection:
            known = await plans.find_plan(connection, name)
        if known and known.state not in FINISHED:
            await self._ask("cancel_plan", known, reason="a fresh plan took its name")

    async def _store(self, connection: Connection, new: NewPlan, request: SubmitRequest) -> KnownPlan:
        """Insert the plan, or find the one that goes on; `is_new` tells them apart."""
        if request.is_fresh and (old := await plans.find_plan(connection, new.name)):
            await plans.rename_aside(connection, old)
        stored = await plans.insert_plan(connection, new, tenant_id=self._tenant_id)
        if stored is not None:
            return stored
        known = await plans.find_plan(connection, new.name)
        assert known is not None, "its name was taken a moment ago, and plans are never deleted"
        _refuse_other(known, new, backend=request.backend)
        return known

    async def _resume(self, connection: Connection, known: KnownPlan, new: NewPlan, *, retry: bool) -> None:
        """Have a known plan go on; on the caller's connection, because a pool of them could run dry."""
        is_rescoped = known.state == PlanState.PAUSED or known.until_key != new.until_key
        if is_rescoped or (known.state == PlanState.STALLED and retry):
            task_id = await until_task(connection, new.until_key, plan_id=known.id)
            await self._ask("resume_plan", known, until_task=task_id)

    async def _set_budget(self, known: KnownPlan, budget_micros: int) -> None:
        """Give a known plan the budget that it is handed in with, if it is handed in with one."""
        if budget_micros:
            await self._ask("set_budget", known, budget_micros=budget_micros)

    async def _ask(self, kind: str, known: KnownPlan, **args: object) -> None:
        await self._scheduler.request(kind, {"tenant_id": self._tenant_id, "plan_id": known.id, **args}, "")


async def until_task(connection: Connection, key: str, *, plan_id: int) -> int:
    """Return the id of the task that a plan is to work up to; 0 = the whole plan."""
    return (await task_views.find_task(connection, key, plan_id=plan_id)).id if key else 0


def _refuse_other(known: KnownPlan, new: NewPlan, *, backend: str) -> None:
    """A known plan goes on as it is, or not at all: what is asked of it may not be another plan."""
    if known.digest != new.digest:
        raise Conflict(
            f"The plan {known.name!r} is known with another text (id {known.id}, {known.state}).",
            remedy="`orchestrator import` shows and applies what is new in it; --fresh starts over.",
        )
    if known.state == PlanState.CANCELLED:
        raise Conflict(
            f"The plan {known.name!r} (id {known.id}) was cancelled.", remedy="Use --fresh to start it over."
        )
    if backend not in {AUTO, known.backend}:
        raise Conflict(
            f"The plan {known.name!r} (id {known.id}) is known with the backend `{known.backend}`.",
            remedy=f"Leave the backend out to go on with it; --fresh starts it over with `{backend}`.",
        )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector from looking, again and again, through a plan that grows and has no cycles.

    At 100,000 tasks that is a fourth of the time. Of two plans at once the first one ends it for both.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _submitted(new: NewPlan, known: KnownPlan) -> Submitted:
    return Submitted(
        plan_id=known.id,
        name=known.name,
        is_new=known.is_new,
        tasks_total=known.tasks_total,
        findings=finding_views(new.plan),
    )


def read_submission(request: SubmitRequest, *, routing: Routing, settings: Settings) -> NewPlan:
    """Read and route a plan until it is ready to be stored; what it leaves open is taken from the settings.

    Raises:
        PlanError: it has errors, no name, an unknown `until_key`, or a place of work that cannot be.
    """
    files = request.files or {"": request.text}
    if request.files:
        plan = read_files(request.files, format=request.format)
    else:
        plan = read_plan(request.text, format=request.format)
    plan = checked_plan(plan, routing=routing, settings=settings, asked=request.backend)
    _refuse_errors(plan, source=request.source)
    graph = PlanGraph(plan.tasks, plan.dependencies)
    if request.until_key:
        graph.needed_for(request.until_key)
    return NewPlan(
        plan=routing.with_reviewers(plan),
        name=_name(plan, request),
        workdir=_workdir(plan, request),
        repository=repository_of(plan, request),
        backend=wanted_backend(request.backend, plan=plan, settings=settings),
        budget_micros=request.budget_micros
        or _budget_micros(plan)
        or round(settings.limits.plan_budget_usd * MICROS),
        until_key=request.until_key,
        files={path: storable(text) for path, text in files.items()},
        decisions=routing.route(plan),
        ranks=graph.downstream_ms(),
        is_taken=request.take,
    )


def finding_views(plan: Plan) -> tuple[FindingView, ...]:
    """Return the findings as readers see them."""
    return tuple(FindingView(**asdict(finding)) for finding in plan.findings)


def _refuse_errors(plan: Plan, *, source: str) -> None:
    errors = plan.errors
    if not errors:
        return
    first = errors[0]
    others = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    place = f", line {first.line}" if first.line else ""
    raise PlanError(
        f"{source or 'The plan'}{place}: {first.message} {first.remedy}{others}",
        remedy="Mend what the findings name and submit the plan again; nothing was stored.",
        findings=plan.findings,
    )


def _name(plan: Plan, request: SubmitRequest) -> str:
    name = (request.name or plan.name or plan.title).strip()
    if not name:
        raise PlanError(
            "The plan has no name: neither the request nor the front matter nor a title gives one.",
            remedy="Give it a name.",
        )
    if len(name) > _NAME_CHARS_MAX:
        raise PlanError(
            f"The name of the plan has {len(name)} characters; at most {_NAME_CHARS_MAX} are allowed.",
            remedy="Give it a shorter name.",
        )
    return name


def _budget_micros(plan: Plan) -> int:
    """Return what the head of the plan lets it spend; 0 if it names no budget."""
    written = str(plan.meta.get("budget") or "").strip()
    micros = money_micros(written) or 0
    if written and not micros:
        raise PlanError(
            f"The budget {written[:60]!r} in the head of the plan is no sum of money.",
            remedy="Write dollars, such as `budget: $20`.",
        )
    return micros


def _workdir(plan: Plan, request: SubmitRequest) -> str:
    written = request.workdir or str(plan.meta.get("workdir") or "")
    if not written:
        return ""
    path = Path(request.base_dir) / written
    if not path.is_absolute():
        raise PlanError(
            f"The workdir {written!r} of the plan is relative, and the request does not say to which folder.",
            remedy="Give an absolute `workdir`, or the `base_dir` that it is relative to.",
        )
    return str(path)
