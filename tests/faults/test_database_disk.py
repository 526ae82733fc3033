"""Disks of the database that are slow, that fail, and that are full."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from orchestrator.errors import EnvironmentFault
from tests.support.extent import EXTENT, IS_FULL, seed
from tests.support.history import EffectLog, check_history
from tests.support.host import wait_until
from tests.support.load import Load, assert_each_ran_once, load
from tests.support.own_server import OwnServer, own_server
from tests.support.postgres import private_home
from tests.support.rows import Rows
from tests.support.service_process import ServiceProcess, service_process
from tests.support.slow_disk import injected, require_strace
from tests.support.small_disk import filled, small_disk

pytestmark = [pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(600)]

LASTS_S = 60.0 if IS_FULL else 3.0

#: Requests at once, of which only so many may wait for the scheduler.
AT_ONCE, INBOX_MAX = 40, 3

EVENTS_OF_BATCHES = "SELECT sum(cardinality(types)) FROM event_batches WHERE last_seq > %s GROUP BY xmin"


def test_a_slow_disk_makes_batches_larger_and_a_failing_one_costs_a_restart() -> None:
    """50 ms a flush: batches grow, requests beyond the bound get 429, leases hold. Then a flush fails."""
    require_strace()
    number = seed()
    with (
        own_server() as server,
        service_process(server, settings={"limits": {"inbox_max": INBOX_MAX}}) as service,
    ):
        effects = EffectLog(server.home)
        with load(service, effects, seed=number, clients=3, pause_s=0.2) as clients:
            time.sleep(LASTS_S)
            quick, seq = _batches(server, after=0)
            with injected(server, "delay_exit=50000", log=server.home / "slow.log", follow=True):
                time.sleep(LASTS_S)
                statuses = _ask_too_fast(service, clients)
                slow, seq = _batches(server, after=seq)
            with injected(server, "error=EIO", log=server.home / "failing.log", follow=False):
                wait_until(lambda: _has_panicked(server), timeout_s=60, what="PostgreSQL gives up")
            service.await_ready()
        clients.await_done()
        history = check_history(server.urls.service, effects=effects, acknowledged=clients.acknowledged)
    print(f"{EXTENT}: seed {number}, events a batch {quick:.1f}, then {slow:.1f} with 50 ms a flush")
    print(
        f"  {AT_ONCE} requests at once {dict(statuses)}, answers {dict(clients.statuses)}, {history.summary}"
    )
    assert slow > quick or not IS_FULL, "batches did not grow"  # too short to tell on a busy machine
    assert statuses[429]
    assert_each_ran_once(history)


def _batches(server: OwnServer, *, after: int) -> tuple[float, int]:
    """Return the mean number of events in a batch since a seq, once there is one, and the last seq."""
    rows = Rows(server.urls)
    last = "SELECT coalesce(max(seq), 0) FROM events"
    wait_until(lambda: rows.column(last)[0] > after, timeout_s=60, what="a batch is committed")
    sizes = rows.column(EVENTS_OF_BATCHES, after)
    return sum(sizes) / len(sizes), rows.column(last)[0]


def _ask_too_fast(service: ServiceProcess, clients: Load) -> Counter[int]:
    """Have plans go on that go on anyhow, all at once; return how often each status was the answer."""
    plans = [told.plan_id for told in clients.acknowledged]

    def resume(n: int) -> int:
        answer = service.ask("POST", f"/api/v1/plans/{plans[n % len(plans)]}/resume")
        assert answer.status in (200, 409) or answer.retry_after, answer
        return answer.status

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return Counter(pool.map(resume, range(AT_ONCE)))


def _has_panicked(server: OwnServer) -> bool:
    return "PANIC:" in (server.home / "logs" / "postgres.log").read_text(errors="replace")


@pytest.fixture
def disk() -> Iterator[Path]:
    """A folder on a disk of its own that holds a database and not much more."""
    folder = private_home()
    with small_disk(folder, size="256m"):
        yield folder
    folder.rmdir()


@pytest.fixture
def home() -> Iterator[Path]:
    folder = private_home()
    yield folder
    shutil.rmtree(folder)


def test_a_full_disk_of_the_database_refuses_writes_and_loses_none(disk: Path, home: Path) -> None:
    """First tables cannot grow, then PostgreSQL gives up and does not start; with space it goes on."""
    number = seed()
    with own_server(disk) as server, service_process(server, home=home) as service:
        effects = EffectLog(home)
        with load(service, effects, seed=number, padding=30_000) as clients:
            wait_until(lambda: bool(clients.acknowledged), timeout_s=60, what="a plan is taken")
            with filled(disk):
                wait_until(lambda: clients.statuses[503] > 0, timeout_s=60, what="a write is refused")
                _use_up_the_log(server)
                refused = clients.statuses[503]
                wait_until(lambda: clients.statuses[503] > refused, timeout_s=60, what="all is refused")
                with pytest.raises(EnvironmentFault):
                    server.start()
            server.start()
            taken = len(clients.acknowledged)
            wait_until(lambda: len(clients.acknowledged) > taken, timeout_s=60, what="a plan is taken again")
        clients.await_done()
        history = check_history(server.urls.service, effects=effects, acknowledged=clients.acknowledged)
    print(f"{EXTENT}: seed {number}, answers {dict(clients.statuses)}, {history.summary}")
    assert_each_ran_once(history)


def _use_up_the_log(server: OwnServer) -> None:
    """Have PostgreSQL need another file for its write-ahead log until there is none, of which it dies."""
    deadline_s = time.monotonic() + 60
    while server.is_alive():
        assert time.monotonic() < deadline_s, "PostgreSQL lives on a full disk"
        with contextlib.suppress(psycopg.Error), psycopg.connect(server.urls.admin, autocommit=True) as admin:
            for _ in range(20):
                admin.execute("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000))")
                admin.execute("SELECT pg_switch_wal()")
        time.sleep(0.05)


def test_a_full_disk_of_the_logs_stops_nothing(home: Path) -> None:
    """What cannot be told is left out; the service goes on, also when there is much to tell."""
    number = seed()
    logs = home / "logs"
    logs.mkdir()
    with (
        small_disk(logs, size="1m"),
        own_server() as server,
        service_process(server, home=home) as service,
    ):
        effects = EffectLog(home)
        with filled(logs), load(service, effects, seed=number) as clients:
            wait_until(lambda: bool(clients.acknowledged), timeout_s=60, what="a plan is taken")
            server.kill()
            wait_until(lambda: clients.statuses[503] > 0, timeout_s=60, what="the database is missed")
            server.start()
            taken = len(clients.acknowledged)
            wait_until(lambda: len(clients.acknowledged) > taken, timeout_s=60, what="a plan is taken again")
        clients.await_done()
        history = check_history(server.urls.service, effects=effects, acknowledged=clients.acknowledged)
    print(f"{EXTENT}: seed {number}, answers {dict(clients.statuses)}, {history.summary}")
    assert_each_ran_once(history)
