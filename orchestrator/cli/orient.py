"""The commands `orient` and `notes`: what a task or a plan is about, and what has been said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output
from orchestrator.errors import NotFound, SettingsError

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.views import NewNote, NoteView, PlanView

_PLANS_SHOWN_MAX = 5

Task = Annotated[str, typer.Argument(metavar="[TASK]", help="Key or id of a task; without one, the plan.")]
Tokens = Annotated[
    int, typer.Option("--tokens", metavar="N", min=0, help="Most tokens of it; 0 = as many as sessions get.")
]
OnTask = Annotated[str, typer.Option("--task", metavar="TASK", help="Only, or written, on this task.")]
Write = Annotated[str, typer.Option("--write", metavar="TEXT", help="Leave this note, instead of listing.")]
Decision = Annotated[
    bool, typer.Option("--decision", help="Only decisions; what is written is one, and told to every task.")
]


def orient(
    task: Task = "", plan: options.OfPlan = "", tokens: Tokens = 0, json: options.Json = False
) -> None:
    """Tell what a task is about, as its session is told, or how a whole plan stands.

    Without a task it is the brief of the plan: progress, what is ready, what is in the way, what has been
    decided. Neither is needed where only one plan is unfinished.

    Example: orchestrator orient A.1.2 --plan first-light
    """
    from orchestrator.cli.home import connect

    output = Output(is_json=json)
    with connect() as client:
        if task:
            plan_id = client.plan(plan).id if plan else None
            pack = client.orient(task_id=client.task(task, plan_id=plan_id).id, tokens=tokens)
        else:
            pack = client.orient(plan_id=_plan_id(client, plan), tokens=tokens)
    output.result(pack, pack.text)
    output.remark(f"About {pack.tokens:,} tokens of {pack.tokens_max:,}.")


def notes(
    plan: options.PlanRef,
    task: OnTask = "",
    write: Write = "",
    decision: Decision = False,
    json: options.Json = False,
) -> None:
    """List the notes and decisions of a plan, the newest first, or leave one.

    A note on a task is told to whoever relies on it, one on the plan and every decision to all.

    Example: orchestrator notes first-light --task A.1.2 --write "The port is 8081."
    """
    from orchestrator.cli.home import connect

    output, kind = Output(is_json=json), "decision" if decision else ""
    with connect() as client:
        plan_id = client.plan(plan).id
        if write:
            note = client.write_note(plan_id, _new(write, kind=kind, task=task))
            output.result(note, f"{note.kind} {note.id} is written.")
            return
        found = _all(client, plan_id, task=task, kind=kind)
    rows = ((note.kind, note.task_key, note.author or "a person", note.text) for note in found)
    output.table(("kind", "task", "by", "text"), rows)
    output.result(found)


def _all(client: Client, plan_id: int, *, task: str, kind: str) -> list[NoteView]:
    page = client.notes(plan_id, task=task, kind=kind)
    found = list(page.items)
    while page.next:
        page = client.notes(plan_id, task=task, kind=kind, after=page.next)
        found += page.items
    return found


def _plan_id(client: Client, ref: str) -> int:
    """Return the plan that is meant; unnamed, it is the only unfinished one."""
    if ref:
        return client.plan(ref).id
    unfinished = [plan for plan in client.plans().items if plan.ended_at is None]
    if len(unfinished) == 1:
        return unfinished[0].id
    raise NotFound(
        f"There are {len(unfinished)} unfinished plans{_named(unfinished)}, and none was named.",
        remedy="Name one: `orchestrator orient --plan PLAN`.",
    )


def _named(plans: list[PlanView]) -> str:
    names = ", ".join(repr(plan.name) for plan in plans[:_PLANS_SHOWN_MAX])
    return f", such as {names}" if names else ""


def _new(text: str, *, kind: str, task: str) -> NewNote:
    from pydantic import ValidationError

    from orchestrator.views import NewNote, NoteKind

    try:
        return NewNote(text=text, kind=NoteKind(kind or NoteKind.NOTE), task=task)
    except ValidationError as error:
        raise SettingsError(f"This note cannot be written: {error.errors()[0]['msg']}.") from error
