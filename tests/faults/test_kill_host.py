"""Real kills of the Host, its guard and each of its children, in mid-plan: the plan ends, nothing is left."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from orchestrator.store.embedded import attach
from tests.support.command_line import CommandLine, own_command_line
from tests.support.host import (
    LONG_PLAN,
    RunningHost,
    is_alive,
    kill,
    pid_of,
    pids_of,
    postmaster_pid,
    running_host,
    wait_until,
)

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(600)]

#: After SIGKILL of the Host or its guard, on a machine with other work.
GONE_MAX_S = 40.0

#: For what is started again.
BACK_MAX_S = 60.0


@pytest.fixture
def cli() -> Iterator[CommandLine]:
    with own_command_line() as found:
        yield found


def in_mid_plan(host: RunningHost) -> None:
    """Hand the plan in and wait until the command of its second task runs, a moment after its start row."""
    host.submit(LONG_PLAN)
    host.hear_event("attempt.started", "A.2")
    wait_until((host.cli.folder / "waiting").exists, timeout_s=BACK_MAX_S, what="the command runs")


def end_plan(host: RunningHost) -> None:
    """Give the word and see every task done, the last one once."""
    (host.cli.folder / "word").touch()
    assert host.hear_kind("ended", timeout_s=240)["plan"]["tasks"] == {"done": 3}
    assert (host.cli.folder / "ended").read_text() == "ended\n"


def starts(cli: CommandLine) -> int:
    """How often the second task was started."""
    return len((cli.folder / "waiting").read_text().splitlines())


def test_a_killed_host_takes_all_down_and_the_next_start_goes_on(cli: CommandLine) -> None:
    with running_host(cli) as host:
        in_mid_plan(host)
        postmaster = postmaster_pid(cli.home)
        kill(host.stack().pid)
        took_s = wait_until(lambda: not cli.processes(), timeout_s=GONE_MAX_S, what="no process is left")
        assert not is_alive(postmaster)
        log = (cli.home / "logs" / "postgres.log").read_text()
        assert "received fast shutdown request" in log
        assert log.rstrip().endswith("database system is shut down")
        assert host.wait() == 128 + signal.SIGKILL, took_s
    with running_host(cli) as host:
        host.submit(LONG_PLAN)
        assert not host.hear_kind("submitted")["is_new"]
        end_plan(host)
    assert starts(cli) == 2
    cli.assert_nothing_is_left()


def test_a_killed_guard_lets_the_host_stop_in_good_order(cli: CommandLine) -> None:
    with running_host(cli) as host:
        in_mid_plan(host)
        pid = host.stack().pid
        kill(host.process.pid)
        wait_until(lambda: not is_alive(pid), timeout_s=GONE_MAX_S, what="the Host has ended")
        wait_until(lambda: not cli.processes(), timeout_s=GONE_MAX_S, what="no process is left")
    assert not (cli.home / "stack.json").exists()


def test_killed_one_by_one_gcs_postgres_and_scheduler_come_back_and_the_session_goes_on(
    cli: CommandLine,
) -> None:
    with running_host(cli) as host:
        in_mid_plan(host)
        actors = {words: pids_of(cli, words) for words in ("ray::Scheduler", "ray::Pools", "ray::Executor")}
        kill_gcs(cli)
        assert {words: pids_of(cli, words) for words in actors} == actors
        kill_postgres(cli)
        kill_scheduler(cli)
        assert pids_of(cli, "ray::Executor") == actors["ray::Executor"]
        end_plan(host)
    assert starts(cli) == 1
    cli.assert_nothing_is_left()


def kill_gcs(cli: CommandLine) -> None:
    gcs = pid_of(cli, "/gcs_server ")
    kill(gcs)
    wait_until(
        lambda: any(pid != gcs for pid in pids_of(cli, "/gcs_server ")),
        timeout_s=BACK_MAX_S,
        what="the GCS is back",
    )


def kill_postgres(cli: CommandLine) -> None:
    """Kill it and see it back on its port."""
    postmaster = postmaster_pid(cli.home)
    port = attach(cli.home).port
    kill(postmaster)
    wait_until(
        lambda: not is_alive(postmaster) and attach(cli.home) is not None,
        timeout_s=BACK_MAX_S,
        what="PostgreSQL answers again",
    )
    assert attach(cli.home).port == port


def kill_scheduler(cli: CommandLine) -> None:
    scheduler = pid_of(cli, "ray::Scheduler")
    kill(scheduler)
    wait_until(
        lambda: any(pid != scheduler for pid in pids_of(cli, "ray::Scheduler")),
        timeout_s=BACK_MAX_S,
        what="there is another scheduler",
    )


def test_a_killed_raylet_costs_the_sessions_but_not_the_plan(cli: CommandLine) -> None:
    with running_host(cli) as host:
        in_mid_plan(host)
        scheduler = pid_of(cli, "ray::Scheduler")
        kill(pid_of(cli, "/raylet/raylet "))
        wait_until(lambda: not is_alive(scheduler), timeout_s=GONE_MAX_S, what="the old scheduler has ended")
        end_plan(host)
    cli.assert_nothing_is_left()
