"""The use cases around a plan's text: read it, and revise it by a new one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, replace

from orchestrator.core.words import PlanState
from orchestrator.errors import Conflict
from orchestrator.plan.checks import told
from orchestrator.plan.diff import PlanDiff, diff_plans
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.marks import agrees, request_for
from orchestrator.ports import SchedulerPort
from orchestrator.routing import Routing
from orchestrator.runtime.agents import stored_routing
from orchestrator.runtime.submission import finding_views, read_submission
from orchestrator.settings import Settings
from orchestrator.store import agent_types, plans, revisions
from orchestrator.store.engine import Connection
from orchestrator.store.listener import EventListener
from orchestrator.store.plan_rows import NewPlan
from orchestrator.store.plans import KnownPlan
from orchestrator.store.revisions import StoredPlan
from orchestrator.views import (
    ChangeView,
    MarkChangeView,
    Revised,
    ReviseRequest,
    SourceTask,
    SourceView,
    SubmitRequest,
)

#: How long a caller waits for the scheduler to take a revision, and how often it looks at least.
_PATIENCE_S = 10.0
_POLL_S = 0.5

#: Has the scheduler change one task: kind, task, reason.
AskOfTask = Callable[[str, int, str], Awaitable[Mapping[str, object]]]


class Revisions:
    """Reads and revises the texts of one tenant's plans.

    Args:
        transaction: opens a transaction of the tenant.
        listener: tells that something was committed.
    """

    def __init__(
        self,
        *,
        transaction: Callable[[], AbstractAsyncContextManager[Connection]],
        scheduler: SchedulerPort,
        listener: EventListener,
        routing: Routing,
        settings: Settings,
        tenant_id: str,
    ) -> None:
        self._transaction = transaction
        self._scheduler = scheduler
        self._listener = listener
        self._routing = routing
        self._settings = settings
        self._tenant_id = tenant_id

    async def source(self, ref: str) -> SourceView:
        """Return the text of a plan and where its tasks stand. Raises NotFound."""
        _, stored = await self._read(ref)
        return SourceView(
            plan_id=stored.plan_id,
            digest=stored.digest,
            format=stored.format,
            files=stored.files,
            tasks=tuple(
                SourceTask(
                    id=stored.ids[task.key],
                    key=task.key,
                    has_own_key=task.has_own_key,
                    parent_key=task.parent,
                    kind=task.kind,
                    title=task.title,
                    mark=task.mark,
                    source_file=task.source,
                    line=task.line,
                    state=stored.standings[task.key].state,
                    reason=stored.standings[task.key].reason,
                )
                for task in stored.tasks
            ),
        )

    async def revise(self, ref: str, request: ReviseRequest, *, is_applied: bool, ask: AskOfTask) -> Revised:
        """Tell what a new text changes; if it is to be applied, store it and have the scheduler run by it.

        The agent types that the plan brings along are stored too, also if its text is as it was.

        First every task follows the mark that its author has changed, unless told that they have; if that is
        refused, nothing is stored, and asking again goes on.

        Raises:
            NotFound: there is no such plan.
            PlanError: the text has errors.
            Conflict: the plan was cancelled or revised meanwhile, or a task cannot follow its mark.
            Overloaded: a task is to follow its mark and the scheduler is away.
        """
        known, stored = await self._read(ref)
        async with self._transaction() as connection:
            routing = await stored_routing(connection, self._routing, plan_id=known.id)
        routing = routing.with_own(request.agents) if request.agents else routing
        new, diff = await asyncio.to_thread(self._compare, request, known, stored, routing)
        if not is_applied:
            return _revised(stored, new, diff, state="shown")
        if known.state == PlanState.CANCELLED:
            raise Conflict(f"The plan {known.name!r} was cancelled.", remedy="Use --fresh to start it over.")
        asked = await _follow_marks(stored, diff, ask) if request.follow else ()
        async with self._transaction() as connection:
            if request.agents:
                own = routing.own.values()
                await agent_types.save_own(connection, own, plan_id=known.id, tenant_id=self._tenant_id)
            if new.digest == stored.digest:
                return _revised(stored, new, diff, state="unchanged", asked=asked)
            revision_id = await revisions.insert_revision(
                connection, stored, new, diff, tenant_id=self._tenant_id
            )
        await self._scheduler.nudge()
        state, reason = await self._taken(revision_id)
        return _revised(stored, new, diff, state=state, revision_id=revision_id, reason=reason, asked=asked)

    async def _read(self, ref: str) -> tuple[KnownPlan, StoredPlan]:
        async with self._transaction() as connection:
            known = await plans.require_plan(connection, ref)
            return known, await revisions.read_stored(connection, known.id)

    def _compare(
        self, request: ReviseRequest, known: KnownPlan, stored: StoredPlan, routing: Routing
    ) -> tuple[NewPlan, PlanDiff]:
        if request.base_digest not in {"", stored.digest}:
            raise Conflict(
                f"The plan {known.name!r} was revised meanwhile.",
                remedy="Read its text again and repeat the edit.",
            )
        fields = request.model_dump(include={"text", "files", "format", "take"})
        submission = SubmitRequest(**fields, name=known.name, base_dir="/")  # the workdir stays
        new = read_submission(submission, routing=routing, settings=self._settings)
        diff = diff_plans(stored.tasks, stored.dependencies, new.plan, decided=stored.decided)
        ranks = _graph(stored, diff).downstream_ms()
        return replace(new, plan=diff.plan, decisions=routing.route(diff.plan), ranks=ranks), diff

    async def _taken(self, revision_id: int) -> tuple[str, str]:
        """Wait until the scheduler has taken a revision, for a while; return its state and reason."""
        state, reason = "submitted", ""
        with contextlib.suppress(TimeoutError), self._listener.subscribed() as wake:
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    wake.clear()  # before the look: a commit between the two wakes us again
                    async with self._transaction() as connection:
                        state, reason = await revisions.revision_state(connection, revision_id)
                    if state not in {"submitted", "stored"}:
                        break
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_POLL_S):
                            await wake.wait()
        return state, reason


def _graph(stored: StoredPlan, diff: PlanDiff) -> PlanGraph:
    """The graph of a new text with what people have decided of its tasks.

    Raises:
        Conflict: what they decided and what the text says make tasks wait for each other.
    """
    new_of = {old: new for new, old in diff.old_of.items()}
    added = [
        replace(edge, task=new_of[edge.task], on=new_of[edge.on])
        for edge in stored.added
        if edge.task in new_of and edge.on in new_of
    ]
    decided = {(new_of.get(task), new_of.get(on)) for task, on in stored.decided}
    read = [edge for edge in diff.plan.dependencies if (edge.task, edge.on) not in decided]
    graph = PlanGraph(diff.plan.tasks, [*read, *added])
    for cycle in graph.cycles()[:1]:
        said = ", ".join(map(told, filter(None, cycle.dependencies)))
        message = (
            f"With what was decided by hand these tasks would wait for each other: {' → '.join(cycle.keys)}."
        )
        remedy = f"Remove one of these dependencies, in the text or by `orchestrator deps PLAN drop`: {said}."
        raise Conflict(message, remedy=remedy)
    return graph


async def _follow_marks(stored: StoredPlan, diff: PlanDiff, ask: AskOfTask) -> tuple[str, ...]:
    """Have each task follow the mark that its author has changed; return the keys of those that had to."""
    asked = []
    for change in diff.marks:
        key = diff.old_of[change.key]
        standing = stored.standings[key]
        if not agrees(change.new, standing):
            kind, reason = request_for(change.new, standing)
            await ask(kind, stored.ids[key], reason)
            asked.append(change.key)
    return tuple(asked)


def _revised(
    stored: StoredPlan,
    new: NewPlan,
    diff: PlanDiff,
    *,
    state: str,
    revision_id: int = 0,
    reason: str = "",
    asked: tuple[str, ...] = (),
) -> Revised:
    return Revised(
        plan_id=stored.plan_id,
        revision_id=revision_id,
        state=state,
        reason=reason,
        changes=tuple(ChangeView(**asdict(change)) for change in diff.changes),
        marks=tuple(MarkChangeView(**asdict(change)) for change in diff.marks),
        asked=asked,
        findings=finding_views(new.plan),
    )
