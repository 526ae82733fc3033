"""The example does what it says, whoever runs it: its own lines, in the order of its dependencies, by `sh`.

Nothing of the orchestrator runs here but the reader of plans, so a failure points at the example.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest

from orchestrator.core.words import TaskKind
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.model import Plan, PlanTask
from orchestrator.plan.read import read_path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "first-light.md"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_path(EXAMPLE)


@pytest.fixture(scope="module")
def leaves(plan: Plan) -> dict[str, PlanTask]:
    return {task.key: task for task in plan.tasks if task.kind == TaskKind.LEAF}


class Shell:
    """Runs lines in one workdir with nothing but PATH, a private HOME and TMPDIR, as a session does."""

    def __init__(self, root: Path) -> None:
        self.workdir = root / "work"
        home = root / "home"
        self.workdir.mkdir()
        home.mkdir()
        self._env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(home), "TMPDIR": str(home)}

    def run(self, lines: Sequence[str]) -> str:
        """Return what the first failing line wrote; empty if all of them passed."""
        for line in lines:
            command = ("sh", "-c", line)
            ended = subprocess.run(
                command,
                check=False,
                cwd=self.workdir,
                env=self._env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            if ended.returncode:
                return f"{line}: exit code {ended.returncode}: {ended.stdout}{ended.stderr}"
        return ""


def test_it_reads_without_a_finding(plan: Plan, leaves: dict[str, PlanTask]) -> None:
    assert plan.findings == ()
    assert plan.name == "first-light"
    assert len(leaves) == 24
    assert len({task.agent for task in leaves.values()}) == 7
    assert all(task.run and task.verify for task in leaves.values())


def test_it_has_a_fan_out_and_a_diamond(plan: Plan) -> None:
    waits = {(edge.task, edge.on) for edge in plan.dependencies}
    assert {("A.1.2", "A.1.1"), ("A.1.3", "A.1.1"), ("B.1.1", "A.1.2"), ("B.1.1", "A.1.3")} <= waits
    assert {task for task, on in waits if on == "A.1.3"} == {"B.1.1", "B.1.2", "B.1.3", "B.1.4"}


def test_its_lines_build_test_and_release_a_package(
    plan: Plan, leaves: dict[str, PlanTask], tmp_path: Path
) -> None:
    shell = Shell(tmp_path)
    failed_once = {}
    for key in chain.from_iterable(PlanGraph(plan.tasks, plan.dependencies).waves()):
        task = leaves[key]
        failure = shell.run(task.run)
        if failure:
            failed_once[key] = failure
            assert shell.run(task.run) == "", "a second attempt succeeds"
        assert shell.run(task.verify) == "", key
    assert list(failed_once) == ["C.2.2"]
    assert "cold start" in failed_once["C.2.2"]
    tags = subprocess.check_output(("git", "tag"), cwd=shell.workdir, text=True)
    assert tags.split() == ["v0.1.0"]
