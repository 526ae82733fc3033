"""The commands graph, forecast and export: a plan as a whole, from its file or as it is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output
from orchestrator.cli.text import count, duration, money, one_line
from orchestrator.core.words import TaskKind
from orchestrator.errors import EnvironmentFault, SettingsError

if TYPE_CHECKING:
    from orchestrator.analysis_views import ForecastView, GraphView
    from orchestrator.client import Client
    from orchestrator.plan.model import Plan

_ROWS_SHOWN_MAX = 20
_PATH_SHOWN_MAX = 12

PlanOrFile = Annotated[
    str,
    typer.Argument(
        metavar="PLAN", help="A plan file, a folder of them, - for stdin, or the name of a stored plan."
    ),
]


def graph(plan: PlanOrFile, json: options.Json = False) -> None:
    """Tell what is ready, what waits and why, and what everything hangs on.

    Waves, critical path, slack and bottlenecks are those of what is left to do, by the marks of a file or by
    the states of a stored plan.

    Example: orchestrator graph plan.md
    """
    output = Output(is_json=json)
    if _is_file(plan):
        from orchestrator.plan.analysis import Analysis
        from orchestrator.plan.graph_report import graph_report
        from orchestrator.plan.order import Order

        read = _read(plan, output=output)
        analysis = Analysis(Order(read.tasks, read.dependencies))
        found = graph_report(analysis, _agent_types(read))
        leaves = [task for task in read.tasks if task.kind is TaskKind.LEAF]
        states = Counter[str](analysis.standing(task.key).state for task in leaves)
    else:
        with _stack_with(plan) as client:
            found, states = client.graph(plan), Counter[str](client.plan(plan).tasks)
    if found.tasks:
        _write_graph(found, output=output)
    else:
        told = ", ".join(f"{number} {state}" for state, number in sorted(states.items()) if number)
        output.say(f"Nothing is left to do: {told}.")
    output.result(found)


def forecast(
    plan: PlanOrFile,
    width: Annotated[str, typer.Option("--width", metavar="N", help="Sessions at once, or auto.")] = "auto",
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", min=0, help="How often it is worked through; 0 = enough.")
    ] = 0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The same seed, the same forecast.")] = 0,
    json: options.Json = False,
) -> None:
    """Forecast when a plan is done and what it costs, and how many sessions are worth it.

    A file is judged by its estimates, a stored plan also by what past attempts took. P50 and P90 are what
    half and nine tenths of all draws stay below.

    Example: orchestrator forecast first-light --width auto
    """
    if width != "auto" and not (width.isdecimal() and int(width)):
        message = f"The width {width!r} is no number of sessions."
        raise SettingsError(message, remedy="Use 1 or more, or auto.")
    sessions = 0 if width == "auto" else int(width)
    output = Output(is_json=json)
    if _is_file(plan):
        from orchestrator.plan.forecast import ForecastInput
        from orchestrator.plan.forecast import forecast as make
        from orchestrator.plan.history import History
        from orchestrator.plan.order import Order

        read = _read(plan, output=output)
        order = Order(read.tasks, read.dependencies)
        given = ForecastInput(order=order, agent_types=_agent_types(read), history=History())
        found = make(given, width=sessions, samples=samples, seed=seed)
    else:
        with _stack_with(plan) as client:
            found = client.forecast(plan, width=sessions, samples=samples, seed=seed)
    if found.tasks:
        _write_forecast(found, output=output)
    else:
        output.say("Nothing is left to do.")
    output.result(found)


def export(
    plan: PlanOrFile,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="NOTATION",
            help="json, jsonl (Beads), csv, markdown, mermaid, dot, graphml, cypher.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to; by default stdout.")
    ] = None,
) -> None:
    """Write a plan in another notation; a stored plan with the marks of its tasks' states.

    Example: orchestrator export plan.md --to mermaid -o plan.mmd
    """
    if _is_file(plan):
        from orchestrator.plan.export import export_plan

        text = export_plan(_read(plan, output=Output()), to)
    else:
        with _stack_with(plan) as client:
            text = client.export(plan, to=to)
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise EnvironmentFault(
            f"{out} cannot be written: {error.strerror or error}.", remedy="Name another file with -o."
        ) from error


def _is_file(plan: str) -> bool:
    from orchestrator.cli.plan_files import STDIN

    return plan == STDIN or Path(plan).exists()


def _stack_with(plan: str) -> Client:
    """Return a client of the stack that runs here, where a plan of that name may be stored."""
    from orchestrator.cli.home import connect

    try:
        return connect()
    except EnvironmentFault as error:
        raise EnvironmentFault(f"There is no file {plan!r}. {error.message}", remedy=error.remedy) from error


def _read(plan: str, *, output: Output) -> Plan:
    from orchestrator.cli.plan_files import Choices, read

    return read(plan, Choices(), output=output)


def _agent_types(plan: Plan) -> dict[str, str]:
    from orchestrator.routing import Routing
    from orchestrator.settings import load_settings

    return {
        key: route.agent_type for key, route in Routing.from_settings(load_settings()).route(plan).items()
    }


# --- for people


def _write_graph(found: GraphView, *, output: Output) -> None:
    held = {each.key for each in found.held}  # what is held may wait for others as well
    blocked = sum(each.key not in held for each in found.blocked)
    states = f"{len(found.ready)} ready, {len(held)} held, {blocked} blocked"
    output.say(f"{count(len(found.tasks), 'open task')} in {count(len(found.waves), 'wave')}: {states}")
    output.say(f"Work {_time(found.work_ms)}, critical path {_time(found.critical_path_ms)}: {_path(found)}")
    tasks = {task.key: task for task in found.tasks}
    ready = [tasks[key] for key in found.ready]
    _table(
        output,
        ("ready", "title", "agent type", "estimate", "slack"),
        [
            (task.key, _title(task.title), task.agent_type, _time(task.estimate_ms), _time(task.slack_ms))
            for task in ready
        ],
    )
    _table(output, ("held", "reason"), [(held.key, one_line(held.reason, width=80)) for held in found.held])
    _table(
        output,
        ("blocked", "waits for", "behind a person at"),
        [(each.key, one_line(", ".join(each.waits_for), width=60), each.behind) for each in found.blocked],
    )
    _table(
        output,
        ("bottleneck", "title", "tasks behind", "work behind"),
        [
            (each.key, _title(each.title), str(each.tasks_behind), _time(each.work_behind_ms))
            for each in found.bottlenecks
        ],
    )


def _write_forecast(found: ForecastView, *, output: Output) -> None:
    for line in _forecast_lines(found):
        output.say(line)
    rows = [
        (str(each.width), duration(each.finish_s.p50), duration(each.finish_s.p90), f"{each.speed_up:.1f}")
        for each in found.widths
    ]
    _table(output, ("sessions", "P50", "P90", "speed-up"), rows)


def _forecast_lines(found: ForecastView) -> Iterator[str]:
    yield f"{count(found.tasks, 'task')} left, with {count(found.width, 'session')}:"
    yield f"  done in {duration(found.finish_s.p50)} (P50), {duration(found.finish_s.p90)} (P90)"
    if found.cost_micros is None:
        yield f"  cost unknown: no attempt like {count(found.unpriced, 'task')} has told one"
    else:
        p50, p90 = money(round(found.cost_micros.p50)), money(round(found.cost_micros.p90))
        yield f"  cost {p50} (P50), {p90} (P90)"
    known = f"{count(found.attempts_known, 'past attempt')} and " if found.attempts_known else ""
    shortest = duration(found.critical_path_s)
    yield f"  by {known}the estimates: {duration(found.work_s)} of work, {shortest} at least"
    if found.touching:
        yield f"  {found.touching} times a task waits only because another touches the same files"
    yield found.advice


def _table(output: Output, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        output.say("")
        output.table(columns, rows[:_ROWS_SHOWN_MAX])
    if len(rows) > _ROWS_SHOWN_MAX:
        output.say(f"and {len(rows) - _ROWS_SHOWN_MAX} more")


def _path(found: GraphView) -> str:
    shown = found.critical_path[:_PATH_SHOWN_MAX]
    is_cut = len(shown) < len(found.critical_path)
    return " → ".join(shown) + (f" → … {found.critical_path[-1]}" if is_cut else "")


def _time(ms: int) -> str:
    return duration(ms / 1000)


def _title(title: str) -> str:
    return one_line(title, width=48)
