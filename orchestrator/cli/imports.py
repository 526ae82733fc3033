"""The command import: a plan revised by its file, or a report of what is read from it."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output, finding_line
from orchestrator.errors import PlanError


def import_(
    file: options.PlanFile,
    format: options.PlanFormat = "auto",  # noqa: A002 - the word of the option
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and report; nothing is stored.")] = False,
    plan_name: options.OfPlan = "",
    yes: Annotated[bool, typer.Option("--yes", help="Apply without asking.")] = False,
    json: options.Json = False,
) -> None:
    """Revise a plan of the stack that is up by its file, or only tell what is read from it.

    What the file changes is shown first, and applied when you agree: tasks that are known keep their states
    and attempts, what runs goes on, and what is no longer in the file is cancelled. With --dry-run: the
    format and the reason to think so, tasks, checkboxes, dependencies, and what is wrong with them.

    Exit code: 0 done, 3 the file has errors or cannot be read, 4 no such plan.

    Example: orchestrator import docs/plans --dry-run --json
    """
    from orchestrator.cli.plan_files import checked, placed
    from orchestrator.cli.sync import revise
    from orchestrator.plan.report import import_report

    output = Output(is_json=json)
    if not dry_run:
        revise(file, name=plan_name, is_agreed=yes, output=output)
        return
    plan = checked(file, format=format)
    report = import_report(plan)
    for finding in placed(plan.findings, file):
        output.say(finding_line(finding))
    output.result(report, _as_text(report))
    if plan.errors:
        raise typer.Exit(PlanError.exit_code)


def _as_text(report: dict[str, object]) -> str:
    counts = report["counts"]
    assert isinstance(counts, dict)
    boxes, edges = counts["checkboxes"], counts["dependencies"]
    other = "".join(f", {number} [{mark}]" for mark, number in boxes["other"].items())
    return (
        f"format        {report['format']}: {report['format_reason']}\n"
        f"tasks         {counts['tasks']}, {counts['with_id']} ids\n"
        f"checkboxes    {boxes['open']} open, {boxes['done']} done{other}\n"
        f"dependencies  {edges['explicit']} explicit, {edges['inferred']} inferred"
    )
