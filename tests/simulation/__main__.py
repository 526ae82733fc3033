"""Run many seeds over several processes:

python -m tests.simulation                       200 seeds
python -m tests.simulation --seeds 10000         as many as asked for, over two processes
python -m tests.simulation --seed 17 --trace     one again, with everything that happened
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.simulation.run import Report, simulate, simulate_many

#: Seeds that a process takes at a time.
PART = 20


def main() -> int:
    """Run what the command line asks for; 1 if any seed has a violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, help="only this seed")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    args = parser.parse_args()
    if args.seed is not None:
        report = simulate(args.seed)
        print("\n".join(report.trace) if args.trace else report.summary)
        return tell([report], took_s=0.0)
    began_s = time.monotonic()
    last = args.first + args.seeds
    parts = [range(first, min(first + PART, last)) for first in range(args.first, last, PART)]
    reports: list[Report] = []
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as processes:
        for part in processes.map(simulate_many, parts):
            reports += part
            bad = [report.seed for report in reports if report.violations]
            print(f"{len(reports)} of {args.seeds} seeds, violations in {bad or 'none'}", file=sys.stderr)
    return tell(reports, took_s=time.monotonic() - began_s)


def tell(reports: list[Report], *, took_s: float) -> int:
    """Print counts, violations and speed; return the exit code."""
    counts: Counter[str] = sum((report.counts for report in reports), Counter())
    for name, count in sorted(counts.items()):
        print(f"{count:9,}  {name}")
    bad = sorted((report for report in reports if report.violations), key=lambda report: report.seed)
    for report in bad:
        print(f"\nseed {report.seed}: {report.summary}")
        print("\n".join([*report.trace[-60:], *(f"  VIOLATION {one}" for one in report.violations)]))
    virtual_s = sum(report.virtual_s for report in reports)
    speed = f", {len(reports) / took_s:.1f} seeds/s" if took_s else ""
    found = sum(len(report.violations) for report in bad)
    print(f"\n{len(reports)} seeds, {virtual_s / 3600:.1f} h of virtual time{speed}: {found} violations")
    if bad:
        print(f"See one again: python -m tests.simulation --seed {bad[0].seed} --trace")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
