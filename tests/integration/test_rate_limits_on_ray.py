"""A storm of refusals over a whole stack: real actors, real sessions, and a governor that is killed in it."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from actors.options import executor_name, governor_name
from tests.support.actor_stack import ActorStack, actor_stack
from tests.support.host import wait_until
from tests.support.messages_api import API_KEY, MessagesApi, Reply
from tests.support.own_home import own_home
from tests.support.rows import Rows
from tests.support.storm import TURNS, Storm

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.timeout(1500)]

SESSIONS, SLOTS = 50, 16
START_PER_S, WINDOW_S = 10, 5
GOVERNOR = governor_name("anthropic")
PATIENCE_S = 600.0
PLAN = "# Storm\n\n" + "".join(
    f"- [ ] **S.{n}** Look at what is there\n  - agent: looker\n" for n in range(SESSIONS)
)


@pytest.fixture
def storm() -> Storm:
    refusal = Reply(status=429, error_type="rate_limit_error", headers={"retry-after": "1"})
    return Storm(from_request=40, lasts_s=30.0, refusal=refusal, together=SESSIONS)


@pytest.fixture
def stack(storm: Storm) -> Iterator[ActorStack]:
    with MessagesApi(storm) as api, own_home() as home:
        settings = {
            "anthropic": {"api_key": API_KEY, "base_url": api.base_url},
            "governor": {"start_per_s": START_PER_S},
            "limits": {"sessions_max": SESSIONS, "agent_default_max": SESSIONS},
            "leases": {"start_timeout_s": 300.0},
            "pools": {"default": {"slots": SLOTS}},
            "logging": {"level": "warning"},
        }
        with actor_stack(home, settings=settings) as running:
            yield running
        assert api.problems == []


def governor(stack: ActorStack) -> dict[str, Any]:
    (found,) = stack.do("status")["governors"]
    return dict(found)


def test_fifty_sessions_wait_a_storm_out_though_the_governor_dies_in_it(
    stack: ActorStack, storm: Storm, tmp_path: Path
) -> None:
    rows = Rows(stack.urls)
    (tmp_path / "seen.txt").write_text("seen\n")
    plan_id = stack.do("submit", PLAN, "storm", str(tmp_path), "anthropic")
    wait_until(lambda: len(storm.refused) > 3, timeout_s=PATIENCE_S, what="the storm has begun")
    wait_until(lambda: governor(stack)["pause_s"] > 0, timeout_s=PATIENCE_S, what="status tells of the pause")
    assert governor(stack)["refused"] > 0

    first = stack.do("call", GOVERNOR, "ping")["pid"]
    os.kill(first, signal.SIGKILL)
    wait_until(
        lambda: not governor(stack)["is_away"] and stack.do("call", GOVERNOR, "ping")["pid"] != first,
        timeout_s=PATIENCE_S,
        what="there is another governor",
    )
    done = "SELECT count(*) FROM task_states WHERE plan_id = %s AND state = 'done'"
    wait_until(lambda: rows.column(done, plan_id) == [SESSIONS], timeout_s=PATIENCE_S, what="all are done")

    attempts = rows.all("SELECT number, state, executor FROM attempts WHERE plan_id = %s", plan_id)
    states = Counter(row["state"] for row in attempts)
    assert states.pop("succeeded") == SESSIONS
    assert set(states) <= {"lost"}, "where executors get no processor, starts may be late; nothing fails"
    charged = "SELECT sum(attempts_used) FROM task_states WHERE plan_id = %s"
    assert rows.column(charged, plan_id) == [0]
    assert len({row["executor"] for row in attempts}) >= SESSIONS / SLOTS, "one executor has 16 slots"
    assert len(stack.do("names", executor_name("looker", ""))) >= SESSIONS / SLOTS

    begun_s = rows.column(
        "SELECT extract(epoch FROM min(a.started_at) - p.created_at)::float FROM attempts AS a"
        " JOIN plans AS p ON p.id = a.plan_id WHERE p.id = %s GROUP BY a.executor, p.id ORDER BY 1",
        plan_id,
    )
    print(f"executors run sessions after {', '.join(f'{each:.1f} s' for each in begun_s)}")
    print(f"{len(storm.refused)} refused; a second after it {storm.afterwards()}")
    assert len(storm.accepted) >= SESSIONS * TURNS
    assert max(storm.refused) < storm.ends_s
    # What the ramp gives in its first window: with what it holds at its start, and with what executors send
    # each for itself while there is no governor. Late it may be, more it may not be.
    begun = list(accumulate(storm.afterwards()))
    assert all(count <= 1 + START_PER_S * (second + 4) for second, count in enumerate(begun[:WINDOW_S]))
