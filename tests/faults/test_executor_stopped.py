"""SIGSTOP of an executor beyond its lease, then SIGCONT: its attempt is lost, whatever it says later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.words import AttemptState
from orchestrator.ports import Outcome, SessionLimits
from orchestrator.store.executors import Beats, ExecutorStore
from orchestrator.store.urls import DatabaseUrls
from orchestrator.workspace import tree
from tests.support.actor_stack import SETTINGS, ActorStack, actor_stack
from tests.support.history import EffectLog, check_history
from tests.support.host import wait_until
from tests.support.rows import Rows
from tests.support.stopping import stopped

pytestmark = [pytest.mark.ray, pytest.mark.postgres, pytest.mark.faults, pytest.mark.timeout(600)]

PATIENCE_S = 90.0

#: Expired after 10 s of standing still; the scheduler looks every 5 s.
LEASES = {"ttl_s": 8.0, "beat_s": 1.0, "margin_s": 2.0, "grace_s": 2.0}

#: The first attempt would never end.
STUCK_ONCE = 'test "$ORCHESTRATOR_ATTEMPT" -gt 1 || exec sleep 300'


@pytest.fixture
def stack(home: Path) -> Iterator[ActorStack]:
    with actor_stack(home, settings={**SETTINGS, "leases": LEASES}) as running:
        yield running


async def what_is_taken(
    urls: DatabaseUrls, attempt: dict[str, Any]
) -> tuple[set[int], dict[int, str | None]]:
    """Store a result and renew the lease as the executor does; return the tokens that were taken."""
    store = ExecutorStore(
        urls.service, executor=attempt["executor"], incarnation="late", node_id="", limits=SessionLimits()
    )
    beats = Beats(urls.service, name="late")
    outcome = Outcome(state=AttemptState.SUCCEEDED, summary="too late")
    try:
        return await store.save_results([(attempt["token"], outcome)]), beats.renew([attempt["token"]])
    finally:
        await store.close()
        beats.close()


async def test_a_stopped_executor_loses_its_attempt_and_cannot_report_it_later(
    home: Path, stack: ActorStack
) -> None:
    rows, effects, records = Rows(stack.urls), EffectLog(home), home / "records"
    plan = f"# Stop\n\n- [ ] **T.1** Stop\n  - agent: worker\n  - run: `{effects.line(STUCK_ONCE)}`\n"
    plan_id = stack.do("submit", plan, "stop", str(home), "auto")

    def attempts() -> list[dict[str, Any]]:
        return rows.all("SELECT token, state, end_reason, executor FROM attempts ORDER BY token")

    wait_until(lambda: bool(effects.read()), timeout_s=PATIENCE_S, what="the session works")
    first = attempts()[0]
    pids = [process.pid for process in tree.members(records, first["token"])]
    pid = int(stack.do("call", first["executor"], "ping")["pid"])
    with stopped(pid):
        took_s = wait_until(
            lambda: attempts()[0]["state"] == "lost", timeout_s=PATIENCE_S, what="the attempt is lost"
        )
        assert attempts()[0]["end_reason"] == "lease expired"
        assert tree.confirm_gone(records, first["token"])
        assert rows.column("SELECT token FROM leases WHERE token = %s", first["token"]) == []
    wait_until(
        lambda: first["token"] not in stack.do("call", first["executor"], "ping")["tokens"],
        timeout_s=PATIENCE_S,
        what="the executor has let go of what is not its own",
    )
    assert await what_is_taken(stack.urls, first) == (set(), {})
    assert rows.column("SELECT end_reason FROM attempts WHERE token = %s", first["token"]) != ["reported"]
    done = "SELECT state FROM plans WHERE id = %s"
    wait_until(lambda: rows.column(done, plan_id) == ["done"], timeout_s=PATIENCE_S, what="the plan is done")
    assert [attempt["state"] for attempt in attempts()] == ["lost", "succeeded"]
    history = check_history(stack.urls.service, effects=effects)
    print(f"stopped: a tree of {len(pids)} was lost and gone after {took_s:.1f} s; {history.summary}")
