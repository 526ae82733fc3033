"""Measure everything and print one line per figure; exit code 1 if a bar is missed."""

from __future__ import annotations

import os
import platform
import sys

from benchmarks import plan_reading

SUBJECTS = (plan_reading,)


def main() -> int:
    """Run every subject in turn."""
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.machine()}\n")
    is_met = True
    for subject in SUBJECTS:
        for figure in subject.measure():
            verdict = "" if figure.is_met else "  MISSED"
            print(
                f"{figure.name:40} {figure.value:8.3f} {figure.unit}   bar {figure.at_most:g}{verdict}",
                flush=True,
            )
            is_met = is_met and figure.is_met
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
