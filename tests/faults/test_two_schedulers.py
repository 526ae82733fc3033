"""Two schedulers on one database: one holds the term, the other stands by, and nobody dispatches beside it.

A holder that is frozen, idle or in the middle of a commit, is replaced; thawed, it learns that its term is
over before it writes anything, and stands by in turn.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.support.actor_stack import ActorStack
from tests.support.cluster_stack import cluster_stack
from tests.support.extent import IS_FULL, only_in_full
from tests.support.history import EffectLog, check_history
from tests.support.host import wait_until
from tests.support.own_home import own_home
from tests.support.rows import LOCKED, Rows
from tests.support.stopping import stopped

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(600)]

#: The term may be taken when it has stood still for so long; a transaction of a frozen client ends as soon.
PATIENCE_S = 10.0

#: For what has no event to wait for, on a machine with other work.
WAIT_S = 90.0

#: Cluster id → namespace of its scheduler. Ids tell in the term's row who holds it.
NAMESPACES = {"test": "orchestrator", "other": "elsewhere"}
SETTINGS = {"retry": {"backoff_ms": [100]}, "sessions": {"grace_s": 0.5}, "logging": {"level": "warning"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Both schedulers, and the plans that they work on."""

    stack: ActorStack
    rows: Rows
    effects: EffectLog
    home: Path

    def term(self) -> tuple[int, str]:
        """Return the epoch and the cluster id of its holder."""
        (row,) = self.rows.all("SELECT epoch, cluster_id FROM scheduler_term")
        return row["epoch"], row["cluster_id"]

    def holder(self) -> tuple[int, str]:
        """Return pid and namespace of the scheduler that holds the term."""
        namespace = NAMESPACES[self.term()[1]]
        return int(self.stack.do("ping_scheduler", namespace)["pid"]), namespace

    def submit(self, name: str, work: str, *, tasks: int) -> int:
        """Hand in a plan of independent tasks that all do the same; return its id."""
        items = "".join(
            f"- [ ] **T.{n}** Task {n}\n  - agent: worker\n  - run: `{self.effects.line(work)}`\n"
            for n in range(1, tasks + 1)
        )
        return int(self.stack.do("submit", f"# Plan\n\n{items}", name, "", "auto"))

    def wait_for_plan(self, plan_id: int) -> None:
        """Wait until a plan is done."""
        wait_until(
            lambda: self.rows.column("SELECT state FROM plans WHERE id = %s", plan_id) == ["done"],
            timeout_s=WAIT_S,
            what=f"plan {plan_id} is done",
        )

    def wait_for_starts(self, plan_id: int, count: int) -> None:
        """Wait until the tables show so many sessions of a plan."""
        query = "SELECT count(*) FROM attempts WHERE plan_id = %s AND state = 'started'"
        wait_until(
            lambda: self.rows.column(query, plan_id) == [count], timeout_s=WAIT_S, what=f"{count} sessions"
        )

    def attempts(self, plan_id: int) -> list[tuple[int, str, int]]:
        """Return (number, state, epoch) of the attempts of a plan, by task."""
        query = "SELECT number, state, epoch FROM attempts WHERE plan_id = %s ORDER BY task_id, number"
        return [(row["number"], row["state"], row["epoch"]) for row in self.rows.all(query, plan_id)]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with own_home() as home, cluster_stack(home, SETTINGS) as stack:
        stack.do("add_node", {"executor": 2}, {})
        stack.do("start_scheduler", NAMESPACES["other"], "other")
        effects = home / "effects"
        effects.mkdir()
        yield Pair(stack=stack, rows=Rows(stack.urls), effects=EffectLog(effects), home=home)


def wait_for_takeover(pair: Pair, epoch: int) -> float:
    """Wait until somebody has taken the next term; return how long it took."""
    return wait_until(lambda: pair.term()[0] == epoch + 1, timeout_s=WAIT_S, what="the term is taken")


def wait_for_standby(pair: Pair, namespace: str) -> None:
    """Wait until a thawed scheduler has learned that its term is over."""
    wait_until(
        lambda: pair.stack.do("ping_scheduler", namespace)["state"] == "starting",
        timeout_s=WAIT_S,
        what="the former holder stands by",
    )


