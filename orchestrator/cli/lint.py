"""The command lint: what is wrong with a plan or may be misread, each finding with its number."""

from __future__ import annotations

from collections import Counter

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output, finding_line

_FOUND = 1


def lint(
    file: options.PlanFile,
    format: options.PlanFormat = "auto",  # noqa: A002 - the word of the option
    json: options.Json = False,
) -> None:
    """Tell everything that is wrong with a plan or may be misread.

    Each finding has its line, a number that never changes, and the remedy; docs/findings.md explains them. An
    error refuses the plan, with a warning it runs.

    Exit code: 0 nothing was found, 1 something was, 3 the plan cannot be read at all.

    Example: orchestrator lint docs/plans
    """
    from orchestrator.cli.plan_files import checked, placed
    from orchestrator.cli.text import count

    output = Output(is_json=json)
    findings = placed(checked(file, format=format).findings, file)
    for finding in findings:
        output.say(finding_line(finding))
    of = Counter(finding.severity for finding in findings)
    text = f"{count(of['error'], 'error')}, {count(of['warning'], 'warning')}"
    output.result({"errors": of["error"], "warnings": of["warning"], "findings": findings}, text)
    if findings:
        raise typer.Exit(_FOUND)
