"""Calls between actors that Ray loses, answers with an error although they arrive, or delays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.actor_stack import SETTINGS, ActorStack
from tests.support.extent import EXTENT, IS_FULL
from tests.support.faulty_stack import faulty_stack
from tests.support.history import EffectLog, check_history
from tests.support.host import wait_until
from tests.support.plans import threes
from tests.support.rows import Rows

TASKS = 600 if IS_FULL else 60

pytestmark = [
    pytest.mark.ray,
    pytest.mark.postgres,
    pytest.mark.faults,
    pytest.mark.timeout(3000 if IS_FULL else 300),
]

LEASES = {"start_resend_s": 2.0, "start_timeout_s": 6.0}

#: What a start may take beyond the start timeout on a machine that others load.
SLACK_S = 15.0

_WAITS = """
SELECT extract(epoch FROM coalesce(started_at, ended_at) - leased_at)::float8 FROM attempts
"""


@pytest.fixture
def stack(home: Path) -> Iterator[ActorStack]:
    with faulty_stack(home, {**SETTINGS, "leases": LEASES}) as running:
        yield running


def test_no_token_starts_twice_and_none_hangs(home: Path, stack: ActorStack) -> None:
    rows, effects = Rows(stack.urls), EffectLog(home)
    plan_id = stack.do("submit", threes(effects.line(), tasks=TASKS, agents=2), "faults", str(home), "auto")
    over = "SELECT state FROM plans WHERE id = %s AND state <> 'active' AND state <> 'submitted'"
    wait_until(
        lambda: bool(rows.column(over, plan_id)), timeout_s=60.0 + 3.0 * TASKS, what="the plan is over"
    )
    history = check_history(stack.urls.service, effects=effects)
    waits_s = sorted(rows.column(_WAITS))
    resent = sum(wait_s >= LEASES["start_resend_s"] for wait_s in waits_s)
    print(f"{EXTENT}: {resent} starts came only when sent again, the last after {waits_s[-1]:.1f} s")
    print(f"  {history.summary}")
    assert rows.column(over, plan_id) == ["done"]
    assert resent
    assert waits_s[-1] < LEASES["start_timeout_s"] + SLACK_S
