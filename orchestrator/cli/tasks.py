"""Commands that show tasks of the stack that is up: tasks, show, logs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output
from orchestrator.core.words import AttemptState, TaskState
from orchestrator.errors import Interrupted, NotFound

if TYPE_CHECKING:
    from orchestrator.cli.waiting import Wait
    from orchestrator.client import Client
    from orchestrator.status_views import StatusView
    from orchestrator.views import AttemptView, LogView, PlanView, TaskDetail, TaskView

_TITLE_WIDTH = 60


def tasks(
    plan: options.PlanRef,
    state: Annotated[
        TaskState | None, typer.Option("--state", metavar="STATE", help="Only tasks in this state.")
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Only what would start next, in that order.")
    ] = False,
    json: options.Json = False,
) -> None:
    """List the tasks of a plan.

    Example: orchestrator tasks first-light --state failed
    """
    from orchestrator.cli.home import connect
    from orchestrator.cli.text import one_line

    output = Output(is_json=json)
    with connect() as client:
        plan_id = client.plan(plan).id
        found = client.ready(plan_id) if ready else client.all_tasks(plan_id, state=state or "")
    rows = (
        (task.key, one_line(task.title, width=_TITLE_WIDTH), task.agent_type, task.state, _remark(task))
        for task in found
        if task.kind == "leaf"
    )
    output.table(("task", "title", "agent type", "state", "reason"), rows)
    output.result(found)


def show(
    ref: Annotated[str, typer.Argument(metavar="TASK|PLAN", help="Key or id of a task, else a plan.")],
    plan: options.OfPlan = "",
    json: options.Json = False,
) -> None:
    """Show a task and why it does not run now, or how far a plan is.

    A task is looked for first; a name that no task has is taken for a plan's.

    Example: orchestrator show A.1.2 --plan first-light
    """
    from orchestrator.cli.home import connect
    from orchestrator.cli.waiting import why_waiting

    output = Output(is_json=json)
    with connect() as client:
        try:
            task = _task(client, ref, plan)
        except NotFound:
            if plan:
                raise
            found, status = client.plan(ref), client.status()
            output.result(found, "\n".join(_plan_lines(found, status)))
            return
        waits = why_waiting(task, plan=client.plan(str(task.plan_id)), status=client.status())
    output.result({**task.model_dump(mode="json"), "waits": waits}, "\n".join(_task_lines(task, waits)))


def logs(
    task: options.TaskRef,
    plan: options.OfPlan = "",
    attempt: Annotated[
        int, typer.Option("--attempt", metavar="N", min=0, help="Only this attempt; 0 = all of them.")
    ] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the task has ended; --json: a line for each.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Print what the sessions of a task wrote.

    Example: orchestrator logs A.1.2 --plan first-light --attempt 2
    """
    from orchestrator.cli.home import connect

    output = Output(is_json=json)
    with connect() as client:
        found = _task(client, task, plan)
        if follow:
            _follow(client, found, attempt=attempt, output=output)
            return
        pieces = client.logs(found.id)
    chosen = [piece for piece in pieces if attempt in (0, piece.number)]
    if attempt and not chosen:
        message = f"No session of attempt {attempt} of task {task!r} wrote anything."
        raise NotFound(message, remedy=f"`orchestrator show {task}` lists its attempts.")
    for _ in _said(chosen, output=output):
        pass
    output.result(chosen)


def _follow(client: Client, task: TaskDetail, *, attempt: int, output: Output) -> None:
    from orchestrator.cli.following_logs import follow_logs
    from orchestrator.cli.waiting import why_waiting

    def tell(task: TaskDetail) -> None:
        for wait in why_waiting(task, plan=client.plan(str(task.plan_id)), status=client.status()):
            remedy = f" ({wait.remedy})" if wait.remedy else ""
            output.remark(f"{task.key} is {task.state}: {wait.reason}{remedy}")

    try:
        pieces = follow_logs(client, task.id, attempt=attempt, on_waiting=tell)
        for piece in _said(pieces, output=output):
            output.result(piece)
    except KeyboardInterrupt:
        raise Interrupted("No longer following; the task goes on.") from None


