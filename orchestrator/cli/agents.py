"""Commands on agent types: agents list, agents show, agents check."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output, finding_line
from orchestrator.errors import NotFound

if TYPE_CHECKING:
    from orchestrator.agent_types import AgentType, AgentTypeView
    from orchestrator.errors import Finding

_FOUND = 1

#: Fields by whose lines a field is told, where they are not its own alone.
_WRITTEN_AS = {"tools": ("tools", "disallowed_tools")}

agents = typer.Typer(
    name="agents",
    help="Look at agent types and check their files.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Its name; NAME@PLAN for one that a plan brought along.")
]
Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[PATH]...", help="Files, or folders of them; by default those of the home."),
]


@agents.command(name="list")
def list_(plan: options.OfPlan = "", json: options.Json = False) -> None:
    """List the agent types: those of the package, those of the home, and those that a plan brought along.

    With a stack up they are what its sessions work by, and how they stand is told; else what the files say.

    Example: orchestrator agents list
    """
    output = Output(is_json=json)
    found = _agent_types(plan)
    rows = (
        (view.pool, view.backend, view.model or "as set", *_live(view), view.file or "-")
        for view in sorted(found, key=lambda view: view.pool)
    )
    output.table(("name", "backend", "model", "running", "at most", "breaker", "file"), rows)
    for view in found:
        if view.fault:
            output.say(f"{view.pool} cannot be read: {view.fault}")
    output.result(found)


@agents.command()
def show(name: Name, json: options.Json = False) -> None:
    """Show an agent type: each field with where it comes from, and how it stands.

    Exit code: 0 shown, 1 its file cannot be read, 4 no file defines it.

    Example: orchestrator agents show devops-engineer
    """
    output = Output(is_json=json)
    _, _, plan = name.partition("@")
    found = next((view for view in _agent_types(plan) if view.pool == name), None)
    if found is None:
        raise NotFound(
            f"No file defines the agent type {name!r}.", remedy="`orchestrator agents list` names them."
        )
    output.table(("field", "value", "from"), _fields(found))
    for line in _standing(found):
        output.say(line)
    output.result(found, f"\n{found.prompt}")
    if found.fault:
        raise typer.Exit(_FOUND)


@agents.command()
def check(paths: Paths = None, json: options.Json = False) -> None:
    """Tell what is wrong with agent type files, each with its line and the remedy.

    A file that cannot be read defines no agent type. Tasks of one whose model its provider does not have are
    refused with their plan. A warning tells what has no effect.

    Exit code: 0 nothing was found, 1 something was.

    Example: orchestrator agents check ./agents
    """
    from orchestrator.cli.text import count

    output = Output(is_json=json)
    types, findings = _read(paths or [])
    for finding in findings:
        output.say(finding_line(finding))
    good = [agent_type.name for agent_type in types if not agent_type.fault]
    unreadable = [agent_type.file for agent_type in types if agent_type.fault]
    lost = f"{count(len(unreadable), 'file')} cannot, " if unreadable else ""
    text = f"{count(len(good), 'agent type')} can be read, {lost}{count(len(findings), 'finding')}"
    output.result({"agent_types": good, "unreadable": unreadable, "findings": findings}, text)
    if findings:
        raise typer.Exit(_FOUND)


def _agent_types(plan: str) -> tuple[AgentTypeView, ...]:
    """Return what the stack that is up works by, or what the files here say."""
    from orchestrator.agent_types import AgentTypeView
    from orchestrator.cli.home import connect, home_folder
    from orchestrator.stack import read_stack

    stack = read_stack(home_folder())
    if plan or (stack and stack.mode == "up" and stack.state == "ready"):
        with connect() as client:
            return client.agent_types(plan=plan)
    types, _ = _read([])
    return tuple(AgentTypeView(**each.model_dump(), pool=each.name) for each in types)


def _read(paths: list[Path]) -> tuple[tuple[AgentType, ...], tuple[Finding, ...]]:
    """Read agent type files: those named, or else those of the package and of the home."""
    from orchestrator.routing.agent_catalogue import Catalogue, load_catalogue, read_path
    from orchestrator.routing.models import wrong_models_of
    from orchestrator.routing.tables import load_tables
    from orchestrator.settings import load_settings

    settings = load_settings()
    catalogue = load_catalogue(settings)
    if paths:
        models = load_tables(settings.routing).models
        catalogue = Catalogue([]).extended(file for path in paths for file in read_path(path, models=models))
    return catalogue.all, (*catalogue.findings, *wrong_models_of(catalogue, settings=settings))


def _live(view: AgentTypeView) -> tuple[str, str, str]:
    if view.live is None:
        return "-", str(view.limits.sessions or "as set"), "-"
    return str(view.live.running), str(view.live.sessions_max), view.live.breaker


def _fields(view: AgentTypeView) -> Iterator[tuple[str, str, str]]:
    """Yield each field with its value and where that comes from."""
    values = {
        "description": view.description,
        "domains": ", ".join(view.domains),
        "keywords": ", ".join(view.keywords),
        "tracks": ", ".join(view.tracks),
        "backend": view.backend,
        "model": view.model or "that of the settings",
        "tools": ", ".join(view.tools) or "none but notes and the report",
    }
    for name, value in values.items():
        yield name, value, _place(view, *_WRITTEN_AS.get(name, (name,))) or "default"
    for name, value in _limits(view):
        place = _place(view, "limits", name) if value else "settings"
        yield name, value or "that of the settings", place


def _place(view: AgentTypeView, *names: str) -> str:
    """Return where the first of these fields stands; empty if the file has none of them."""
    line = next((view.lines[name] for name in names if name in view.lines), None)
    return "" if line is None else f"{view.file}:{line}" if line else view.file


def _limits(view: AgentTypeView) -> Iterator[tuple[str, str]]:
    from orchestrator.cli.text import duration, money

    limits = view.limits
    yield "sessions", str(limits.sessions or "")
    yield "timeout", duration(limits.timeout_s) if limits.timeout_s else ""
    yield "idle timeout", duration(limits.idle_timeout_s) if limits.idle_timeout_s else ""
    yield "turns", str(limits.turns or "")
    yield "cost", money(limits.cost_micros) if limits.cost_micros else ""


def _standing(view: AgentTypeView) -> Iterator[str]:
    if view.fault:
        held = "; what it said before still holds" if view.lines else ""
        yield f"The file cannot be read{held}: {view.fault}"
    if view.live:
        live = view.live
        now = f"{live.running} running of at most {live.sessions_max}, {live.queued} queued"
        yield f"{now}; the breaker is {live.breaker}"
