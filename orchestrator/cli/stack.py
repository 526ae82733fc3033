"""Commands on the stack: init, up, down, status, doctor."""

from __future__ import annotations

import json as jsonlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output
from orchestrator.core.words import BreakerState, TaskState
from orchestrator.errors import EnvironmentFault
from orchestrator.stack import TOKEN_FILE, Stack, read_stack, require_stack

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.client import Client
    from orchestrator.status_views import StatusView
    from orchestrator.views import PlanView, TaskView

_STOP_WAIT_MAX_S = 60.0
_POLL_S = 0.1
_HELD_SHOWN_MAX = 10  # of each plan


def init(json: options.Json = False) -> None:
    """Make home folder and settings file, check the machine.

    The home is ORCHESTRATOR_HOME, else coditect-orchestrator in the user's data folder. A settings file that
    is there already is left as it is. `run` and `up` need no `init`.

    Example: orchestrator init
    """
    from orchestrator.cli.home import home_folder, make_home

    output = Output(is_json=json)
    home = home_folder()
    is_new = make_home(home)
    output.say(f"{'Made' if is_new else 'Kept the settings in'} {home}")
    code, checks = _check(output)
    output.result({"home": home, "is_new": is_new, "checks": checks}, "Next: `orchestrator run PLAN`.")
    raise typer.Exit(code)


def up(
    address: Annotated[
        str,
        typer.Option(
            "--address", metavar="HOST:PORT", help="Join this Ray cluster; by default one is started."
        ),
    ] = "",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port of the HTTP API; 0 = as set.")
    ] = 0,
    json: options.Json = False,
) -> None:
    """Start the stack in the background.

    PostgreSQL, Ray, the scheduler and the HTTP API. It stays until `down`. Harmless when it is up already.

    Example: orchestrator up --port 8080
    """
    from orchestrator.cli.home import home_folder, served_stack
    from orchestrator.cli.host import start_detached
    from orchestrator.cli.messages import Starting
    from orchestrator.cli.text import duration

    output = Output(is_json=json)
    home = home_folder()
    stack = served_stack(home)
    is_new = stack is None
    if stack is None:
        for message in start_detached(home, _arguments(address=address, port=port)):
            if isinstance(message, Starting) and not json:
                output.remark(f"{duration(message.at_s):>8}  {message.text}")
        stack = served_stack(home)
    if stack is None:
        raise EnvironmentFault("The stack ended as soon as it was ready.", remedy="Start it again.")
    text = "\n".join(_where(stack, home, what="Up" if is_new else "Up already"))
    output.result({"stack": stack, "is_new": is_new}, text)


def down(json: options.Json = False) -> None:
    """Stop what runs here, in good order.

    Sessions end first, then Ray, then the database. Plans go on at the next start.

    Example: orchestrator down
    """
    from orchestrator.cli.home import home_folder

    output = Output(is_json=json)
    home = home_folder()
    stack = read_stack(home)
    if stack is None:
        output.result({"stopped": False}, "Nothing was running here.")
        return
    what = "the run" if stack.mode == "run" else "the stack"
    output.say(f"Stopping {what} (process {stack.pid}) …")
    _stop(stack)
    output.result({"stopped": True, "pid": stack.pid}, "Stopped.")


def status(json: options.Json = False) -> None:
    """Tell what runs here.

    The stack with its addresses, its sessions and pools, the plans, and what waits for a person.

    Example: orchestrator status
    """
    from orchestrator.cli.home import home_folder
    from orchestrator.client import Client

    output = Output(is_json=json)
    home = home_folder()
    stack = require_stack(home)
    if stack.mode == "run" or stack.state != "ready":
        output.result(
            {"stack": stack}, f"{stack.mode} (process {stack.pid}) is {stack.state}, since {stack.since}"
        )
        return
    with Client.of_home(home) as client:
        found, plans = client.status(), client.plans().items
        held = {plan.name: _held(client, plan) for plan in plans if plan.tasks.get(TaskState.HELD)}
    for line in (*_where(stack, home, what="Up"), *_status_lines(found)):
        output.say(line)
    _write_plans(plans, output=output)
    for line in _held_lines(held):
        output.say(line)
    output.result({"stack": stack, "status": found, "plans": plans, "held": held})


