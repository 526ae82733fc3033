"""The use case of decomposing a task: a model proposes subtasks, and that changes nothing of the plan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from difflib import unified_diff
from typing import TYPE_CHECKING

from orchestrator.core.words import AT_WORK, CLOSED, PlanState
from orchestrator.errors import Conflict
from orchestrator.plan.model import PlanTask
from orchestrator.plan.subtasks import file_of, require_decomposable, with_subtasks
from orchestrator.proposals import Proposal
from orchestrator.routing import Routing
from orchestrator.sessions.config import session_config
from orchestrator.settings import Settings
from orchestrator.store import plans, proposals, revisions, task_views
from orchestrator.store.engine import Connection
from orchestrator.store.plans import KnownPlan
from orchestrator.store.revisions import StoredPlan

if TYPE_CHECKING:
    from orchestrator.sessions.decompose import Answer, Question

#: Share of the time that a request may take which the model gets of it.
_MODEL_SHARE = 0.9
#: How many tasks before a task and behind it the model is told of.
_NEIGHBOURS = 100


class Decompositions:
    """Has tasks of one tenant's plans decomposed.

    Args:
        transaction: opens a transaction of the tenant; none is open while the model is asked.
    """

    def __init__(
        self,
        *,
        transaction: Callable[[], AbstractAsyncContextManager[Connection]],
        routing: Routing,
        settings: Settings,
        tenant_id: str,
    ) -> None:
        self._transaction = transaction
        self._routing = routing
        self._settings = settings
        self._tenant_id = tenant_id

    async def propose(self, task_id: int) -> Proposal:
        """Return subtasks for a task, and the plan's text with them in it. Tokens and cost are recorded.

        Raises:
            NotFound: there is no such task.
            Conflict: it is at work or closed, or its plan was cancelled.
            PlanError: subtasks cannot be written below it.
            EnvironmentFault: there is no API key, or the model cannot be asked.
            Overloaded: the model asks to come back later.
            RequestRefused: what the model proposes cannot be used.
        """
        from orchestrator.sessions.decompose import ask_for_subtasks  # the SDK takes long to load

        async with self._transaction() as connection:
            task_view = await task_views.require_task(connection, task_id)
            known = await plans.require_plan(connection, str(task_view.plan_id))
            stored = await revisions.read_stored(connection, known.id)
        key = next((key for key, known_id in stored.ids.items() if known_id == task_id), "")
        task = next((task for task in stored.tasks if task.key == key), None)
        _require_open(known, stored, task)
        assert task is not None
        await asyncio.to_thread(require_decomposable, stored.files, task, format=stored.format)
        answer = await ask_for_subtasks(
            self._question(known, stored, task),
            session_config(self._settings),
            timeout_s=self._settings.http.request_timeout_s * _MODEL_SHARE,
        )
        async with self._transaction() as connection:
            proposal_id = await proposals.insert_proposal(
                connection,
                tenant_id=self._tenant_id,
                plan_id=known.id,
                task_key=key,
                model=answer.model,
                subtasks=answer.subtasks,
                error=str(answer.error or ""),
                usage=answer.usage,
            )
        if answer.error:
            raise answer.error
        return await asyncio.to_thread(_proposal, proposal_id, stored, task, answer)

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


def _proposal(proposal_id: int, stored: StoredPlan, task: PlanTask, answer: Answer) -> Proposal:
    edit = with_subtasks(stored.files, task, answer.subtasks, format=stored.format)
    file = file_of(stored.files, task)
    texts = (stored.files[file].splitlines(keepends=True), edit.files[file].splitlines(keepends=True))
    usage = {name: getattr(answer.usage, name) for name in ("input_tokens", "output_tokens", "cost_micros")}
    return Proposal(
        id=proposal_id,
        plan_id=stored.plan_id,
        task_key=task.key,
        keys=edit.keys,
        subtasks=answer.subtasks,
        format=stored.format,
        base_digest=stored.digest,
        file=file,
        files=edit.files,
        diff="".join(unified_diff(*texts, fromfile=file or "plan", tofile=file or "plan")),
        model=answer.model,
        **usage,
    )
