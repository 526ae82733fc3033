"""SIGKILL of `orchestrator run` at any moment of its start and its work: nothing is left, nothing is lost."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.support.command_line import CommandLine, own_command_line, read_until
from tests.support.extent import IS_FULL, seed
from tests.support.host import LONG_PLAN, wait_until

pytestmark = [
    pytest.mark.ray,
    pytest.mark.postgres,
    pytest.mark.faults,
    pytest.mark.timeout(3600 if IS_FULL else 600),
]

SEED = seed()

#: What the command line says on its way; a kill comes up to a second after it. After the first start of a
#: session the Host starts the dashboard.
STAGES = (
    "",
    "PostgreSQL is up",
    "tables are up",
    "Ray is up",
    "scheduler is ready",
    r"A\.2 +work \d+ started",
)

#: Kills at each stage in full; bounded, there is one in mid-session and one at each of two other stages.
ROUNDS = 6

LATER_MAX_S = 1.0

#: Less than the minute for which Ray keeps a process that waits for what has ended.
GONE_MAX_S = 55.0


@pytest.fixture
def cli() -> Iterator[CommandLine]:
    with own_command_line() as found:
        yield found


def kill_after(process: subprocess.Popen[str], words: str, *, later_s: float) -> None:
    """Kill the command line so long after it said the words, or at its end if it says nothing more."""
    if words:
        with suppress(AssertionError):  # it is quicker than we are, or has nothing more to say
            read_until(process, words)
    time.sleep(later_s)  # the moment is the point
    process.kill()
    process.communicate()


def kills(dice: random.Random) -> list[str]:
    """Return the stages of the kills to come."""
    stages = STAGES * ROUNDS if IS_FULL else (STAGES[-1], *dice.sample(STAGES[:-1], k=2))
    return dice.sample(stages, k=len(stages))


def test_a_command_line_killed_at_any_moment_leaves_nothing_and_loses_nothing(cli: CommandLine) -> None:
    dice = random.Random(SEED)
    plan = cli.plan(LONG_PLAN.replace("name: long", "name: long\nworkdir: ."))
    stages = kills(dice)
    for stage in stages:
        later_s = dice.random() * LATER_MAX_S
        kill_after(cli.start("run", str(plan)), stage, later_s=later_s)
        took_s = wait_until(
            lambda: not cli.processes(),
            timeout_s=GONE_MAX_S,
            what=f"no process is left, killed {later_s:.2f} s after {stage!r}",
        )
        print(f"seed {SEED}: killed {later_s:.2f} s after {stage!r}, all gone after {took_s:.1f} s")
    (cli.folder / "word").touch()
    data = cli.data("run", str(plan))
    assert data["plan"]["tasks"] == {"done": 3}
    assert (cli.folder / "ended").read_text() == "ended\n"
    waiting = cli.folder / "waiting"
    starts = len(waiting.read_text().splitlines()) if waiting.exists() else 0
    attempts = data["plan"]["attempts"]
    print(f"seed {SEED}: {len(stages)} kills, {attempts} attempts, A.2 ran {starts} times")
    assert starts <= attempts - 2
    assert attempts > 3, "no session was cut off"
