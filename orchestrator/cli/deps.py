"""The command `deps`: what the tasks of a stored plan wait for, why, and what a person decides on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output
from orchestrator.errors import NotFound, SettingsError

if TYPE_CHECKING:
    from orchestrator.views import PlanDependencyView

_EVIDENCE_WIDTH = 60

Action = Annotated[
    Literal["list", "accept", "drop", "add"],
    typer.Argument(
        metavar="[list|accept|drop|add]",
        help="list; accept one that is inferred, so that it orders the tasks; drop one; add one.",
    ),
]
Task = Annotated[str, typer.Argument(metavar="[TASK]", help="Key or id of the task that waits.")]
On = Annotated[str, typer.Argument(metavar="[ON]", help="Key or id of the task that it waits for.")]
Kind = Annotated[
    Literal["", "blocks", "informs", "relates", "dropped"],
    typer.Option("--kind", help="List only those of this kind."),
]
Inferred = Annotated[bool, typer.Option("--inferred", help="List only what was inferred from words.")]


def deps(
    plan: options.PlanRef,
    action: Action = "list",
    task: Task = "",
    on: On = "",
    kind: Kind = "",
    inferred: Inferred = False,
    reason: options.Reason = "",
    json: options.Json = False,
) -> None:
    """List the dependencies of a plan with their evidence, or decide on one.

    Only those of kind blocks order the tasks. What is decided outlives new versions of the plan; what would
    close a cycle is refused.

    Example: orchestrator deps first-light accept B.2 A.1.3
    """
    output = Output(is_json=json)
    if action == "list":
        _list(plan, task, on, kind=kind, is_inferred=inferred, output=output)
    elif not (task and on):
        raise SettingsError(
            f"`deps {action}` needs two tasks.", remedy=f"Write `orchestrator deps {plan} {action} TASK ON`."
        )
    else:
        _decide(plan, action, task, on, reason=reason, output=output)


def _list(plan: str, task: str, on: str, *, kind: str, is_inferred: bool, output: Output) -> None:
    from orchestrator.cli.home import connect
    from orchestrator.cli.text import one_line

    with connect() as client:
        found = client.dependencies(client.plan(plan).id, kind=kind)
    chosen = [
        edge
        for edge in found
        if task in ("", edge.task) and on in ("", edge.on) and not (is_inferred and edge.is_explicit)
    ]
    rows = (
        (
            edge.task,
            edge.on,
            edge.kind,
            _sure(edge),
            str(edge.line or ""),
            one_line(edge.evidence, width=_EVIDENCE_WIDTH),
        )
        for edge in chosen
    )
    output.table(("task", "on", "kind", "sure", "line", "evidence"), rows)
    output.result(chosen)


def _sure(edge: PlanDependencyView) -> str:
    return "stated" if edge.is_explicit else f"{edge.confidence:.2f}"


def _decide(plan: str, action: str, task: str, on: str, *, reason: str, output: Output) -> None:
    from orchestrator.cli.home import connect
    from orchestrator.cli.text import answer_text

    with connect() as client:
        plan_id = client.plan(plan).id
        waiting, other = client.task(task, plan_id=plan_id), client.task(on, plan_id=plan_id)
        is_known = any(edge.key == other.key for edge in waiting.depends_on)
        if action != "add" and waiting.kind == "leaf" and not is_known:
            raise NotFound(
                f"{waiting.key} has no dependency on {other.key}.",
                remedy=f"`orchestrator deps {plan}` lists them.",
            )
        kind = "drop_dependency" if action == "drop" else "add_dependency"
        answer = client.relink(kind, task_id=waiting.id, on_key=other.key, reason=reason)
    output.result(answer, f"{waiting.key} {action} {other.key}: {answer_text(answer)}")
