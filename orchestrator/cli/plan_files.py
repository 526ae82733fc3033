"""Reads the plan that a command names, and makes of it what a service takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.output import Output, finding_line
from orchestrator.cli.text import micros
from orchestrator.errors import Finding, PlanError, SettingsError

if TYPE_CHECKING:
    from orchestrator.plan.model import Plan
    from orchestrator.routing import Routing
    from orchestrator.settings import Settings
    from orchestrator.views import SubmitRequest

STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the options of a command say on how to work on a plan."""

    format: str = "auto"
    name: str = ""
    workdir: Path | None = None
    repository: str = ""
    branch: str = ""
    backend: str = "auto"
    budget_usd: float = 0.0
    until_key: str = ""
    take: bool = False
    is_fresh: bool = False


def checked(file: str, *, format: str = "auto", backend: str = "auto") -> Plan:  # noqa: A002  its option
    """Return the plan with everything that is found in it.

    Args:
        format: how it is written; see `read_path`.
        backend: what is asked for to run it; `auto` leaves the choice to the plan and the settings.

    Raises:
        PlanError: it cannot be read.
    """
    from orchestrator.plan.read import read_path
    from orchestrator.routing import checked_plan
    from orchestrator.settings import load_settings

    plan, settings = read_path(STDIN if file == STDIN else Path(file), format=format), load_settings()
    return checked_plan(plan, routing=routing_for(file, settings), settings=settings, asked=backend)


def routing_for(file: str, settings: Settings) -> Routing:
    """Return the rules of routing for a plan that is read here, over its own agent types too."""
    from orchestrator.routing import Routing

    return Routing.from_settings(settings).with_own(_agents_beside(file))


def _agents_beside(file: str) -> dict[str, str]:
    """Return the agent type files that a plan brings along, by their paths; none from standard input."""
    from orchestrator.plan.files import agents_beside

    return {} if file == STDIN else agents_beside(Path(file))


def read(file: str, choices: Choices, *, output: Output) -> Plan:
    """Return the plan, its warnings written to stderr.

    Raises:
        PlanError: it cannot be read, or has errors; nothing was started.
    """
    plan = checked(file, format=choices.format, backend=choices.backend)
    if plan.errors:
        count = len(plan.errors)
        raise PlanError(
            f"{_source(file)} has {count} error{'' if count == 1 else 's'}.",
            remedy="Mend what is named above and try again; nothing was started.",
            findings=placed(plan.findings, file),
        )
    if not output.is_json:
        for finding in placed(plan.findings, file):
            output.remark(finding_line(finding))
    return plan


def placed(findings: Iterable[Finding], file: str) -> tuple[Finding, ...]:
    """Return findings with the file that each is in, as it was named to us."""
    folder = Path(file)
    return tuple(
        replace(finding, source=str(folder / finding.source) if finding.source else _source(file))
        for finding in findings
    )


def stored_name(file: str) -> str:
    """Return the name by which a file is handed in, if no other was given.

    Raises:
        PlanError: it cannot be read.
        SettingsError: it is standard input, which has no name.
    """
    from orchestrator.plan.read import read_path

    if file == STDIN:
        raise SettingsError("Standard input is no file.", remedy="Name the file of the plan.")
    plan = read_path(file)
    return plan.name or plan.title or Path(file).absolute().stem


def request_for(plan: Plan, file: str, choices: Choices) -> SubmitRequest:
    """Return the request that hands the plan in. Relative folders are made absolute here, where they are."""
    from orchestrator.plan.files import texts_of
    from orchestrator.views import SubmitRequest

    path = Path.cwd() if file == STDIN else Path(file).absolute()
    texts = texts_of(path, format=choices.format) if path.is_dir() and file != STDIN else {"": plan.source}
    return SubmitRequest(
        text=texts.get("", ""),
        files={} if list(texts) == [""] else texts,
        agents=_agents_beside(file),
        source=_source(file),
        format=choices.format,
        name=choices.name or ("" if plan.name or plan.title or file == STDIN else path.stem),
        workdir=str(choices.workdir.absolute()) if choices.workdir else "",
        repository=_absolute(choices.repository),
        branch=choices.branch,
        base_dir=str(path if path.is_dir() else path.parent),
        backend=choices.backend,
        budget_micros=micros(choices.budget_usd),
        until_key=choices.until_key,
        take=choices.take,
        is_fresh=choices.is_fresh,
    )


def _absolute(repository: str) -> str:
    """Return a folder as one that is named from here; an address stays as it is."""
    path = Path(repository).expanduser()
    return str(path.absolute()) if repository and path.is_dir() else repository


def _source(file: str) -> str:
    return "stdin" if file == STDIN else file
