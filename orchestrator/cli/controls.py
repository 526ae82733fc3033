"""Commands that change how the stack works: pause, resume, limits, budget."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output
from orchestrator.cli.text import answer_text, micros
from orchestrator.core.words import FINISHED
from orchestrator.errors import SettingsError

if TYPE_CHECKING:
    from orchestrator.client import Client
    from orchestrator.status_views import StatusView
    from orchestrator.views import NewLimits

#: How a budget stands, of the answer to a request that sets it.
_SUMS = ("spent_micros", "reserved_micros", "budget_micros")

_Plan = Annotated[str, typer.Argument(metavar="PLAN", help="Name or id of the plan.")]


def pause(
    plan: _Plan = "",
    everything: Annotated[bool, typer.Option("--all", help="Everything, also after a restart.")] = False,
    reason: options.Reason = "",
    json: options.Json = False,
) -> None:
    """Start nothing more of a plan, or with --all of any.

    What runs may end. A pause of everything outlives `down` and `up`.

    Example: orchestrator pause --all --reason "the disk is nearly full"
    """
    _change("pause", plan, everything=everything, reason=reason, until="", output=Output(is_json=json))


def resume(
    plan: _Plan = "",
    everything: Annotated[bool, typer.Option("--all", help="Take back `pause --all`.")] = False,
    until: options.Until = "",
    reason: options.Reason = "",
    json: options.Json = False,
) -> None:
    """Go on with a paused plan, or with --all with everything.

    A plan also tries again what failed in it.

    Example: orchestrator resume first-light
    """
    _change("resume", plan, everything=everything, reason=reason, until=until, output=Output(is_json=json))


def limits(
    total: Annotated[
        int | None, typer.Option("--total", metavar="N", min=0, help="Most sessions at once.")
    ] = None,
    agent: Annotated[
        list[str] | None, typer.Option("--agent", metavar="NAME=N", help="Of an agent type; may be repeated.")
    ] = None,
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", metavar="NAME=N", help="Of a tenant; may be repeated.")
    ] = None,
    plan: Annotated[
        list[str] | None, typer.Option("--plan", metavar="PLAN=N", help="Of a plan; may be repeated.")
    ] = None,
    day_budget: Annotated[
        float | None,
        typer.Option("--day-budget", metavar="USD", min=0.0, max=1e6, help="Spend of everybody in a day."),
    ] = None,
    tenant_budget: Annotated[
        list[str] | None,
        typer.Option("--tenant-budget", metavar="NAME=USD", help="Spend of a tenant; may be repeated."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Show or change how many sessions may be live at once, and what they may spend together.

    A change holds at once and over restarts, and ends nothing that runs; 0 goes back to the settings.
    The budget of a plan is set by `budget`.

    Example: orchestrator limits --total 8 --agent code-reviewer=2
    """
    from orchestrator.cli.home import connect

    output = Output(is_json=json)
    with connect() as client:
        if total is not None or day_budget is not None or agent or tenant or plan or tenant_budget:
            new = _new_limits(client, total, agents=agent or [], tenants=tenant or [], plans=plan or [])
            budgets = {name: micros(usd) for name, usd in _sums("--tenant-budget", tenant_budget or [])}
            of_day = None if day_budget is None else micros(day_budget)
            spend = {"tenant_budgets": budgets, "day_budget": of_day}
            client.request("set_limits", limits=new.model_copy(update=spend))
            for known in (client.plan(ref) for ref, _ in _pairs("--plan", plan or [])):
                if known.state in FINISHED:
                    output.remark(f"Plan {known.name!r} is {known.state}: its limit counts if it goes on.")
        status = client.status()
    output.table(("limit of", "name", "live", "most", "given by"), _limit_rows(status))
    if status.budgets:
        output.table(("budget of", "name", "spent", "set aside", "most"), _budget_rows(status))
    output.result(status.limits)


