"""Commands that change a task of the stack that is up; `cancel` also a whole plan."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output
from orchestrator.cli.text import answer_text
from orchestrator.errors import SettingsError


def cancel(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Key or id of the task.")] = "",
    plan: options.OfPlan = "",
    reason: options.Reason = "",
    json: options.Json = False,
) -> None:
    """Cancel a task; without TASK, the whole plan.

    Sessions that run are ended first. What is done stays done.

    Example: orchestrator cancel --plan first-light --reason "other priorities"
    """
    from orchestrator.cli.home import connect

    if not task and not plan:
        raise SettingsError("Nothing to cancel was named.", remedy="Name a TASK, a --plan, or both.")
    if task:
        _change("cancel_task", task, plan, reason=reason, output=Output(is_json=json))
        return
    with connect() as client:
        answer = client.request("cancel_plan", plan_id=client.plan(plan).id, reason=reason)
    Output(is_json=json).result(answer, f"{plan}: {answer_text(answer)}")


def skip(
    task: options.TaskRef, plan: options.OfPlan = "", reason: options.Reason = "", json: options.Json = False
) -> None:
    """Give up on a task; what depends on it goes on without it.

    Example: orchestrator skip A.1.2 --plan first-light --reason "not needed any more"
    """
    _change("skip_task", task, plan, reason=reason, output=Output(is_json=json))


def finish(
    task: options.TaskRef, plan: options.OfPlan = "", reason: options.Reason = "", json: options.Json = False
) -> None:
    """Say that a task is done, by hand.

    Example: orchestrator finish C.3.1 --plan first-light --reason "pressed the button"
    """
    _change("finish_task", task, plan, reason=reason, output=Output(is_json=json))


def retry(
    task: options.TaskRef, plan: options.OfPlan = "", reason: options.Reason = "", json: options.Json = False
) -> None:
    """Try a failed, cancelled or skipped task again.

    It gets all its attempts anew; what waited for it goes on.

    Example: orchestrator retry A.1.2 --plan first-light
    """
    _change("retry_task", task, plan, reason=reason, output=Output(is_json=json))


def reopen(
    task: options.TaskRef, plan: options.OfPlan = "", reason: options.Reason = "", json: options.Json = False
) -> None:
    """Have a task done again that was done.

    What depends on it and has not started waits for it again.

    Example: orchestrator reopen A.1.2 --plan first-light --reason "the input has changed"
    """
    _change("reopen_task", task, plan, reason=reason, output=Output(is_json=json))


def hold(
    task: options.TaskRef, plan: options.OfPlan = "", reason: options.Reason = "", json: options.Json = False
) -> None:
    """Keep a task from starting until `release`; it must not run yet.

    Example: orchestrator hold B.2 --plan first-light
    """
    _change("hold_task", task, plan, reason=reason, output=Output(is_json=json))


def release(
    task: options.TaskRef, plan: options.OfPlan = "", reason: options.Reason = "", json: options.Json = False
) -> None:
    """Let a held task go on: what it was held for is settled.

    What was to be done by hand counts as done then.

    Example: orchestrator release B.2 --plan first-light --reason "looked at it"
    """
    _change("release_task", task, plan, reason=reason, output=Output(is_json=json))


def approve(
    task: options.TaskRef, plan: options.OfPlan = "", reason: options.Reason = "", json: options.Json = False
) -> None:
    """Let a task start that is held for approval.

    Example: orchestrator approve C.3.1 --plan first-light --reason "signed off"
    """
    _change("approve_task", task, plan, reason=reason, output=Output(is_json=json))


def reject(
    task: options.TaskRef, plan: options.OfPlan = "", reason: options.Reason = "", json: options.Json = False
) -> None:
    """Refuse a task that is held for approval.

    It fails, what depends on it waits, and it may be retried.

    Example: orchestrator reject C.3.1 --plan first-light --reason "too dear"
    """
    _change("reject_task", task, plan, reason=reason, output=Output(is_json=json))


def _change(kind: str, ref: str, plan: str, *, reason: str, output: Output) -> None:
    from orchestrator.cli.home import connect

    with connect() as client:
        task = client.task(ref, plan_id=client.plan(plan).id if plan else None)
        answer = client.request(kind, task_id=task.id, reason=reason)
    output.result(answer, f"{task.key}: {answer_text(answer)}")
