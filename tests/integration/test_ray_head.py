"""Our own Ray, stopped at the worst moment."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.processes import ROOT, foreign_environment

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

#: The first moments are the worst: its thread has not yet met the GCS that is about to end.
DELAYS_S = ("0", "0.01", "0.03", "0.5")


def test_a_dashboard_that_starts_is_given_up_when_ray_stops() -> None:
    with tempfile.TemporaryDirectory(prefix="head-", dir="/tmp") as folder:  # Ray's paths must be short
        process = subprocess.run(
            [sys.executable, "-m", "tests.support.dashboard_starts", folder, *DELAYS_S],
            cwd=ROOT,
            env=foreign_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if folder in _read(path)]
    assert process.returncode == 0, process.stderr[-2000:]
    went_on_s = [float(line) for line in process.stdout.split()]
    assert len(went_on_s) == len(DELAYS_S), process.stderr[-2000:]
    assert max(went_on_s) < 30.0, went_on_s
    assert left == []


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
