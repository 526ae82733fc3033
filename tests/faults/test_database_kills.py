"""PostgreSQL killed again and again under load: nothing that was acknowledged is lost, nothing runs twice."""

from __future__ import annotations

import random
import time

import pytest

from tests.support.extent import EXTENT, IS_FULL, seed
from tests.support.history import EffectLog, check_history
from tests.support.load import assert_each_ran_once, load
from tests.support.own_server import own_server
from tests.support.service_process import service_process

pytestmark = [pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(1200)]

LASTS_S = 600.0 if IS_FULL else 10.0
UP_S = (5.0, 40.0) if IS_FULL else (1.0, 3.0)
DOWN_S = (0.0, 30.0) if IS_FULL else (0.0, 3.0)


def test_a_database_that_is_killed_all_the_time_costs_nothing_but_time() -> None:
    """Every outage is shorter than a lease, so no session ends by one."""
    number = seed()
    dice = random.Random(number)
    kills, away_s = 0, 0.0
    leases = {"ttl_s": 120.0, "margin_s": 15.0} if IS_FULL else {}
    with own_server() as server, service_process(server, settings={"leases": leases}) as service:
        effects = EffectLog(server.home)
        with load(service, effects, seed=number) as clients:
            over_s = time.monotonic() + LASTS_S
            while time.monotonic() < over_s:
                time.sleep(dice.uniform(*UP_S))
                server.kill()
                killed_s = time.monotonic()
                time.sleep(dice.uniform(*DOWN_S))
                server.start()
                kills, away_s = kills + 1, away_s + time.monotonic() - killed_s
        clients.await_done()
        history = check_history(server.urls.service, effects=effects, acknowledged=clients.acknowledged)
    print(f"{EXTENT}: seed {number}, {kills} kills, {away_s:.0f} s away, answers {dict(clients.statuses)}")
    print(f"  {history.summary}")
    assert clients.statuses[503], "no client met an outage"
    assert_each_ran_once(history)
