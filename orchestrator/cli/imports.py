"""The command import: what the importer reads from a plan, without doing anything with it."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output, finding_line
from orchestrator.errors import PlanError, SettingsError


def import_(
    file: options.PlanFile,
    format: options.PlanFormat = "auto",  # noqa: A002 - the word of the option
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and report; nothing is stored.")] = False,
    json: options.Json = False,
) -> None:
    """Tell what is read from a plan.

    Its format and the reason to think so, its tasks, checkboxes, dependencies, and what is wrong with it.

    Exit code: 0 the plan would be accepted, 2 without --dry-run, 3 it has errors or cannot be read.

    Example: orchestrator import docs/plans --dry-run --json
    """
    if not dry_run:
        raise SettingsError(
            "`import` by itself stores nothing.",
            remedy="Add --dry-run for a report; `submit` hands the plan in, `run` works on it.",
        )
    from orchestrator.cli.plan_files import checked, placed_findings
    from orchestrator.plan.report import import_report

    output = Output(is_json=json)
    plan = checked(file, format=format)
    report = import_report(plan)
    for finding in placed_findings(plan, file):
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
