"""The head of the cluster dies: its GCS alone, or everything at one moment, as when the power fails.

The GCS comes back on its tables, and nobody notices. After a power cut the plans go on from PostgreSQL;
what ran is recorded as lost, once, before it runs again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store.embedded import attach
from orchestrator.workspace.launcher_main import descendants, living_processes
from tests.support.command_line import CommandLine, running_stack
from tests.support.extent import EXTENT, IS_FULL, only_in_full
from tests.support.history import EffectLog, check_history
from tests.support.host import is_alive, kill, pid_of, pids_of, postmaster_pid, wait_until
from tests.support.rows import Rows

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(600)]

#: For what has no event to wait for, on a machine with other work.
WAIT_S = 120.0

GCS_KILLS = 5
ACTORS = ("ray::Scheduler", "ray::Pools", "ray::Executor")

#: The first attempt does not end by itself, the second at once.
STUCK_ONCE = "test $ORCHESTRATOR_ATTEMPT -gt 1 || sleep 300"


@pytest.fixture
def cli() -> Iterator[CommandLine]:
    with running_stack(is_contained=False) as found:  # its sessions tell their pids
        yield found


@pytest.fixture
def effects(cli: CommandLine) -> EffectLog:
    return EffectLog(cli.folder)


def submit(cli: CommandLine, name: str, line: str, *, tasks: int) -> int:
    """Hand in a plan of independent tasks, and one that needs them all; return its id."""
    items = [f"- [ ] **T.{n}** Task {n}\n  - run: `{line}`" for n in range(1, tasks + 1)]
    needs = ", ".join(f"T.{n}" for n in range(1, tasks + 1))
    last = f"- [ ] **T.{tasks + 1}** Last\n  - depends: {needs}\n  - run: `true`"
    plan = cli.plan("\n".join([f"# {name}\n", *items, last, ""]), f"{name}.md")
    return int(cli.data("submit", str(plan))["plan_id"])


def rows_of(cli: CommandLine) -> Rows:
    """Look at the tables of the stack that is up now."""
    address = attach(cli.home)
    assert address is not None, cli.log()
    return Rows(address.urls())


def wait_for_starts(effects: EffectLog, count: int) -> None:
    """Wait until so many sessions have told of their start."""
    wait_until(
        lambda: sum(effect.edge == "start" for effect in effects.read()) == count,
        timeout_s=WAIT_S,
        what=f"{count} sessions run",
    )


def wait_for_plans(rows: Rows, plan_ids: list[int]) -> float:
    """Wait until all of these plans are done; return how long it took."""
    return wait_until(
        lambda: (
            rows.column("SELECT count(*) FROM plans WHERE state = 'done' AND id = ANY(%s)", plan_ids)
            == [len(plan_ids)]
        ),
        timeout_s=WAIT_S,
        what=f"plans {plan_ids} are done",
    )


def attempts(rows: Rows, plan_id: int) -> list[tuple[int, str]]:
    """Return (number, state) of the attempts of a plan, by task."""
    query = "SELECT number, state FROM attempts WHERE plan_id = %s ORDER BY task_id, number"
    return [(row["number"], row["state"]) for row in rows.all(query, plan_id)]


def cut_power(cli: CommandLine) -> int:
    """End every process of the stack and of its sessions, none of which learns of another's end."""
    roots = {*cli.processes(), postmaster_pid(cli.home)}
    pids = roots | {process.pid for process in descendants(roots, living_processes())}
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    wait_until(lambda: not any(map(is_alive, pids)), timeout_s=WAIT_S, what="nothing runs any more")
    return len(pids)


def test_after_a_power_cut_every_plan_goes_on_and_what_ran_is_lost_once(
    cli: CommandLine, effects: EffectLog
) -> None:
    plans, tasks = (4, 4) if IS_FULL else (2, 3)
    ids = [submit(cli, f"cut-{n}", effects.line(STUCK_ONCE), tasks=tasks) for n in range(plans)]
    wait_for_starts(effects, plans * tasks)
    killed = cut_power(cli)
    start_s = time.monotonic()
    cli.run("up")
    rows = rows_of(cli)
    wait_for_plans(rows, ids)
    took_s = time.monotonic() - start_s
    for plan_id in ids:
        assert attempts(rows, plan_id) == [(1, "lost"), (2, "succeeded")] * tasks + [(1, "succeeded")]
    history = check_history(_service_url(cli), effects=effects)
    print(
        f"{EXTENT}: {killed} processes killed at once, all plans done {took_s:.1f} s after the order to "
        f"start again: {history.summary}"
    )


@only_in_full
def test_a_gcs_that_is_killed_again_and_again_costs_no_session(cli: CommandLine, effects: EffectLog) -> None:
    go = Path(cli.folder) / "go"
    waiting = submit(cli, "waiting", effects.line(f"while ! test -e {go}; do sleep 0.1; done"), tasks=10)
    wait_for_starts(effects, 10)
    actors = {words: pids_of(cli, words) for words in ACTORS}
    busy = []
    for n in range(GCS_KILLS):
        busy.append(submit(cli, f"busy-{n}", effects.line("sleep 0.3"), tasks=12))
        gcs = pid_of(cli, "/gcs_server ")
        kill(gcs)
        wait_until(
            lambda gcs=gcs: any(pid != gcs for pid in pids_of(cli, "/gcs_server ")),
            timeout_s=WAIT_S,
            what="the GCS is back",
        )
    rows = rows_of(cli)
    wait_for_plans(rows, busy)
    assert attempts(rows, waiting) == [(1, "started")] * 10
    for words, pids in actors.items():
        assert set(pids) <= set(pids_of(cli, words))
    go.touch()
    wait_for_plans(rows, [waiting])
    history = check_history(_service_url(cli), effects=effects)
    assert {attempt.state for attempt in history.attempts.values()} == {"succeeded"}
    print(f"{EXTENT}: GCS killed {GCS_KILLS} times: {history.summary}")


def _service_url(cli: CommandLine) -> str:
    address = attach(cli.home)
    assert address is not None, cli.log()
    return address.urls().service
