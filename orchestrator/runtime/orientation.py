"""The use cases around context packs: what a task or a plan is about, and the notes on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from hashlib import sha256

from orchestrator.core.words import AT_WORK, TaskKind, TaskState
from orchestrator.errors import RequestRefused
from orchestrator.runtime.redaction import Redaction, secrets_in
from orchestrator.sessions.brief import make_brief
from orchestrator.sessions.context import ContextPack, make_pack
from orchestrator.settings import Settings
from orchestrator.store import idempotency, plan_views, task_views
from orchestrator.store.engine import Connection
from orchestrator.store.notes import insert_note, note_page, read_surroundings, shared_notes
from orchestrator.views import ContextPackView, NewNote, NoteView, Page, TaskView

_BLOCKED = (TaskState.FAILED, TaskState.HELD)
#: Most tasks of one state that a brief lists.
_LISTED_MAX = 50


class Orientation:
    """Tells what one tenant's tasks and plans are about.

    Args:
        transaction: opens a transaction of the tenant.
    """

    def __init__(
        self,
        *,
        transaction: Callable[[], AbstractAsyncContextManager[Connection]],
        settings: Settings,
        tenant_id: str,
    ) -> None:
        self._transaction = transaction
        self._tokens_max = settings.sessions.context_tokens_max
        self._redaction = Redaction(secrets_in(settings))
        self._tenant_id = tenant_id

    async def of_task(self, ref: str, *, plan_id: int | None, tokens_max: int) -> ContextPackView:
        """Return the context pack of a task; 0 tokens = as its session gets it.

        Raises:
            NotFound, Conflict: as task_views.find_task.
            RequestRefused: so few tokens do not hold the task's own words.
        """
        async with self._transaction() as connection:
            known = await task_views.find_task(connection, ref, plan_id=plan_id)
            task = await task_views.task_detail(connection, known.id)
            around = await read_surroundings(connection, known.id)
        if not tokens_max:
            return _view(make_pack(task, around, tokens_max=self._tokens_max), tokens_max=self._tokens_max)
        return _within(tokens_max, lambda most: make_pack(task, around, tokens_max=most, share_around=0.0))

    async def of_plan(self, plan_id: int, *, tokens_max: int) -> ContextPackView:
        """Return the brief of a plan; it must exist. 0 tokens = as many as sessions get.

        Raises:
            RequestRefused: so few tokens do not hold how far it is.
        """
        async with self._transaction() as connection:
            brief = partial(
                make_brief,
                await plan_views.plan_view(connection, plan_id),
                at_work=await _leaves(connection, plan_id, AT_WORK),
                ready=await task_views.ready_tasks(connection, plan_id, limit=_LISTED_MAX),
                blocked=await _leaves(connection, plan_id, _BLOCKED),
                notes=await shared_notes(connection, plan_id),
            )
        if not tokens_max:
            return _view(brief(tokens_max=self._tokens_max), tokens_max=self._tokens_max)
        return _within(tokens_max, lambda most: brief(tokens_max=most))

    async def notes(self, plan_id: int, *, task: str, kind: str, after: str, limit: int) -> Page[NoteView]:
        """Return notes of a plan, the newest first; `task` and `kind` keep those of one task and kind.

        Raises:
            NotFound: the plan has no such task.
        """
        async with self._transaction() as connection:
            task_id = await _task_id(connection, task, plan_id=plan_id)
            return await note_page(connection, plan_id, task_id=task_id, kind=kind, after=after, limit=limit)

    async def write(self, plan_id: int, new: NewNote, *, idempotency_key: str) -> NoteView:
        """Record a note of a person, without secrets; the same one under the same key is recorded once.

        Raises:
            NotFound: the plan has no such task.
            Conflict: the key was used for another request.
        """
        digest = sha256(f"{plan_id} {new.model_dump_json()}".encode()).hexdigest()
        async with self._transaction() as connection:
            if idempotency_key:
                given = await idempotency.claim(
                    connection, tenant_id=self._tenant_id, key=idempotency_key, body_digest=digest
                )
                if given is not None:
                    return NoteView.model_validate(given)
            note = await insert_note(
                connection,
                tenant_id=self._tenant_id,
                plan_id=plan_id,
                task_id=await _task_id(connection, new.task, plan_id=plan_id),
                kind=new.kind,
                text=self._redaction.whole(new.text),
            )
            if idempotency_key:
                answer = note.model_dump(mode="json")
                await idempotency.store_answer(connection, key=idempotency_key, answer=answer)
            return note


async def _task_id(connection: Connection, ref: str, *, plan_id: int) -> int | None:
    return (await task_views.find_task(connection, ref, plan_id=plan_id)).id if ref else None


async def _leaves(connection: Connection, plan_id: int, states: Iterable[TaskState]) -> tuple[TaskView, ...]:
    """Return leaves in any of the states, in the order of these and of the plan."""
    found: list[TaskView] = []
    for state in sorted(states):
        page = await task_views.task_page(connection, plan_id, state=state, after="", limit=_LISTED_MAX)
        found += [task for task in page.items if task.kind == TaskKind.LEAF]
    return tuple(found)


def _within(tokens_max: int, make: Callable[[int], ContextPack]) -> ContextPackView:
    """Return what `make` makes for so many tokens; refuse fewer than the least of it takes."""
    pack = make(tokens_max)
    if pack.tokens > tokens_max:
        least = make(make(0).tokens).tokens  # which number it names makes a difference
        raise RequestRefused(
            f"{tokens_max} tokens are too few: what is never left out takes {least}.",
            remedy=f"Ask for {least} or more.",
        )
    return _view(pack, tokens_max=tokens_max)


def _view(pack: ContextPack, *, tokens_max: int) -> ContextPackView:
    return ContextPackView(text=pack.text, tokens=pack.tokens, tokens_max=tokens_max, left_out=pack.left_out)
