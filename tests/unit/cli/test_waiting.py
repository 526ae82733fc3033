"""Why a task does not run now: every reason is told, with what a person can do about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.cli.waiting import governor_line, why_waiting
from orchestrator.status_views import BudgetView, GovernorView, LimitView, PoolView, StatusView
from orchestrator.views import AttemptView, DependencyView, PlanView, TaskDetail

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _task(state: str = "ready", **fields: Any) -> TaskDetail:
    given: dict[str, Any] = {
        "id": 1, "plan_id": 1, "key": "A.1", "parent_key": "", "kind": "leaf", "title": "Do it",
        "state": state, "reason": "", "agent_type": "coder", "priority": 2, "unmet_dependencies": 0,
        "not_before": None, "attempts_used": 0, "losses": 0, "line": 3, "body": "", "acceptance": (),
        "run": (), "verify": (),
        "manual": "", "approve": "", "estimate_ms": None, "task_type": "", "domain": "", "routing_rule": "",
        "routing_evidence": "", "depends_on": (), "dependents": (), "attempts": (),
    }  # fmt: skip
    return TaskDetail(**{**given, **fields})


def _plan(state: str = "active") -> PlanView:
    return PlanView(
        id=1, name="Ship it", title="", format="coditect", state=state, backend="auto", workdir="",
        tasks_total=1, tasks={}, agent_types=(), attempts=0, input_tokens=0, output_tokens=0, cost_micros=0,
        budget_micros=0, eta_s=None, created_at=AT, ended_at=None, read_at=AT, last_seq=0,
    )  # fmt: skip


def _pool(**fields: Any) -> PoolView:
    return PoolView(
        **{"agent_type": "coder", "executors": 1, "slots": 2, "running": 0, "queued": 1, **fields}
    )


def _limit(scope: str, name: str = "", *, live: int = 2) -> LimitView:
    return LimitView(scope=scope, name=name, live=live, sessions_max=2, is_set=True)


def _status(*pools: PoolView, **fields: Any) -> StatusView:
    given = {"version": "1", "epoch": 1, "is_ready": True, "uptime_s": 1.0, "sessions_max": 2, "sessions": 0}
    return StatusView(**{**given, "plans": {}, "tasks": {}, "pools": pools, "backend_note": "", **fields})


def _attempt(kind: str, state: str) -> AttemptView:
    return AttemptView(
        token=1, number=1, kind=kind, agent_type="coder", backend="command", executor="e", state=state,
        end_reason="", failure_class=None, summary="", exit_code=None, input_tokens=0, output_tokens=0,
        cost_micros=0, leased_at=AT, started_at=None, ended_at=None,
    )  # fmt: skip


def _edge(key: str, state: str, kind: str = "blocks") -> DependencyView:
    return DependencyView(
        key=key, title=f"Title {key}", state=state, kind=kind, is_explicit=True, evidence=""
    )


IDLE = _status(_pool())
SPENT = _status(
    _pool(),
    budgets=(
        BudgetView(
            scope="day", name="", spent_micros=4_000_000, reserved_micros=1_000_000, budget_micros=5_000_000,
            is_short=True,
        ),
    ),
)  # fmt: skip
OPEN = _status(_pool(breaker="open", breaker_failures=5, breaker_probe_in_s=40.0))


@pytest.mark.parametrize(
    ("task", "plan", "status", "reason", "remedy"),
    [
        (
            _task("held", reason="approval"),
            _plan(),
            IDLE,
            "approval",
            "orchestrator approve A.1 --plan 'Ship it'",
        ),
        (_task("held", reason="budget"), _plan(), IDLE, "budget", "orchestrator budget 'Ship it' USD"),
        (_task("held", reason="no progress"), _plan(), IDLE, "progress", "orchestrator budget 'Ship it' USD"),
        (_task(), _plan(), SPENT, "the day bears no more: $4.00 of $5.00 spent", "--day-budget USD"),
        (_task("failed", reason="out of attempts"), _plan(), IDLE, "out of attempts", "orchestrator retry"),
        (_task(), _plan("paused"), IDLE, "its plan is paused", "orchestrator resume 'Ship it'"),
        (_task(), _plan("submitted"), IDLE, "the scheduler has not taken its plan", ""),
        (
            _task(),
            _plan(),
            _status(_pool(), is_paused=True, pause_reason="the disk is full"),
            "everything is paused (the disk is full)",
            "orchestrator resume --all",
        ),
        (
            _task(),
            _plan(),
            _status(_pool(), is_ready=False),
            "the scheduler is starting",
            "orchestrator status",
        ),
        (
            _task(),
            _plan(),
            OPEN,
            "the breaker of coder is open: 5 tasks failed",
            "see why tasks of coder fail",
        ),
        (_task(), _plan(), OPEN, "in 40 s one probe may run, and decides", ""),
        (
            _task(),
            _plan(),
            _status(_pool(), limits=[_limit("total")]),
            "limit is reached: 2 of 2",
            "--total N",
        ),
        (
            _task(),
            _plan(),
            _status(_pool(), limits=[_limit("agent", "coder")]),
            "the limit of coder is reached",
            "orchestrator limits --agent coder=N",
        ),
        (
            _task(),
            _plan(),
            _status(_pool(), limits=[_limit("plan", "1")]),
            "the limit of its plan is reached",
            "orchestrator limits --plan 'Ship it'=N",
        ),
        (_task(), _plan(), _status(), "no executor of coder is there yet", ""),
        (
            _task(),
            _plan(),
            _status(_pool(executors=0, waits_for="2 CPUs")),
            "no executor of coder is there: 2 CPUs",
            "",
        ),
        (_task(), _plan(), _status(_pool(running=2)), "all 2 slots of coder are taken", ""),
        (_task(not_before=AT), _plan(), IDLE, "it is tried again at ", ""),
        (_task(), _plan(), IDLE, "others come first: 1 task of coder may start now", ""),
    ],
)
def test_each_reason_is_told_with_its_remedy(
    task: TaskDetail, plan: PlanView, status: StatusView, reason: str, remedy: str
) -> None:
    (wait,) = why_waiting(task, plan=plan, status=status)
    assert reason in wait.reason
    assert remedy in wait.remedy


def test_a_waiting_task_names_what_it_waits_for() -> None:
    edges = (
        _edge("B.1", "done"),
        _edge("B.2", "failed"),
        _edge("B.3", "running"),
        _edge("B.4", "ready", "informs"),
    )
    waits = why_waiting(_task("waiting", depends_on=edges), plan=_plan(), status=IDLE)
    assert [wait.reason for wait in waits] == ["B.2 is failed: Title B.2", "B.3 is running: Title B.3"]
    assert [wait.remedy for wait in waits] == [
        "`orchestrator retry B.2 --plan 'Ship it'`, or `orchestrator skip` it",
        "",
    ]
    many = tuple(_edge(f"C.{number}", "waiting") for number in range(20))
    assert (
        why_waiting(_task("waiting", depends_on=many), plan=_plan(), status=IDLE)[-1].reason == "and 12 more"
    )


def test_limits_and_breakers_of_others_say_nothing() -> None:
    limits = [_limit("total", live=1), _limit("agent", "poet"), _limit("plan", "7")]
    status = _status(_pool(), _pool(agent_type="poet", breaker="open"), limits=limits)
    (wait,) = why_waiting(_task(), plan=_plan(), status=status)
    assert wait.reason.startswith("others come first")


@pytest.mark.parametrize(
    ("options", "attempts", "pool"),
    [
        ({}, [_attempt("work", "succeeded")], "gate"),
        ({"review": "poet"}, [_attempt("work", "succeeded")], "gate"),
        ({"review": "poet"}, [_attempt("work", "succeeded"), _attempt("gate", "succeeded")], "poet"),
    ],
)
def test_work_that_is_in_waits_for_its_gate_then_for_its_review(
    options: dict[str, str], attempts: list[AttemptView], pool: str
) -> None:
    task = _task("verifying", verify=("true",), options=options, attempts=attempts)
    (wait,) = why_waiting(task, plan=_plan(), status=_status(_pool()))
    assert wait.reason.startswith(f"no executor of {pool} is there")


@pytest.mark.parametrize("state", ["done", "cancelled", "skipped"])
def test_what_is_settled_or_at_work_waits_for_nothing(state: str) -> None:
    assert why_waiting(_task(state), plan=_plan(), status=_status()) == ()
    live = _task("verifying", attempts=[_attempt("gate", "started")])
    assert why_waiting(live, plan=_plan(), status=_status()) == ()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "anthropic: 3 of 64 under way, 9 waiting"),
        ({"pause_s": 90.0}, "; the provider wants none for 1 min 30 s, and nobody is charged for it"),
        ({"left": {"m": {"requests": 1200}}}, "; left in a minute: 1,200 requests of m"),
        ({"is_away": True}, "anthropic: its governor does not answer"),
    ],
)
def test_how_requests_to_a_provider_stand_is_told(fields: dict[str, Any], words: str) -> None:
    governor = GovernorView(credential="anthropic", in_flight=3, at_once_max=64, waiting=9, **fields)
    assert words in governor_line(governor)
