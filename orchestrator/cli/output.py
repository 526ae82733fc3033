"""What a command writes: people's text, or with `--json` one envelope on stdout and nothing else there.

    {"schema_version": 1, "data": ...}
    {"schema_version": 1, "error": {"code", "message", "remedy", "exit_code", "findings"?}}

Results go to stdout, remarks and errors to stderr; with `--json` an error is the result.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

import typer

from orchestrator.errors import Finding, OrchestratorError, PlanError

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA_VERSION = 1

_STYLES = {
    "done": "green",
    "running": "cyan",
    "verifying": "cyan",
    "active": "cyan",
    "ready": "blue",
    "failed": "bold red",
    "stalled": "bold red",
    "held": "yellow",
    "paused": "yellow",
    "cancelled": "dim",
    "skipped": "dim",
    "waiting": "dim",
}


def style_of(state: str) -> str:
    """Return the rich style of a state; empty for a word that is none."""
    return _STYLES.get(state, "")


@dataclass(frozen=True, slots=True)
class Output:
    """Where one command writes.

    Attributes:
        is_json: stdout carries envelopes only.
    """

    is_json: bool = False

    @property
    def is_live(self) -> bool:
        """Whether a person looks at stdout, so that it may be redrawn."""
        return not self.is_json and sys.stdout.isatty()

    def result(self, data: object, text: str = "") -> None:
        """Write the result: `data` as an envelope, or `text` for people."""
        if self.is_json:
            self._envelope("data", data)
        elif text:
            typer.echo(text)

    def say(self, text: str) -> None:
        """Write text for people; nothing with `--json`."""
        if not self.is_json:
            typer.echo(text)

    def remark(self, text: str) -> None:
        """Write what is not the result to stderr."""
        typer.echo(text, err=True)

    def asks(self, question: str) -> bool:
        """Ask a person and return what was answered; no where nobody is there to answer."""
        return not self.is_json and sys.stdin.isatty() and typer.confirm(question, err=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write aligned columns; a cell that is a state is coloured. Piped, no cell is cut or wrapped."""
        if self.is_json:
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, header_style="bold", padding=(0, 2), pad_edge=False)
        for row in rows:
            table.add_row(*(Text(cell, style=style_of(cell)) for cell in row))
        self.console().print(table)

    def console(self) -> Console:
        """Return a rich console on stdout that takes our text as it is."""
        from rich.console import Console

        width = None if sys.stdout.isatty() else 10_000
        return Console(markup=False, highlight=False, emoji=False, width=width)

    def failure(self, error: OrchestratorError) -> None:
        """Write an error with its remedy and its findings."""
        if self.is_json:
            self._envelope("error", as_data(error))
            return
        for finding in findings_of(error):
            self.remark(finding_line(finding))
        self.remark(f"error: {error.message}")
        if error.remedy:
            self.remark(f"       {error.remedy}")

    def _envelope(self, name: str, content: object) -> None:
        envelope = {"schema_version": SCHEMA_VERSION, name: content}
        typer.echo(json.dumps(envelope, default=plain, ensure_ascii=False))


def as_data(error: OrchestratorError) -> dict[str, object]:
    """Return an error as `--json` and the Host tell it."""
    data: dict[str, object] = {
        "code": type(error).__name__,
        "message": error.message,
        "remedy": error.remedy,
        "exit_code": error.exit_code,
    }
    if isinstance(error, PlanError):
        data["findings"] = error.findings
    return data


def findings_of(error: OrchestratorError) -> tuple[Finding, ...]:
    """Return the findings of a refused plan; none for any other error."""
    return error.findings if isinstance(error, PlanError) else ()


def finding_line(finding: Finding) -> str:
    """Return `file:line: severity: message remedy [number code]`, as compilers do it."""
    source = finding.source or "plan"
    place = f"{source}:{finding.line}" if finding.line else source
    what = f"{finding.message} {finding.remedy}".strip()
    return f"{place}: {finding.severity}: {what} [{finding.number} {finding.code}]"


def plain(value: Any) -> Any:
    """Return what json can write of a view, dataclass, time, path, set or tuple."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)
