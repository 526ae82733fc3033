"""The program: its commands, and how it ends. Every error becomes one message and one exit code here."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.cli import (
    agents,
    analysis,
    changes,
    controls,
    decompose,
    deps,
    encryption,
    imports,
    lint,
    orient,
    plans,
    stack,
    sync,
    tasks,
    workspace,
)
from orchestrator.cli.exit_codes import EXIT_CODES
from orchestrator.cli.output import Output
from orchestrator.errors import OrchestratorError, SettingsError

_HELP = """Give it a project plan and it gets done.

The plan's tasks are worked on by many sessions in parallel, in the order of their dependencies; every attempt
is recorded, and what is interrupted goes on at the next start.

\b
Two commands to begin with:
  orchestrator run PLAN --dry-run     tell what would be done
  orchestrator run PLAN               do it
\b
Exit codes:
""" + "".join(f"{code:>5}  {meaning}\n" for code, meaning in EXIT_CODES.items())

_COMMANDS = (
    *(plans.run, plans.submit, plans.watch, imports.import_, lint.lint, sync.reconcile),
    *(analysis.graph, analysis.forecast, analysis.export),
    *(tasks.tasks, tasks.show, tasks.logs, workspace.diff, orient.orient, orient.notes),
    *(changes.hold, changes.release, changes.approve, changes.reject),
    *(changes.finish, changes.skip, changes.cancel, changes.retry, changes.reopen),
    *(deps.deps, decompose.decompose),
    *(controls.pause, controls.resume, controls.limits, controls.budget),
    *(stack.init, stack.up, stack.down, stack.status, stack.doctor),
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from orchestrator import __version__

        typer.echo(f"orchestrator {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Take the options that belong to no command."""


def make_app() -> typer.Typer:
    """Return the typer application. Plain help: rich's takes longer to load than a command to run."""
    app = typer.Typer(
        name="orchestrator",
        help=_HELP,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback(help=_HELP)(_root)
    for command in _COMMANDS:
        app.command(command.__name__.rstrip("_"))(command)
    app.add_typer(agents.agents)
    app.add_typer(sync.sync)
    app.add_typer(encryption.encryption)
    app.add_typer(workspace.workspace)
    return app


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    output = Output(is_json="--json" in arguments)
    try:
        return int(make_app()(arguments, prog_name="orchestrator", standalone_mode=False) or 0)
    except typer.TyperException as usage:
        error: OrchestratorError = _refused(usage)
    except OrchestratorError as refused:
        error = refused
    output.failure(error)
    return error.exit_code


def _refused(usage: typer.TyperException) -> SettingsError:
    context = getattr(usage, "ctx", None)
    command = context.command_path if context else "orchestrator"
    message = usage.format_message().replace("Value error, ", "")  # how our own checks of options arrive
    return SettingsError(message, remedy=f"See `{command} --help`.")
