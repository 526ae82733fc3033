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

#: `A.3` waits too, until somebody makes the file `last-word`.
LONGER_PLAN = LONG_PLAN.replace(
    "- [ ] **A.3** End\n  - depends: A.2\n",
    """- [ ] **A.3** Wait for the last word
  - depends: A.2
  - run: `echo $$ >> waiting-again; while ! test -e last-word; do sleep 0.1; done`
- [ ] **A.4** End
  - depends: A.3
""",
)


@pytest.fixture
def cli() -> Iterator[CommandLine]:
    with own_command_line() as found:
        yield found


def in_mid_plan(host: RunningHost, plan: str = LONG_PLAN) -> None:
    """Hand the plan in and wait until the command of its second task runs, a moment after its start row."""
    host.submit(plan)
    host.hear_event("attempt.started", "A.2")
    wait_until((host.cli.folder / "waiting").exists, timeout_s=BACK_MAX_S, what="the command runs")


def end_plan(host: RunningHost, word: str = "word", *, tasks: int = 3) -> None:
    """Give the word and see every task done, the last one once."""
    (host.cli.folder / word).touch()
    assert host.hear_kind("ended", timeout_s=240)["plan"]["tasks"] == {"done": tasks}
    assert (host.cli.folder / "ended").read_text() == "ended\n"


def starts(cli: CommandLine, told: str = "waiting") -> int:
    """How often the task was started that tells of it in this file."""
    return len((cli.folder / told).read_text().splitlines())


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


def test_what_is_killed_one_by_one_comes_back_and_only_the_raylet_costs_the_session(cli: CommandLine) -> None:
    with running_host(cli) as host:
        in_mid_plan(host, LONGER_PLAN)
        actors = {words: pids_of(cli, words) for words in ("ray::Scheduler", "ray::Pools", "ray::Executor")}
        kill_gcs(cli)
        assert {words: pids_of(cli, words) for words in actors} == actors
        kill_postgres(cli)
        kill_scheduler(cli)
        assert pids_of(cli, "ray::Executor") == actors["ray::Executor"]
        (cli.folder / "word").touch()
        host.hear_event("task.done", "A.2")
        assert starts(cli) == 1
        wait_until((cli.folder / "waiting-again").exists, timeout_s=BACK_MAX_S, what="the next one runs")
        kill_raylet(cli)
        end_plan(host, "last-word", tasks=4)
    assert starts(cli) == 1
    assert starts(cli, "waiting-again") == 2
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


def kill_raylet(cli: CommandLine) -> None:
    """Kill it and see all actors end with it: until then a session may still end, and tell of it."""
    actors = [pid_of(cli, "ray::Scheduler"), *pids_of(cli, "ray::Executor")]
    kill(pid_of(cli, "/raylet/raylet "))
    wait_until(lambda: not any(map(is_alive, actors)), timeout_s=GONE_MAX_S, what="the old actors have ended")
