"""Commands on what attempts do in repositories: workspace list, workspace gc, diff."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli import options
from orchestrator.cli.output import Output
from orchestrator.errors import NotFound

if TYPE_CHECKING:
    from orchestrator.views import CommitsView, TaskDetail

workspace = typer.Typer(
    name="workspace",
    help="Look after the clones that attempts work in.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@workspace.command("list")
def list_(json: options.Json = False) -> None:
    """List the clones on this machine: those in use, and those left with work that is only there.

    Example: orchestrator workspace list
    """
    _on_this_machine("list", json=json)


@workspace.command()
def gc(json: options.Json = False) -> None:
    """Bring the work of clones that are left to their repositories, and delete them.

    What cannot be brought stays, with the reason.

    Exit code: 0 all brought, 6 some cannot be.

    Example: orchestrator workspace gc
    """
    _on_this_machine("gc", json=json)


def diff(
    task: options.TaskRef,
    plan: options.OfPlan = "",
    attempt: Annotated[
        int, typer.Option("--attempt", metavar="N", min=0, help="Number of the attempt; 0 = the last one.")
    ] = 0,
    json: options.Json = False,
) -> None:
    """Show what an attempt at a task has changed in the repository of its plan.

    The lines are shown where the repository is on this machine, or where this folder has its commits.

    Example: orchestrator diff A.1.2 --plan first-light
    """
    from orchestrator.cli.home import connect

    output = Output(is_json=json)
    with connect() as client:
        plan_id = client.plan(plan).id if plan else None
        detail = client.task(task, plan_id=plan_id)
        repository = client.plan(str(detail.plan_id)).repository
    commits = _commits(detail, attempt)
    output.result(commits, "\n".join(_lines(commits)))
    if json or commits.base_sha == commits.head_sha:
        return
    folder = next((place for place in (repository, ".") if _has(place, commits.head_sha)), "")
    if folder:
        subprocess.run([*_git(folder), "diff", commits.base_sha, commits.head_sha], check=False)
    else:
        output.remark(
            f"Its lines: `git fetch {repository} {commits.branch}` in a clone, and call this there."
        )


def _commits(detail: TaskDetail, number: int) -> CommitsView:
    """Return the commits of the attempt that is asked for, or of the last one that has some.

    Raises:
        NotFound: no such attempt has left any.
    """
    kept = [(a.number, a.commits) for a in detail.attempts if a.commits is not None]
    found = [commits for n, commits in kept if not number or n == number]
    if not found:
        which = f"Attempt {number} at" if number else "No attempt at"
        raise NotFound(
            f"{which} {detail.key} has left {'no ' if number else ''}commits.",
            remedy=f"`orchestrator show {detail.key}` lists its attempts; only plans with a `repository:`"
            " have commits.",
        )
    return found[-1]


def _lines(commits: CommitsView) -> Iterable[str]:
    yield f"{commits.branch}  {commits.base_sha[:12]}..{commits.head_sha[:12]}"
    for path, added, removed in commits.files:
        yield f"  {path}  " + ("binary" if added is None else f"+{added} -{removed}")
    if not commits.files:
        yield "  nothing changed"


def _has(folder: str, sha: str) -> bool:
    if not Path(folder).is_dir():
        return False
    asked = [*_git(folder), "cat-file", "-e", sha]
    return not subprocess.run(asked, check=False, stderr=subprocess.DEVNULL).returncode


def _git(folder: str) -> list[str]:
    return ["git", "-C", folder]


def _on_this_machine(action: str, *, json: bool) -> None:
    command = [sys.executable, "-P", "-m", "cluster.workspaces", action, *(["--json"] if json else [])]
    raise typer.Exit(subprocess.run(command, check=False).returncode)
