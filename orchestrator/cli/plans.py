"""Commands that hand plans in and follow them: run, submit, watch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output
from orchestrator.errors import Interrupted

if TYPE_CHECKING:
    from orchestrator.cli.plan_files import Choices
    from orchestrator.cli.progress import Progress
    from orchestrator.client import Client
    from orchestrator.plan.model import Plan
    from orchestrator.settings import Settings
    from orchestrator.views import SubmitRequest


def run(  # noqa: PLR0913 - one parameter for each option
    file: options.PlanFile,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only tell waves, routing, sessions and estimate; start nothing."),
    ] = False,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=0, help="Most sessions at once; 0 = as set.")
    ] = 0,
    until: options.Until = "",
    budget: options.Budget = 0.0,
    fresh: options.Fresh = False,
    format: options.PlanFormat = "auto",  # noqa: A002 - the word of the option
    backend: options.Backend = "auto",
    workdir: options.Workdir = None,
    repository: options.Repository = "",
    branch: options.Branch = "",
    name: options.Name = "",
    take: options.Take = False,
    json: options.Json = False,
) -> None:
    """Work on a plan until it has ended.

    With a stack up (see `up`) the plan is handed to it; else one is started for this plan alone and ends
    with it. A plan that is known goes on where it stopped, and what failed in it is tried again. Ctrl-C
    stops in good order.

    Exit code: 0 all done, 3 the plan is refused, 5 tasks failed or it can get no further, 8 it waits
    for a person and nothing failed, 130 interrupted.

    Example: orchestrator run examples/first-light.md --workers 8
    """
    from orchestrator.cli.plan_files import Choices, read, request_for

    output = Output(is_json=json)
    choices = Choices(
        format=format,
        name=name,
        workdir=workdir,
        repository=repository,
        branch=branch,
        backend=backend,
        budget_usd=budget,
        until_key=until,
        take=take,
        is_fresh=fresh,
    )
    plan = read(file, choices, output=output)
    if dry_run:
        _dry_run(file, plan, choices, output=output)
    else:
        request = request_for(plan, file, choices).model_copy(update={"retry": True})
        _run(request, workers=workers, output=output)


def submit(  # noqa: PLR0913 - one parameter for each option
    file: options.PlanFile,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the plan until it has ended.")] = False,
    until: options.Until = "",
    budget: options.Budget = 0.0,
    fresh: options.Fresh = False,
    format: options.PlanFormat = "auto",  # noqa: A002 - the word of the option
    backend: options.Backend = "auto",
    workdir: options.Workdir = None,
    repository: options.Repository = "",
    branch: options.Branch = "",
    name: options.Name = "",
    take: options.Take = False,
    json: options.Json = False,
) -> None:
    """Hand a plan to the stack that is up.

    Example: orchestrator submit plan.md --budget 20
    """
    from orchestrator.cli.home import connect
    from orchestrator.cli.plan_files import Choices, read, request_for

    output = Output(is_json=json)
    choices = Choices(
        format=format,
        name=name,
        workdir=workdir,
        repository=repository,
        branch=branch,
        backend=backend,
        budget_usd=budget,
        until_key=until,
        take=take,
        is_fresh=fresh,
    )
    request = request_for(read(file, choices, output=output), file, choices)
    with connect() as client:
        submitted = client.submit(request)
        if watch:
            _follow(client, str(submitted.plan_id), until_key=until, output=output)
        known = "" if submitted.is_new else " was known and goes on"
        text = f"{submitted.name} (plan {submitted.plan_id}, {submitted.tasks_total} tasks){known}\n"
        output.result(submitted, text + f"Follow it with `orchestrator watch '{submitted.name}'`.")


def watch(plan: options.PlanRef, json: options.Json = False) -> None:
    """Follow a plan of the stack that is up.

    It ends when nothing more happens in the plan by itself. Ctrl-C ends the watching, never the plan. The
    exit codes are those of `run`.

    Example: orchestrator watch first-light
    """
    from orchestrator.cli.home import connect

    with connect() as client:
        _follow(client, plan, until_key="", output=Output(is_json=json))


def _dry_run(file: str, plan: Plan, choices: Choices, *, output: Output) -> None:
    from orchestrator.cli.dry_run import dry_run, write_dry_run
    from orchestrator.cli.plan_files import routing_for
    from orchestrator.settings import load_settings

    settings = load_settings()
    found = dry_run(plan, choices, routing=routing_for(file, settings), settings=settings)
    write_dry_run(found, output=output)
    output.result(found)


def _run(request: SubmitRequest, *, workers: int, output: Output) -> None:
    from orchestrator.cli.home import served_stack
    from orchestrator.client import Client
    from orchestrator.settings import load_settings

    settings = load_settings()
    if served_stack(settings.home) is None:
        _run_with_own_host(settings, request, workers=workers, output=output)
        return
    if workers:
        output.remark("--workers is left to the stack that is up; set limits.sessions_max there.")
    with Client.of_home(settings.home) as client:
        submitted = client.submit(request)
        _follow(client, str(submitted.plan_id), until_key=request.until_key, output=output)


def _run_with_own_host(settings: Settings, request: SubmitRequest, *, workers: int, output: Output) -> None:
    from orchestrator.cli.host import HostChild
    from orchestrator.cli.views import follow

    with HostChild(settings.home, settings=limits_of(settings, workers=workers)) as host:
        host.submit(request)
        progress = follow(host.messages(), output=output)
        if progress.is_over:
            _conclude(progress, until_key=request.until_key, output=output)
    raise Interrupted("Stopped.", remedy="Run the plan again and it goes on where it is.")


def limits_of(settings: Settings, *, workers: int) -> dict[str, str]:
    """Return the settings for so many workers; one agent type may have all of them, unless it is limited."""
    if not workers:
        return {}
    is_limited = "agent_default_max" in settings.limits.model_fields_set
    names = ("SESSIONS_MAX",) if is_limited else ("SESSIONS_MAX", "AGENT_DEFAULT_MAX")
    return {f"ORCHESTRATOR_LIMITS__{name}": str(workers) for name in names}


def _follow(client: Client, ref: str, *, until_key: str, output: Output) -> None:
    from orchestrator.cli.remote import follow_plan
    from orchestrator.cli.views import follow
    from orchestrator.cli.waiting import paused

    status = client.status()
    if status.is_paused:
        output.remark(f"{paused(status).capitalize()}: nothing starts until `orchestrator resume --all`.")
    try:
        progress = follow(follow_plan(client, ref), output=output)
    except KeyboardInterrupt:
        raise Interrupted(
            "No longer watching; the plan goes on.",
            remedy=f"Back to it: `orchestrator watch {ref}`; end it: `orchestrator cancel --plan {ref}`.",
        ) from None
    _conclude(progress, until_key=until_key, output=output)


def _conclude(progress: Progress, *, until_key: str, output: Output) -> None:
    from orchestrator.cli.summary import exit_code, result, write_summary

    write_summary(progress, output=output)
    output.result(result(progress, until_key=until_key))
    raise typer.Exit(exit_code(progress, until_key=until_key))
