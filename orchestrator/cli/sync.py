"""Commands on plans and their files: keep them in step, reconcile them by hand, revise a plan by its file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output
from orchestrator.cli.plan_files import placed, stored_name
from orchestrator.cli.text import count
from orchestrator.errors import Conflict, EnvironmentFault, PlanError, SettingsError

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.sync.keeper import Look, Round
    from orchestrator.views import PlanView, Revised

sync = typer.Typer(
    name="sync",
    help="Keep plans and their files in step: a tick in the file counts, and what gets done is ticked there.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_FOLLOW_WAIT_MAX_S = 60.0
_POLL_S = 0.1

Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


@sync.command()
def start(
    file: options.PlanFile,
    plan: options.OfPlan = "",
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay here and tell what is done; ends with Ctrl-C.")
    ] = False,
    url: options.Url = "",
    token: options.Token = None,
    json: options.Json = False,
) -> None:
    """Keep a plan in step with its file.

    Only marks are ever written into the file. The stack that is up here does it until `sync stop`, also after
    `down` and `up`. For another server (--url) the command does it itself, and stays in the foreground.

    Example: orchestrator sync start plan.md
    """
    from orchestrator.cli.home import home_folder
    from orchestrator.sync.files import PlanFiles
    from orchestrator.sync.keeper import Keeper
    from orchestrator.sync.registry import read_plans

    output, path = Output(is_json=json), Path(file).absolute()
    reach = _reach(url, token)
    with reach() as client:
        known = client.plan(plan or stored_name(file))
        Keeper(client, PlanFiles(path), str(known.id)).look()  # what cannot be kept is told now
    what = {"plan_id": known.id, "path": path}
    if foreground or url:
        _keep_here(reach, known, path, is_ours=not url, output=output)
        output.result(what)
        return
    home = home_folder()
    _keep(home, {**read_plans(home), str(known.id): path})
    output.result(what, f"{path} and plan {known.name!r} are kept in step.")


@sync.command()
def stop(
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="Name or id of the plan; none = all.")] = "",
    json: options.Json = False,
) -> None:
    """Keep a plan, or all of them, in step no longer.

    Example: orchestrator sync stop first-light
    """
    from orchestrator.cli.home import connect, home_folder
    from orchestrator.sync.registry import read_plans

    home = home_folder()
    plans = read_plans(home)
    stopped = list(plans)
    if plan:
        with connect() as client:
            stopped = [ref for ref in plans if ref == str(client.plan(plan).id)]
    _keep(home, {ref: path for ref, path in plans.items() if ref not in stopped})
    text = f"{len(stopped)} of {len(plans)} plans are no longer kept in step."
    Output(is_json=json).result({"stopped": stopped}, text)


@sync.command("status")
def sync_status(json: options.Json = False) -> None:
    """Tell which plans are kept in step, and what waits for a person.

    Example: orchestrator sync status
    """
    from orchestrator.cli.home import home_folder
    from orchestrator.sync.registry import read_plans, read_state

    output = Output(is_json=json)
    home = home_folder()
    plans, state = read_plans(home), read_state(home)
    standing = state.plans if state is not None else {}
    waits = "not running; `orchestrator up` starts it" if plans else "nothing is kept in step"
    output.say(f"process {state.pid}" if state is not None else waits)
    for ref, path in plans.items():
        output.say(f"plan {ref}  {path}")
        for line in _waiting_lines(standing.get(ref, {})):
            output.say(f"  {line}")
    output.result({"pid": state.pid if state is not None else None, "plans": plans, "standing": standing})


def reconcile(
    file: options.PlanFile,
    plan: options.OfPlan = "",
    yes: Yes = False,
    url: options.Url = "",
    token: options.Token = None,
    json: options.Json = False,
) -> None:
    """Show where a plan's file and the database say different things, and make them agree.

    Example: orchestrator reconcile plan.md
    """
    from orchestrator.sync.files import PlanFiles
    from orchestrator.sync.keeper import Keeper

    output = Output(is_json=json)
    with _reach(url, token)() as client:
        keeper = Keeper(client, PlanFiles(Path(file).absolute()), plan or stored_name(file))
        look = keeper.look()
        drift = list(_drift_lines(look))
        for line in drift:
            output.say(line)
        if not drift:
            output.result({"drift": []}, "File and database agree.")
            return
        if not (yes or output.asks("Make them agree?")):
            output.result({"drift": drift, "healed": False}, "Nothing was done.")
            return
        done = keeper.keep()
    output.result({"drift": drift, "healed": True, **asdict(done)}, _done_text(done))


def revise(file: str, *, name: str, is_agreed: bool, output: Output) -> None:
    """Show what a file changes of the plan that it is of, and apply it if that is agreed."""
    from orchestrator.cli.home import connect
    from orchestrator.plan.files import agents_beside, texts_of
    from orchestrator.views import ReviseRequest

    texts = texts_of(Path(file))
    agents = agents_beside(Path(file))
    request = ReviseRequest(text=texts.get("", ""), files={} if list(texts) == [""] else texts, agents=agents)
    with connect() as client:
        ref = name or stored_name(file)
        try:
            shown = client.revise(ref, request)
        except PlanError as error:
            error.findings = placed(error.findings, file)
            raise
        for line in _change_lines(shown):
            output.say(line)
        if agents:
            output.say(f"{'agents':8} {', '.join(Path(agent).name for agent in agents)} go along")
        if not shown.changes and not shown.marks:
            output.say("No task is changed.")
        elif not (is_agreed or output.asks("Apply it?")):
            output.result(shown, "Nothing was stored.")
            return
        revised = client.revise(ref, request, is_applied=True)
    reason = f": {revised.reason}" if revised.reason else ""
    output.result(revised, f"Plan {revised.plan_id}: {revised.state}{reason}")


def _reach(url: str, token: typer.FileText | None) -> Callable[[], Client]:
    """Return what connects to the server that is meant."""
    from orchestrator.cli.home import connect

    if bool(url) != bool(token):
        raise SettingsError("--url and --token belong together.", remedy="Name the server and its token.")
    return partial(connect, url, token.read().strip() if token else "")


def _keep(home: Path, plans: Mapping[str, Path]) -> None:
    """Have the stack that runs here, if there is one, keep these plans in step and no others."""
    from orchestrator.stack import read_stack
    from orchestrator.sync.registry import SYNC_LOG, read_state, write_plans

    write_plans(home, plans)
    wanted = {ref: str(path) for ref, path in plans.items()}
    deadline_s = time.monotonic() + _FOLLOW_WAIT_MAX_S
    while read_stack(home) is not None:
        state = read_state(home)
        if wanted == ({ref: plan["path"] for ref, plan in state.plans.items()} if state else {}):
            return
        if time.monotonic() > deadline_s:
            raise EnvironmentFault("Sync does not follow.", remedy=f"{home / SYNC_LOG} says why.")
        time.sleep(_POLL_S)


def _keep_here(
    reach: Callable[[], Client], plan: PlanView, path: Path, *, is_ours: bool, output: Output
) -> None:
    """Keep a plan in step in this process, until a signal ends it."""
    import structlog

    from orchestrator.cli.home import home_folder
    from orchestrator.sync.registry import read_plans
    from orchestrator.sync.watcher import Watcher, run_until_signal

    if is_ours and str(plan.id) in read_plans(home_folder()):
        raise Conflict(
            f"The plan {plan.name!r} is kept in step already.",
            remedy=f"End that by `orchestrator sync stop {plan.name}` first.",
        )
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    output.remark(f"Keeping {path} and plan {plan.name!r} in step. Ctrl-C ends it.")
    run_until_signal(Watcher(connect=reach, plans={str(plan.id): path}, tell=lambda _: None))


def _change_lines(shown: Revised) -> list[str]:
    lines = [
        f"{change.kind:8} {change.key}  {change.title}"
        + (f"  ({', '.join(change.reasons)})" if change.reasons else "")
        for change in shown.changes
    ]
    return [*lines, *(f"{'marked':8} {mark.key}  {mark.old} → {mark.new}" for mark in shown.marks)]


def _drift_lines(look: Look) -> list[str]:
    merge = look.merge
    return [
        *(f"{sent.key}: {sent.mark} in the file, to be sent" for sent in merge.sends),
        *([f"{count(merge.written, 'mark')} to be written into the file"] if merge.written else []),
        *(f"{key}: no longer in the file; `orchestrator import` takes it out" for key in merge.missing),
        *(
            f"{conflict.key}: {conflict.in_file} in the file, {conflict.in_database} in the database: "
            "make them agree by hand"
            for conflict in merge.conflicts
        ),
    ]


def _done_text(done: Round) -> str:
    return f"{count(done.written, 'mark')} written, {len(done.sent)} sent, {len(done.refused)} refused."


def _waiting_lines(standing: Any) -> list[str]:
    lines = [f"cannot be kept: {standing['error']}"] if standing.get("error") else []
    lines += [f"conflict: {line}" for line in standing.get("conflicts", ())]
    lines += [f"refused: {line}" for line in standing.get("refused", ())]
    missing = standing.get("missing", ())
    return [*lines, *(f"{key} is no longer in the file; `import` takes it out" for key in missing)]