def _said(pieces: Iterable[LogView], *, output: Output) -> Iterator[LogView]:
    """Yield pieces as they come, each written for people, with a heading where another attempt begins."""
    token = 0
    for piece in pieces:
        if piece.token != token:
            output.say(f"── {piece.kind} {piece.number} (token {piece.token})")
            token = piece.token
        output.say(piece.text.rstrip("\n"))
        yield piece


def _task(client: Client, ref: str, plan: str) -> TaskDetail:
    return client.task(ref, plan_id=client.plan(plan).id if plan else None)


def _remark(task: TaskView) -> str:
    if task.reason:
        return task.reason
    return f"waits for {task.unmet_dependencies}" if task.unmet_dependencies else ""


def _plan_lines(plan: PlanView, status: StatusView) -> Iterator[str]:
    from orchestrator.cli.text import duration, plan_spending
    from orchestrator.cli.waiting import paused

    yield f"{plan.name} (plan {plan.id}): {plan.state}"
    if status.is_paused:
        yield f"  waits     {paused(status)}: `orchestrator resume --all`"
    yield f"  title     {plan.title}"
    yield f"  tasks     {plan.tasks_total}: " + ", ".join(f"{n} {state}" for state, n in plan.tasks.items())
    for entry in plan.agent_types:
        failed = f", {entry.failed} failed" if entry.failed else ""
        yield f"            {entry.done}/{entry.tasks} {entry.agent_type}{failed}"
    yield f"  attempts  {plan.attempts}, {plan.input_tokens:,} tokens in, {plan.output_tokens:,} out"
    yield f"  money     {plan_spending(plan)}"
    if plan.eta_s is not None:
        yield f"  to go     about {duration(plan.eta_s)}"
    yield f"  backend   {plan.backend}"
    yield f"  works in  {f'clones of {plan.repository}' if plan.repository else plan.workdir or 'none'}"


def _task_lines(task: TaskDetail, waits: tuple[Wait, ...]) -> Iterator[str]:
    yield f"{task.key} (task {task.id} of plan {task.plan_id}): {task.state}"
    yield f"  title     {task.title}"
    for wait in waits:
        yield f"  waits     {wait.reason}"
        if wait.remedy:
            yield f"            {wait.remedy}"
    yield f"  agent     {task.agent_type} by {task.routing_rule or 'no rule'}: {task.routing_evidence}"
    person = (("manual", task.manual), ("approve", task.approve))
    yield from (f"  {name:<8}  {text}" for name, text in person if text)
    for name, lines in (("run", task.run), ("verify", task.verify), ("accept", task.acceptance)):
        yield from (f"  {name:<8}  {line}" for line in lines)
    yield from (f"  {name:<8}  {value}" for name, value in task.options.items())
    for name, edges in (("after", task.depends_on), ("before", task.dependents)):
        yield from (f"  {name:<8}  {edge.key} {edge.title} ({edge.state})" for edge in edges)
    for attempt in task.attempts:
        yield _attempt_line(attempt)


def _attempt_line(attempt: AttemptView) -> str:
    from orchestrator.cli.text import duration, money, one_line

    name = f"{attempt.kind} {attempt.number}"
    took = ""
    if attempt.started_at and attempt.ended_at:
        took = f" in {duration((attempt.ended_at - attempt.started_at).total_seconds())}"
    cost = f", {money(attempt.cost_micros)}" if attempt.cost_micros else ""
    failure = f" [{attempt.failure_class}]" if attempt.failure_class else ""
    what = attempt.summary
    if attempt.state == AttemptState.LOST:
        what = f"{attempt.end_reason} (token {attempt.token} on {attempt.executor})"
    return f"  {name:<8}  {attempt.state}{took}{cost}{failure}  {one_line(what)}"
