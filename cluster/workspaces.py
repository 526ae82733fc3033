"""`python -m cluster.workspaces list|gc [--json]`: the clones of this machine, and the way out of them.

Neither needs a stack. A clone that is left holds work which its executor could not bring to the repository.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from actors.containment import limits_of, sandbox_of
from cluster.home import HostHome
from orchestrator.errors import EnvironmentFault, OrchestratorError
from orchestrator.settings import Settings, load_settings
from orchestrator.workspace.launcher import ProcessLauncher
from orchestrator.workspace.places import About, left_place, places, read_about
from orchestrator.workspace.repositories import Repositories
from orchestrator.workspace.rescue import bring, left_workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A clone on this machine.

    Attributes:
        state: `in use`; `left`: nobody holds it, and its work is only here; `brought` by gc, and deleted.
        reason: why gc could not bring it.
    """

    folder: str
    state: str
    plan: str
    task: str
    attempt: int
    token: int
    repository: str
    reason: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """List or collect; return the exit code."""
    parser = argparse.ArgumentParser(prog="orchestrator workspace", description=__doc__)
    parser.add_argument("action", choices=("list", "gc"))
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    arguments = parser.parse_args(argv)
    try:
        settings = load_settings()
        clones = listed(settings) if arguments.action == "list" else asyncio.run(collect(settings))
    except OrchestratorError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    sys.stdout.write(_as_json(clones) if arguments.json else _as_text(clones))
    return EnvironmentFault.exit_code if any(clone.reason for clone in clones) else 0


def listed(settings: Settings) -> list[Clone]:
    """Return the clones of this home in which there is, or may be, work."""
    found = []
    for folder in places(_clones(settings)):
        about = read_about(folder)
        with left_place(folder) as place:
            if about is not None:
                found.append(_clone(about, "in use" if place is None else "left"))
    return found


async def collect(settings: Settings) -> list[Clone]:
    """Bring the work that is left to its repository and delete its clones; what cannot be brought stays."""
    home = HostHome(settings.home)
    records = home.folder("records")
    own = ProcessLauncher(records=records)
    launcher = ProcessLauncher(records=records, limits=limits_of(settings), sandbox=sandbox_of(settings))
    repositories = Repositories(root=home.workspaces() / "mirrors", launcher=own)
    found = []
    for folder in places(_clones(settings)):
        with left_place(folder) as place:
            if place is None:
                continue
            if (about := place.about) and about.has_clone:
                try:
                    await bring(about, left_workspace(about), repositories=repositories, launcher=launcher)
                except EnvironmentFault as fault:
                    found.append(_clone(about, "left", reason=fault.message))
                    continue
                found.append(_clone(about, "brought"))
            await asyncio.to_thread(place.clear)
    return found


def _clones(settings: Settings) -> Path:
    return HostHome(settings.home).workspaces() / "clones"


def _clone(about: About, state: str, *, reason: str = "") -> Clone:
    return Clone(
        folder=about.workdir,
        state=state,
        plan=about.plan,
        task=about.key,
        attempt=about.number,
        token=about.token,
        repository=about.url,
        reason=reason,
    )


def _as_json(clones: Sequence[Clone]) -> str:
    return json.dumps({"schema_version": 1, "data": [asdict(clone) for clone in clones]}) + "\n"


def _as_text(clones: Sequence[Clone]) -> str:
    lines = []
    for clone in clones:
        lines.append(f"{clone.state:<7}  {clone.task} of {clone.plan}, attempt {clone.attempt}")
        lines.append(f"{'':<7}  {clone.folder}")
        lines += [f"{'':<7}  {clone.reason}"] if clone.reason else []
    return "".join(f"{line}\n" for line in lines) or "There are no clones.\n"


if __name__ == "__main__":
    sys.exit(main())
