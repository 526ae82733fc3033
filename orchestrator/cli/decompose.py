"""The command decompose: a model proposes subtasks; a person looks at them and applies them, or does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output
from orchestrator.cli.plan_files import stored_name
from orchestrator.core.words import AT_WORK
from orchestrator.errors import Conflict

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.proposals import Proposal
    from orchestrator.views import PlanView

Plan = Annotated[
    str, typer.Argument(metavar="PLAN", help="File of a plan that was handed in, or name or id of the plan.")
]
Apply = Annotated[bool, typer.Option("--apply", help="Ask, and then write the subtasks into the plan.")]
Yes = Annotated[bool, typer.Option("--yes", help="As --apply, without asking.")]
Again = Annotated[bool, typer.Option("--again", help="Ask the model anew, though a proposal is kept.")]


def decompose(
    plan: Plan,
    task: options.TaskRef,
    apply: Apply = False,
    yes: Yes = False,
    again: Again = False,
    json: options.Json = False,
) -> None:
    """Have a model propose subtasks for a task, and show what they would add to the plan.

    Nothing is changed without --apply. With it the plan runs by the new text, which also goes into its file
    if that is named or kept in step here. What was proposed is kept: it is shown and applied without asking
    the model again, as long as the task is as it was. Tokens and cost are shown, and count for the plan.

    Example: orchestrator decompose plan.md A.1.3 --apply
    """
    from orchestrator.cli.home import connect

    output = Output(is_json=json)
    named = Path(plan) if Path(plan).exists() else None
    with connect() as client:
        known = client.plan(stored_name(plan) if named else plan)
        path = (named or _kept(known)) if apply or yes else named
        if path is not None:
            _require_same(client, known, path)
        proposal = client.decompose(client.task(task, plan_id=known.id).id, again=again)
        _show(proposal, output)
        if not (yes or (apply and output.asks("Apply it?"))):
            output.result({"proposal": proposal, "applied": False}, "Nothing was changed.")
            return
        state = _apply(client, proposal, path)
    text = f"Plan {known.id}: {state}{f'; {path} has the subtasks' if path else ''}."
    output.result({"proposal": proposal, "applied": True, "state": state}, text)


def _kept(known: PlanView) -> Path | None:
    """Return the file with which a plan is kept in step here."""
    from orchestrator.cli.home import home_folder
    from orchestrator.sync.registry import read_plans

    return read_plans(home_folder()).get(str(known.id))


def _require_same(client: Client, known: PlanView, path: Path) -> None:
    """Refuse a file that says something else than what is stored; no model is asked then."""
    from orchestrator.sync.files import PlanFiles

    files = PlanFiles(path)
    files.require_utf8()
    if files.read() != dict(client.source(str(known.id)).files):
        raise Conflict(
            f"{path} and the stored plan {known.name!r} differ.",
            remedy=f"Make them agree by `orchestrator import {path}` or `orchestrator reconcile {path}`.",
        )


def _show(proposal: Proposal, output: Output) -> None:
    from orchestrator.cli.text import count, money

    output.say(proposal.diff)
    tokens = proposal.input_tokens + proposal.output_tokens
    what = f"{count(len(proposal.subtasks), 'subtask')} for {proposal.task_key}"
    when = "" if proposal.is_new else "; proposed before, --again asks anew"
    output.say(f"{what} by {proposal.model}: {tokens} tokens, {money(proposal.cost_micros)}{when}")


def _apply(client: Client, proposal: Proposal, path: Path | None) -> str:
    """Revise the plan, then its file; return the state of the revision."""
    from orchestrator.sync.files import PlanFiles
    from orchestrator.views import ReviseRequest

    source = client.source(str(proposal.plan_id))
    state = next((task.state for task in source.tasks if task.key == proposal.task_key), "")
    if state in AT_WORK:
        raise Conflict(
            f"{proposal.task_key} has begun meanwhile ({state}); nothing was changed.",
            remedy="Wait for its end; next time, `orchestrator hold` it first.",
        )
    files = dict(proposal.files)
    request = ReviseRequest(
        text=files.get("", ""),
        files={} if list(files) == [""] else files,
        format=proposal.format,
        base_digest=proposal.base_digest,
    )
    revised = client.revise(str(proposal.plan_id), request, is_applied=True)
    if revised.state == "refused":
        raise Conflict(f"The plan was not changed: {revised.reason}.", remedy="Try again.")
    name = proposal.file
    if path and not PlanFiles(path).write(name, files[name], seen=source.files[name]):
        raise Conflict(
            f"The stored plan has the subtasks; {path} was changed meanwhile and is as it was.",
            remedy="Add the lines shown above to it by hand.",
        )
    return revised.state
