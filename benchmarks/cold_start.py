"""How long a person waits: for help, and for the first task of a `run` that starts its own stack."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import Figure
from tests.support.command_line import TIMEOUT_S, CommandLine, own_command_line, read_until

PROGRAM = Path(sys.executable).with_name("orchestrator")
RUNS = 3
HELP_RUNS = 10
HELP_AT_MOST_S = 0.3
FIRST_TASK_AT_MOST_S = 15.0
AGENT_TYPES = 30


def plan_text(*, tasks: int, agent_types: int) -> str:
    """Independent tasks, spread over so many agent types."""
    lines = ["# Cold start", ""]
    for number in range(tasks):
        lines.append(f"- [ ] **A.{number + 1}** Do piece {number + 1}")
        lines += [f"  - agent: agent-type-{number % agent_types + 1}", "  - run: `true`"]
    return "\n".join(lines) + "\n"


def help_s() -> float:
    """Seconds that `orchestrator --help` takes."""
    started_s = time.perf_counter()
    subprocess.run([PROGRAM, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started_s


def first_task_s(cli: CommandLine, plan: Path) -> float:
    """Seconds from the start of the process to the line that tells of the first started task."""
    started_s = time.perf_counter()
    process = cli.start("run", str(plan), "--fresh")
    read_until(process, "  started  ")
    taken_s = time.perf_counter() - started_s
    out, err = process.communicate(timeout=TIMEOUT_S)
    if process.returncode != 0:
        raise RuntimeError(f"the run ended with exit code {process.returncode}: {out}{err}")
    cli.assert_nothing_is_left()
    return taken_s


def measure() -> Iterator[Figure]:
    """Yield the figures; the first `run`, which makes the database, is not counted."""
    values_s = tuple(help_s() for _ in range(HELP_RUNS))
    yield Figure(name="orchestrator --help", values=values_s, unit="s", at_most=HELP_AT_MOST_S)
    with own_command_line() as cli:
        small = cli.plan(plan_text(tasks=3, agent_types=1), "small.md")
        wide = cli.plan(plan_text(tasks=2 * AGENT_TYPES, agent_types=AGENT_TYPES), "wide.md")
        first_task_s(cli, small)
        for name, plan in {"run": small, f"run over {AGENT_TYPES} agent types": wide}.items():
            values_s = tuple(first_task_s(cli, plan) for _ in range(RUNS))
            yield Figure(
                name=f"{name}: process start to first started task",
                values=values_s,
                unit="s",
                at_most=FIRST_TASK_AT_MOST_S,
            )