def assert_nobody_seizes_the_term(pair: Pair, *, for_s: float) -> None:
    """Watch the term for a while: its holder renews it, and keeps it."""
    term, until_s = pair.term(), time.monotonic() + for_s
    while time.monotonic() < until_s:
        assert pair.term() == term
        time.sleep(0.2)


def test_a_frozen_scheduler_is_replaced_and_stands_by_when_it_thaws(pair: Pair) -> None:
    go = pair.home / "effects" / "go idle"
    running = pair.submit("idle", f"while ! test -e '{go}'; do sleep 0.1; done", tasks=3)
    pair.wait_for_starts(running, 3)
    epoch, _ = pair.term()
    pid, namespace = pair.holder()
    with stopped(pid):
        took_s = wait_for_takeover(pair, epoch)
        meanwhile = pair.submit("meanwhile", "true", tasks=5)
        pair.wait_for_plan(meanwhile)
    wait_for_standby(pair, namespace)
    assert pair.attempts(meanwhile) == [(1, "succeeded", epoch + 1)] * 5
    go.touch()
    pair.wait_for_plan(running)
    assert pair.attempts(running) == [(1, "succeeded", epoch)] * 3
    assert_nobody_seizes_the_term(pair, for_s=3 * PATIENCE_S if IS_FULL else 3.0)
    assert pair.stack.do("ping_scheduler", namespace)["pid"] == pid
    assert_one_epoch_since(pair, epoch + 1)
    print(f"frozen while idle, replaced after {took_s:.1f} s: {told(pair)}")


@only_in_full
def test_what_a_frozen_scheduler_had_sent_to_be_committed_is_written_once_and_its_successor_goes_on(
    pair: Pair,
) -> None:
    """A batch is one message, so the server brings it to its end without the one who sent it."""
    go = pair.home / "effects" / "go mid"
    plan = pair.submit("mid", f"while ! test -e '{go}'; do sleep 0.1; done", tasks=1)
    pair.wait_for_starts(plan, 1)
    epoch, _ = pair.term()
    pid, namespace = pair.holder()
    with psycopg.connect(pair.stack.urls.service) as connection:
        connection.execute("SELECT 1 FROM task_states WHERE plan_id = %s FOR UPDATE", (plan,))
        go.touch()
        wait_until(lambda: pair.rows.column(LOCKED) != [0], timeout_s=WAIT_S, what="a commit waits")
        with stopped(pid):
            connection.rollback()
            took_s = wait_for_takeover(pair, epoch)
            meanwhile = pair.submit("meanwhile mid", "true", tasks=3)
            pair.wait_for_plan(plan)
            pair.wait_for_plan(meanwhile)
    wait_for_standby(pair, namespace)
    assert pair.attempts(plan) == [(1, "succeeded", epoch)]
    ends = "SELECT epoch FROM events WHERE plan_id = %s AND type = 'attempt.ended'"
    assert pair.rows.column(ends, plan) == [epoch]
    assert pair.attempts(meanwhile) == [(1, "succeeded", epoch + 1)] * 3
    assert_one_epoch_since(pair, epoch + 1)
    print(f"frozen in a commit, replaced after {took_s:.1f} s: {told(pair)}")


@only_in_full
def test_two_live_schedulers_never_seize_the_term_from_each_other(pair: Pair) -> None:
    work = [pair.submit(f"steady {n}", "true", tasks=10) for n in range(3)]
    assert_nobody_seizes_the_term(pair, for_s=4 * PATIENCE_S)
    for plan_id in work:
        pair.wait_for_plan(plan_id)
    print(f"two live schedulers for {4 * PATIENCE_S:.0f} s: {told(pair)}")


def assert_one_epoch_since(pair: Pair, epoch: int) -> None:
    """No event and no lease of an earlier term came after the first of this one."""
    query = "SELECT DISTINCT epoch FROM events WHERE seq > (SELECT min(seq) FROM events WHERE epoch = %s)"
    assert pair.rows.column(query, epoch) == [epoch]


def told(pair: Pair) -> str:
    """Check the history so far and return its counts."""
    return check_history(pair.stack.urls.service, effects=pair.effects).summary
