"""Commits that took place although their sender was told of an error: each is written once all the same."""

from __future__ import annotations

import time

import psycopg
import pytest

from tests.support.commit_proxy import Odds, commit_proxy
from tests.support.extent import EXTENT, IS_FULL, seed
from tests.support.history import EffectLog, check_history
from tests.support.load import assert_each_ran_once, load
from tests.support.own_server import own_server
from tests.support.service_process import service_process

pytestmark = [pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(1200)]

LASTS_S = 600.0 if IS_FULL else 6.0
ODDS = Odds(before=0.005, after=0.01, delayed=0.05) if IS_FULL else Odds(before=0.04, after=0.12, delayed=0.1)
UNKNOWN_COMMITS = "SELECT (value ->> 'unknown_commits')::int FROM orchestrator_state WHERE key = 'scheduler'"


def test_commits_whose_answer_is_lost_are_written_once() -> None:
    """Scheduler, executors and front end reach the database through a proxy that loses answers."""
    number = seed()
    with (
        own_server() as server,
        commit_proxy(server.urls.service, seed=number) as proxy,
        service_process(server, urls=proxy.all_through(server.urls)) as service,
    ):
        effects = EffectLog(server.home)
        with load(service, effects, seed=number) as clients:
            proxy.odds = ODDS
            time.sleep(LASTS_S)
            while not _unknown_commits(server.urls.service):
                time.sleep(0.5)
        clients.await_done()
        resolved = _unknown_commits(server.urls.service)
        history = check_history(server.urls.service, effects=effects, acknowledged=clients.acknowledged)
    commits = {str(fate): count for fate, count in proxy.counts.items()}
    print(f"{EXTENT}: seed {number}, commits {commits}, {resolved} unknown ones looked up")
    print(f"  answers {dict(clients.statuses)}, {history.summary}")
    assert_each_ran_once(history)
    assert len({event.epoch for event in history.events}) == 1, "a term ended: memory and tables disagreed"
    told = [(event.token, event.type) for event in history.events if event.token]
    assert len(told) == len(set(told)), "an event of an attempt was written twice"


def _unknown_commits(url: str) -> int:
    """Return how many unknown outcomes the scheduler had looked up when it last wrote how it goes."""
    with psycopg.connect(url) as connection:
        (count,) = connection.execute(UNKNOWN_COMMITS).fetchone() or (0,)
    return int(count)
