"""Our own Ray, stopped or robbed of its GCS at the worst moment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT, foreign_environment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

#: The first moments are the worst: its thread has not yet met the GCS that is about to end.
DELAYS_S = ("0", "0.01", "0.03", "0.5")


def run_program(name: str, folder: str, *arguments: str) -> list[float]:
    """Run a program of `tests.support` in a folder; return the numbers that it printed."""
    process = subprocess.run(
        [sys.executable, "-m", f"tests.support.{name}", folder, *arguments],
        cwd=ROOT,
        env=foreign_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return [float(word) for word in process.stdout.split()]


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder for Ray, whose paths must be short; no process that was told of it is left at the end."""
    with tempfile.TemporaryDirectory(prefix="head-", dir="/tmp") as name:
        yield name
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if name in _read(path)]
    assert left == []


def test_a_dashboard_that_starts_is_given_up_when_ray_stops(folder: str) -> None:
    went_on_s = run_program("dashboard_starts", folder, *DELAYS_S)
    assert len(went_on_s) == len(DELAYS_S)
    assert max(went_on_s) < 30.0, went_on_s


def test_a_gcs_that_died_is_started_again_while_an_actor_waits_for_it(folder: str) -> None:
    mended_s, made_s = run_program("gcs_restarts", folder)
    assert mended_s < made_s


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
