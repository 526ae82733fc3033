"""The database is away for less than a lease: no session ends by it, and what ended meanwhile is recorded.

Away means frozen: connections stay open and answer nothing, which is harder to notice than a server that has
gone. In full the leases and the outage are those of a real stack.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.workspace.launcher_main import descendants, living_processes
from tests.support.actor_stack import SETTINGS, ActorStack, actor_stack
from tests.support.extent import EXTENT, IS_FULL
from tests.support.history import EffectLog, check_history
from tests.support.host import postmaster_pid, wait_until
from tests.support.own_home import own_home
from tests.support.rows import Rows
from tests.support.stopping import stopped

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(600)]

PATIENCE_S = 120.0

#: More requests than Ray lets into an actor at a time.
FLOOD = 1_200

#: A lease is trusted for `ttl_s` less `margin_s` from its last beat, which may be `beat_s` old already.
LEASES: dict[str, float] = (
    {"ttl_s": 120.0, "beat_s": 15.0, "margin_s": 15.0, "grace_s": 10.0}
    if IS_FULL
    else {"ttl_s": 20.0, "beat_s": 2.0, "margin_s": 2.0, "grace_s": 4.0}
)
OUTAGE_S = 85.0 if IS_FULL else LEASES["ttl_s"] / 2

#: T.1 ends while the database is away, T.2 after it; T.3 runs when both are done.
PLAN = """# Outage

- [ ] **T.1** Ends meanwhile
  - run: `{short}`
- [ ] **T.2** Ends later
  - run: `{long}`
- [ ] **T.3** Comes after
  - depends: T.1, T.2
  - run: `{after}`
"""


@contextmanager
def frozen_database(home: Path) -> Iterator[None]:
    """Freeze every process of the server of a home."""
    postmaster = postmaster_pid(home)
    with stopped(postmaster, *(one.pid for one in descendants({postmaster}, living_processes()))):
        yield


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with own_home() as folder:
        yield folder


@pytest.fixture(scope="module")
def stack(home: Path) -> Iterator[ActorStack]:
    with actor_stack(home, settings={**SETTINGS, "leases": LEASES}) as running:
        yield running


def test_a_database_that_is_away_for_less_than_a_lease_ends_no_session(home: Path, stack: ActorStack) -> None:
    folder = home / "effects"
    folder.mkdir()
    effects = EffectLog(folder)
    wait = "while ! test -e {}; do sleep 0.1; done"
    plan = PLAN.format(
        short=effects.line(wait.format(folder / "short")),
        long=effects.line(wait.format(folder / "long")),
        after=effects.line(),
    )
    rows = Rows(stack.urls)
    plan_id = stack.do("submit", plan, "outage", "", "auto")
    wait_until(lambda: len(effects.read()) == 2, timeout_s=PATIENCE_S, what="both sessions run")
    executor = stack.do("call", "pools", "ping")["executors"][0]
    pid = stack.do("call", executor, "ping")["pid"]
    with frozen_database(home):
        away_s = time.monotonic()
        (folder / "short").touch()
        wait_until(lambda: len(effects.read()) == 3, timeout_s=PATIENCE_S, what="one session has ended")
        time.sleep(max(0.0, OUTAGE_S - (time.monotonic() - away_s)))
        assert stack.do("call", executor, "ping")["pid"] == pid
    away_s = time.monotonic() - away_s
    (folder / "long").touch()
    wait_until(
        lambda: rows.column("SELECT state FROM plans WHERE id = %s", plan_id) == ["done"],
        timeout_s=PATIENCE_S,
        what="the plan is done",
    )
    ended = rows.all("SELECT number, state FROM attempts WHERE plan_id = %s ORDER BY task_id", plan_id)
    history = check_history(stack.urls.service, effects=effects)
    print(f"{EXTENT}: away for {away_s:.1f} s, leases of {LEASES['ttl_s']:.0f} s: {history.summary}")
    assert ended == [{"number": 1, "state": "succeeded"}] * 3


def test_requests_that_wait_for_the_database_leave_room_for_reports_and_pings(
    home: Path, stack: ActorStack
) -> None:
    plan_id = stack.do("submit", "# Idle\n\n- [ ] **T.1** Wait\n  - manual: wait\n", "idle", "", "auto")
    wait_until(
        lambda: Rows(stack.urls).column("SELECT state FROM plans WHERE id = %s", plan_id) != ["submitted"],
        timeout_s=PATIENCE_S,
        what="the plan is taken",
    )
    with frozen_database(home):
        answer = stack.do("flood", "pause_plan", {"plan_id": plan_id}, FLOOD)
    assert "QueueFull: 500 requests wait already" in answer["refusal"]
    assert answer["state"] == "ready"