def budget(
    plan: options.PlanRef,
    usd: Annotated[
        float,
        typer.Argument(
            metavar="USD", min=0.0, max=1_000_000.0, help="Most it may spend in all; 0 = no limit."
        ),
    ],
    task: Annotated[
        str, typer.Option("--task", metavar="KEY", help="Of this task alone; 0 = as the plan says.")
    ] = "",
    json: options.Json = False,
) -> None:
    """Set the most that a plan may spend, or one of its tasks.

    What is held for that budget goes on if the new one suffices. Sessions that a lower one does not bear are
    ended, with what they have done, and start again with what is left.

    Example: orchestrator budget first-light 20
    """
    from orchestrator.cli.home import connect
    from orchestrator.cli.text import count, spending

    with connect() as client:
        plan_id = client.plan(plan).id
        if task:
            task_id = client.task(task, plan_id=plan_id).id
            answer = client.request("set_task_budget", task_id=task_id, budget_micros=micros(usd))
        else:
            answer = client.request("set_budget", plan_id=plan_id, budget_micros=micros(usd))
    text = f"{task or plan}: {spending(**{name: answer[name] for name in _SUMS})}"
    if answer["ending"]:
        text += f"; that is too little for {count(answer['ending'], 'session')}, which must end"
    Output(is_json=json).result(answer, text)


def _change(action: str, plan: str, *, everything: bool, reason: str, until: str, output: Output) -> None:
    from orchestrator.cli.home import connect

    if everything == bool(plan) or (everything and until):
        raise SettingsError(f"What to {action} is not clear.", remedy="Name a PLAN, or --all alone.")
    with connect() as client:
        if everything:
            answer = client.request(f"{action}_all", reason=reason)
        else:
            plan_id = client.plan(plan).id
            answer = client.request(f"{action}_plan", plan_id=plan_id, reason=reason, until_key=until)
    output.result(answer, f"{plan or 'everything'}: {answer_text(answer)}")


def _new_limits(
    client: Client, total: int | None, *, agents: list[str], tenants: list[str], plans: list[str]
) -> NewLimits:
    from pydantic import ValidationError

    from orchestrator.views import NewLimits

    by_plan = {client.plan(ref).id: number for ref, number in _pairs("--plan", plans)}
    try:
        return NewLimits(
            sessions_max=total,
            agents=dict(_pairs("--agent", agents)),
            tenants=dict(_pairs("--tenant", tenants)),
            plans=by_plan,
        )
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        what = ".".join(str(part) for part in fault["loc"])
        raise SettingsError(f"The limit {what} is refused: {fault['msg']}.", remedy="Correct it.") from error


def _pairs(option: str, values: list[str]) -> Iterator[tuple[str, int]]:
    """Yield name and number of each `NAME=N`; a name may have an equals sign itself."""
    for value in values:
        name, _, number = value.rpartition("=")
        if not name or not (number.isascii() and number.isdigit() and len(number) <= 7):
            raise SettingsError(
                f"{option} {value!r} is no name with a number.", remedy=f"Write for example {option} NAME=2."
            )
        yield name, int(number)


def _sums(option: str, values: list[str]) -> Iterator[tuple[str, float]]:
    """Yield name and sum of each `NAME=USD`."""
    for value in values:
        name, _, usd = value.rpartition("=")
        if not name or not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", usd):
            raise SettingsError(
                f"{option} {value!r} is no name with a sum.", remedy=f"Write for example {option} NAME=2.50."
            )
        yield name, float(usd)


def _budget_rows(status: StatusView) -> Iterator[tuple[str, ...]]:
    from orchestrator.cli.text import money

    for budget in status.budgets:
        sums = (budget.spent_micros, budget.reserved_micros, budget.budget_micros)
        yield (budget.scope, budget.name, *map(money, sums))


def _limit_rows(status: StatusView) -> Iterator[tuple[str, ...]]:
    for limit in status.limits:
        most = "no limit" if limit.sessions_max is None else str(limit.sessions_max)
        yield (limit.scope, limit.name, str(limit.live), most, "request" if limit.is_set else "settings")
