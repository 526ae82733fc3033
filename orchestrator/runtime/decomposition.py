"""The use case of decomposing a task: a model proposes subtasks, and that changes nothing of the plan.

What was proposed is kept, and no model is asked twice: not by the same key, nor for a task that is as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from difflib import unified_diff
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from orchestrator.core.words import AT_WORK, CLOSED, PlanState
from orchestrator.errors import Conflict, EnvironmentFault, Overloaded
from orchestrator.grant_ports import GovernorPort, Grants
from orchestrator.money import MICROS
from orchestrator.plan.model import PlanTask
from orchestrator.plan.subtasks import file_of, require_decomposable, with_subtasks
from orchestrator.ports import SchedulerPort
from orchestrator.proposals import Proposal
from orchestrator.routing import Routing, provider_of_models
from orchestrator.runtime.status import seen_by_tenant
from orchestrator.sessions.config import session_configs
from orchestrator.sessions.grants import UNGOVERNED, ExecutorGrants, grant_settings
from orchestrator.settings import ANTHROPIC, OPENAI, Settings
from orchestrator.status_views import BudgetView
from orchestrator.store import idempotency, plan_views, plans, proposals, revisions, task_views
from orchestrator.store.engine import Connection
from orchestrator.store.plans import KnownPlan
from orchestrator.store.proposals import StoredProposal
from orchestrator.store.revisions import StoredPlan
from orchestrator.views import PlanView

if TYPE_CHECKING:
    from orchestrator.sessions.decompose import Question
    from orchestrator.sessions.models.api import ModelApi

#: Share of the time that a request may take which the model gets of it.
_MODEL_SHARE = 0.9
#: How many tasks before a task and behind it the model is told of.
_NEIGHBOURS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A task that is to be decomposed, as it was found.

    Attributes:
        kept: what was proposed for it before; None = nothing that may be given again.
        digest: tells this request from others.
    """

    known: KnownPlan
    view: PlanView
    stored: StoredPlan
    task: PlanTask
    kept: StoredProposal | None
    digest: str


class Decompositions:
    """Has tasks of one tenant's plans decomposed.

    Args:
        transaction: opens a transaction of the tenant; none is open while the model is asked.
        scheduler: knows what is left of the budgets that plans share.
        governor: of the provider whose model is asked; without it nobody is asked for leave.
    """

    def __init__(
        self,
        *,
        transaction: Callable[[], AbstractAsyncContextManager[Connection]],
        scheduler: SchedulerPort,
        governor: GovernorPort | None,
        routing: Routing,
        settings: Settings,
        tenant_id: str,
    ) -> None:
        self._transaction = transaction
        self._scheduler = scheduler
        self._timeout_s = settings.http.request_timeout_s * _MODEL_SHARE
        self._grants: Grants = UNGOVERNED
        if governor is not None:
            self._grants = ExecutorGrants(
                executor=f"decompose-{uuid4().hex[:8]}",
                governor=governor,
                settings=replace(grant_settings(settings), wait_max_s=self._timeout_s),
            )
        self._routing = routing
        self._settings = settings
        self._tenant_id = tenant_id
        self._api: ModelApi | None = None
        self._asking: dict[tuple[int, bool, str], asyncio.Task[Proposal]] = {}

    async def propose(self, task_id: int, *, again: bool = False, idempotency_key: str = "") -> Proposal:
        """Return subtasks for a task, and the plan's text with them in it. Tokens and cost are recorded.

        Args:
            again: ask the model also if it has proposed subtasks for this task, as it is, before.
            idempotency_key: the same request under the same key is given the same subtasks.

        Raises:
            NotFound: there is no such task.
            Conflict: it is at work or closed, its plan was cancelled, no money is left of a budget that it
                would count against, or the key was used for another request.
            PlanError: subtasks cannot be written below it.
            EnvironmentFault: there is no API key, or the model cannot be asked.
            Overloaded: the model asks to come back later.
            RequestRefused: what the model proposes cannot be used.
        """
        which = (task_id, again, idempotency_key)
        asking = self._asking.get(which)
        if asking is None:  # whoever asks meanwhile, such as a client that lost its connection, shares it
            asking = self._asking[which] = asyncio.create_task(self._propose(*which))
            asking.add_done_callback(lambda asked: self._forget(which, asked))
        return await asyncio.shield(asking)

    def _forget(self, which: tuple[int, bool, str], asked: asyncio.Task[Proposal]) -> None:
        del self._asking[which]
        if not asked.cancelled():
            asked.exception()  # one that nobody hears is none

    async def _propose(self, task_id: int, again: bool, key: str) -> Proposal:
        case = await self._find(task_id, again=again, key=key)
        await asyncio.to_thread(require_decomposable, case.stored.files, case.task, format=case.stored.format)
        if case.kept is not None:
            proposal = case.kept
        else:
            _require_money(case.view)
            await self._require_shared_money()
            proposal = await self._ask(case, key=key)
        return await asyncio.to_thread(_proposal, case, proposal)

    async def _require_shared_money(self) -> None:
        """Raise Conflict if nothing is left of the budget of the tenant or of the day."""
        told: Any = ()
        with contextlib.suppress(Overloaded):  # without a scheduler nothing else is spent
            told = (await self._scheduler.status()).get("budgets", ())
        for row in seen_by_tenant(told, self._tenant_id):
            budget = BudgetView(**row)
            if budget.spent_micros + budget.reserved_micros >= budget.budget_micros:
                whose, option = "the day", "limits --day-budget USD"
                if budget.scope == "tenant":
                    whose = f"the tenant {budget.name!r}"
                    option = f"limits --tenant-budget {budget.name}=USD"
                raise _no_money(whose, spent=budget.spent_micros, most=budget.budget_micros, command=option)

    async def _find(self, task_id: int, *, again: bool, key: str) -> _Case:
        digest = sha256(f"decompose {task_id} {again}".encode()).hexdigest()
        async with self._transaction() as connection:
            given = await idempotency.stored_answer(connection, key=key, body_digest=digest) if key else None
            plan_id = (await task_views.require_task(connection, task_id)).plan_id
            known = await plans.require_plan(connection, str(plan_id))
            view = await plan_views.plan_view(connection, plan_id)
            stored = await revisions.read_stored(connection, plan_id)
            task = next((task for task in stored.tasks if stored.ids[task.key] == task_id), None)
            _require_open(known, stored, task)
            assert task is not None
            kept = None
            if given is not None:
                kept = await proposals.read_proposal(connection, given["proposal"])
            elif not again:
                kept = await proposals.last_proposal(connection, plan_id=plan_id, task_key=task.key)
        return _Case(known=known, view=view, stored=stored, task=task, kept=kept, digest=digest)

    async def _ask(self, case: _Case, *, key: str) -> StoredProposal:
        from orchestrator.sessions.decompose import ask_for_subtasks  # what asks a model takes long to load

        answer = await ask_for_subtasks(
            self._question(case.known, case.stored, case.task),
            self._model_api(),
            timeout_s=self._timeout_s,
            grants=self._grants,
        )
        async with self._transaction() as connection:
            proposal = await proposals.insert_proposal(
                connection,
                tenant_id=self._tenant_id,
                plan_id=case.known.id,
                task_key=case.task.key,
                model=answer.model,
                subtasks=answer.subtasks,
                error=str(answer.error or ""),
                usage=answer.usage,
            )
            if key and not answer.error:
                given = await idempotency.claim(
                    connection, tenant_id=self._tenant_id, key=key, body_digest=case.digest
                )
                if given is not None:  # another replica was asked the same, and was faster
                    return await proposals.read_proposal(connection, given["proposal"])
                await idempotency.store_answer(connection, key=key, answer={"proposal": proposal.id})
        if answer.error:
            raise answer.error
        return proposal

    def _model_api(self) -> ModelApi:
        """Return what asks the model, made once. Raises EnvironmentFault: there is no key."""
        from orchestrator.sessions.registry import model_api

        if self._api is None:
            provider = provider_of_models(self._settings)
            config = session_configs(self._settings).get(provider)
            if config is None:
                wanted = (provider,) if self._settings.credentials else (ANTHROPIC, OPENAI)
                keys = " or ".join(f"{name.upper()}_API_KEY" for name in wanted)
                raise EnvironmentFault(
                    "There is no API key, so no model can be asked.",
                    remedy=f"Set {keys} and start the stack again.",
                )
            self._api = model_api(provider, config)
        return self._api

    def _question(self, known: KnownPlan, stored: StoredPlan, task: PlanTask) -> Question:
        from orchestrator.sessions.decompose import Question

        by_key = {each.key: each for each in stored.tasks}
        at = stored.tasks.index(task)
        around = stored.tasks[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS]
        above, parent = [], by_key.get(task.parent)
        while parent is not None:
            above.append(parent.title)
            parent = by_key.get(parent.parent)
        return Question(
            plan_title=known.name,
            task=task,
            above=tuple(reversed(above)),
            others={each.key: each.title for each in around if each.key != task.key},
            agent_types={each.name: each.description for each in self._routing.agent_types()},
        )


