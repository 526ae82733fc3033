"""The wall clocks of scheduler and executors jump by an hour, against each other: nobody acts on them.

Leases and timeouts count by monotonic clocks, back-off by the database's time at the start of the term, and
order is that of sequences. The database's own clock is right all the time.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.actor_stack import ActorStack
from tests.support.cluster_stack import cluster_stack
from tests.support.extent import EXTENT, only_in_full
from tests.support.history import EffectLog, check_history
from tests.support.host import wait_until
from tests.support.rows import Rows
from tests.support.wall_clock import WallClock

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(600)]

HOUR_S = 3600
TTL_S, GRACE_S, BACKOFF_S = 10, 2, 5
SETTINGS = {
    "retry": {"backoff_ms": [BACKOFF_S * 1000], "jitter": 0},
    "leases": {"ttl_s": TTL_S, "beat_s": 1, "margin_s": 2, "grace_s": GRACE_S},
    "sessions": {"grace_s": 0.5, "total_timeout_s": 600},
    "logging": {"level": "warning"},
}

#: For what has no event to wait for, on a machine with other work; far less than the jump.
WAIT_S = 120.0


@pytest.mark.parametrize(
    "hours", [pytest.param((-1, 1), id="apart"), pytest.param((1, -1), id="across", marks=only_in_full)]
)
def test_nothing_expires_early_or_is_retried_late_when_clocks_jump(
    home: Path, hours: tuple[int, int]
) -> None:
    of_scheduler, of_executors = WallClock(home / "scheduler.clock"), WallClock(home / "executors.clock")
    with cluster_stack(home, SETTINGS, head_environment=of_scheduler.environment) as stack:
        node = stack.do("add_node", {"executor": 2}, of_executors.environment)
        rows, effects = Rows(stack.urls), EffectLog(home)
        go = home / "go"
        line = effects.line(f"while ! test -e {go}; do sleep 0.1; done")
        running = submit(stack, "running", line, tasks=3)
        wait_for_firsts(rows, running, "started", 3)
        retried = submit(stack, "retried", effects.line("test $ORCHESTRATOR_ATTEMPT -gt 1"), tasks=3)
        wait_for_firsts(rows, retried, "failed", 3)
        for clock, by in zip((of_scheduler, of_executors), hours, strict=True):
            clock.shift(by * HOUR_S)
        wait_for_jump(stack, rows, "", hours[0])
        wait_for_jump(stack, rows, node, hours[1])
        wait_for_plan(rows, retried)
        os.kill(stack.do("ping_scheduler", "orchestrator")["pid"], signal.SIGKILL)  # the next starts shifted
        wait_for_beats(rows, TTL_S + GRACE_S + 2)
        assert attempts(rows, running) == [(1, "started")] * 3
        go.touch()
        for plan_id in (running, submit(stack, "afterwards", effects.line(), tasks=3)):
            wait_for_plan(rows, plan_id)
            assert attempts(rows, plan_id) == [(1, "succeeded")] * 3
        assert_times_are_the_database_s(rows)
        pauses_s = pauses(rows, retried)
        assert min(pauses_s) >= BACKOFF_S
        history = check_history(stack.urls.service, effects=effects)
    print(
        f"{EXTENT}: clocks of scheduler and executors {hours} h off, retries of {BACKOFF_S} s back-off after "
        f"{', '.join(f'{pause_s:.1f}' for pause_s in pauses_s)} s: {history.summary}"
    )


def submit(stack: ActorStack, name: str, line: str, *, tasks: int) -> int:
    """Hand in a plan of independent tasks that all run the same line; return its id."""
    items = "".join(f"- [ ] **T.{n}** Task {n}\n  - run: `{line}`\n" for n in range(1, tasks + 1))
    return int(stack.do("submit", f"# Plan\n\n{items}", name, "", "auto"))


def attempts(rows: Rows, plan_id: int) -> list[tuple[int, str]]:
    """Return (number, state) of the attempts of a plan, by task."""
    query = "SELECT number, state FROM attempts WHERE plan_id = %s ORDER BY task_id, number"
    return [(row["number"], row["state"]) for row in rows.all(query, plan_id)]


def wait_for_firsts(rows: Rows, plan_id: int, state: str, count: int) -> None:
    """Wait until so many first attempts of a plan are in a state."""
    wait_until(
        lambda: attempts(rows, plan_id).count((1, state)) == count,
        timeout_s=WAIT_S,
        what=f"{count} attempts are {state}",
    )


def wait_for_plan(rows: Rows, plan_id: int) -> None:
    """Wait until a plan is done."""
    wait_until(
        lambda: rows.column("SELECT state FROM plans WHERE id = %s", plan_id) == ["done"],
        timeout_s=WAIT_S,
        what=f"plan {plan_id} is done",
    )


def wait_for_jump(stack: ActorStack, rows: Rows, node_id: str, hours: int) -> None:
    """Wait until new processes of a node show a clock that is so far from the database's."""

    def off_s() -> float:
        (now_s,) = rows.column("SELECT extract(epoch FROM clock_timestamp())::float8")
        return float(stack.do("clock", node_id)) - now_s

    wait_until(lambda: abs(off_s() - hours * HOUR_S) < WAIT_S, timeout_s=WAIT_S, what="the clock has jumped")


def wait_for_beats(rows: Rows, count: int) -> None:
    """Wait until every lease has been renewed so many times more."""

    def least() -> int:
        return int(rows.column("SELECT coalesce(min(beat), 0) FROM leases")[0])

    wanted = least() + count
    wait_until(lambda: least() >= wanted, timeout_s=WAIT_S, what=f"{count} beats more")


def pauses(rows: Rows, plan_id: int) -> list[float]:
    """Return the time between the end of each task's first attempt and the lease of its second."""
    query = """
    SELECT extract(epoch FROM b.leased_at - a.ended_at)::float8
    FROM attempts AS a JOIN attempts AS b ON b.task_id = a.task_id AND b.number = a.number + 1
    WHERE a.plan_id = %s
    """
    return [float(pause_s) for pause_s in rows.column(query, plan_id)]


def assert_times_are_the_database_s(rows: Rows) -> None:
    """Every moment in the tables is of this test, and events come in the order of time."""
    query = """
    SELECT count(*) FROM attempts
    WHERE NOT (leased_at <= started_at AND started_at <= ended_at AND ended_at <= clock_timestamp()
               AND leased_at > clock_timestamp() - interval '30 minutes')
    """
    assert rows.column(query) == [0]
    order = "SELECT seq FROM events ORDER BY {}, seq"
    assert rows.column(order.format("at")) == rows.column(order.format("seq"))