def doctor(json: options.Json = False) -> None:
    """Check this machine before it hurts.

    Packages, disk, ports, database, credentials, open sockets: what is wrong, why, and the remedy.

    Exit code: 0 nothing fails, 6 something does.

    Example: orchestrator doctor --json
    """
    command = [sys.executable, "-P", "-m", "cluster.doctor", *(["--json"] if json else [])]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def _check(output: Output) -> tuple[int, Any]:
    """Run the doctor; its findings are shown, or returned with `--json`."""
    command = [sys.executable, "-P", "-m", "cluster.doctor"]
    if not output.is_json:
        return subprocess.run(command, check=False).returncode, None
    ended = subprocess.run([*command, "--json"], check=False, stdout=subprocess.PIPE)
    try:
        return ended.returncode, jsonlib.loads(ended.stdout)["data"]
    except (ValueError, KeyError) as error:
        raise EnvironmentFault("The checks gave no answer.", remedy="See `orchestrator doctor`.") from error


def _arguments(*, address: str, port: int) -> list[str]:
    arguments = ["--address", address] if address else []
    return [*arguments, "--port", str(port)] if port else arguments


def _stop(stack: Stack) -> None:
    """Ask the Host to end, and wait until it has."""
    deadline_s = time.monotonic() + _STOP_WAIT_MAX_S
    os.kill(stack.pid, signal.SIGTERM)
    while stack.is_alive:
        if time.monotonic() > deadline_s:
            raise EnvironmentFault(
                f"The Host (process {stack.pid}) did not end within {_STOP_WAIT_MAX_S:.0f} s.",
                remedy=f"Look into its log, and end it with `kill -9 {stack.pid}` if it hangs.",
            )
        time.sleep(_POLL_S)


def _where(stack: Stack, home: Path, *, what: str) -> Iterator[str]:
    from orchestrator import __version__

    yield f"{what} (version {stack.version}, process {stack.pid}, since {stack.since})"
    if stack.version != __version__:
        yield f"  This command line is version {__version__}: `orchestrator down`, then `orchestrator up`."
    yield f"  HTTP API   {stack.url}/api/v1"
    yield f"  dashboard  {stack.dashboard_url or 'not started'}"
    yield f"  token      {home / TOKEN_FILE}"
    yield f"  home       {home}"


def _status_lines(found: StatusView) -> Iterator[str]:
    from orchestrator.cli.text import duration
    from orchestrator.cli.waiting import breaker_line, governor_line, paused

    ready = "ready" if found.is_ready else "not ready yet"
    yield f"  scheduler  {ready}, epoch {found.epoch}, up {duration(found.uptime_s)}"
    if found.is_paused:
        yield f"  waits      {paused(found)}: nothing starts until `orchestrator resume --all`"
    yield f"  sessions   {found.sessions} of {found.sessions_max}"
    if found.backend_note:
        yield f"  backend    {found.backend_note}"
    for governor in found.governors:
        yield f"  requests   {governor_line(governor)}"
    for pool in found.pools:
        yield (
            f"  pool       {pool.agent_type}: {pool.running} running, {pool.queued} queued, "
            f"{pool.executors} executors with {pool.slots} slots"
        )
        if pool.breaker != BreakerState.CLOSED:
            yield f"             {breaker_line(pool)}"
        if pool.waits_for:
            yield f"             cannot have another executor now: {pool.waits_for}"


def _held(client: Client, plan: PlanView) -> tuple[TaskView, ...]:
    return client.tasks(plan.id, state=TaskState.HELD, limit=_HELD_SHOWN_MAX).items


def _held_lines(held: Mapping[str, tuple[TaskView, ...]]) -> Iterator[str]:
    from orchestrator.cli.summary import remedy_of
    from orchestrator.cli.text import one_line

    for plan, tasks in held.items():
        for task in tasks:
            yield f"  held    {plan}: {task.key}  {one_line(task.title, width=80)}"
            remedy = remedy_of(task.reason, key=task.key, plan=plan)
            yield f"          {task.reason}{': ' + remedy if remedy else ''}"


def _write_plans(plans: tuple[PlanView, ...], *, output: Output) -> None:
    if not plans:
        output.say("  plans      none yet")
        return
    from orchestrator.cli.text import plan_spending

    rows = (
        (
            *(str(plan.id), plan.name, plan.state, f"{plan.tasks.get('done', 0)}/{plan.tasks_total}"),
            *(plan.backend, f"{plan.input_tokens:,} in, {plan.output_tokens:,} out", plan_spending(plan)),
        )
        for plan in plans
    )
    output.table(("plan", "name", "state", "done", "backend", "tokens", "money"), rows)