def _require_open(known: KnownPlan, stored: StoredPlan, task: PlanTask | None) -> None:
    if known.state == PlanState.CANCELLED:
        raise Conflict(f"The plan {known.name!r} was cancelled.", remedy="Use --fresh to start it over.")
    if task is None:
        raise Conflict("The task is no longer in its plan.", remedy="Read the plan again.")
    state = stored.standings[task.key].state
    if state in AT_WORK:
        raise Conflict(f"{task.key} is at work ({state}).", remedy="Wait for its end, or cancel it first.")
    if state in CLOSED:
        raise Conflict(f"{task.key} is {state}.", remedy="Reopen it first, or name a task that is open.")


def _require_money(plan: PlanView) -> None:
    if plan.budget_micros and plan.cost_micros >= plan.budget_micros:
        raise _no_money(
            f"the plan {plan.name!r}",
            spent=plan.cost_micros,
            most=plan.budget_micros,
            command=f"budget {plan.name} USD",
        )


def _no_money(whose: str, *, spent: int, most: int, command: str) -> Conflict:
    sums = f"${spent / MICROS:.2f} of ${most / MICROS:.2f}"
    return Conflict(
        f"The budget of {whose} is used up: {sums}.", remedy=f"Raise it by `orchestrator {command}`."
    )


def _proposal(case: _Case, proposal: StoredProposal) -> Proposal:
    stored, task = case.stored, case.task
    edit = with_subtasks(stored.files, task, proposal.subtasks, format=stored.format)
    file = file_of(stored.files, task)
    texts = (stored.files[file].splitlines(keepends=True), edit.files[file].splitlines(keepends=True))
    usage = {name: getattr(proposal.usage, name) for name in ("input_tokens", "output_tokens", "cost_micros")}
    return Proposal(
        id=proposal.id,
        is_new=case.kept is None,
        plan_id=stored.plan_id,
        task_key=task.key,
        keys=edit.keys,
        subtasks=proposal.subtasks,
        format=stored.format,
        base_digest=stored.digest,
        file=file,
        files=edit.files,
        diff="".join(unified_diff(*texts, fromfile=file or "plan", tofile=file or "plan")),
        model=proposal.model,
        **usage,
    )
