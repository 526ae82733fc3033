"""Following a plan: the lines of a Host become progress, a view, a summary and an exit code."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import pytest
from rich.console import Console

from orchestrator.cli.messages import Ended, LiveRead, Message, read_message
from orchestrator.cli.output import Output
from orchestrator.cli.progress import Progress
from orchestrator.cli.summary import exit_code, result, write_summary
from orchestrator.cli.views import LiveView, follow
from orchestrator.errors import EnvironmentFault, OrchestratorError, PlanError
from orchestrator.plan.findings import Code
from orchestrator.views import AttemptView

AT = "2026-01-01T12:00:00+00:00"


def _task(number: int, *, agent_type: str = "backend-development", **fields: object) -> dict[str, object]:
    return {
        "id": number,
        "plan_id": 1,
        "key": f"A.{number}",
        "parent_key": "A",
        "kind": "leaf",
        "title": f"Task {number}",
        "state": "waiting",
        "reason": "",
        "agent_type": agent_type,
        "priority": 2,
        "unmet_dependencies": 0,
        "not_before": None,
        "attempts_used": 0,
        "losses": 0,
        "line": number,
        **fields,
    }


def _plan(state: str = "active", **fields: object) -> dict[str, object]:
    return {
        "id": 1,
        "name": "first-light",
        "title": "First light",
        "format": "coditect",
        "state": state,
        "backend": "auto",
        "workdir": "work",
        "tasks_total": 3,
        "tasks": {},
        "agent_types": [],
        "attempts": 4,
        "input_tokens": 1200,
        "output_tokens": 340,
        "cost_micros": 25_000,
        "budget_micros": 0,
        "eta_s": 30.0,
        "created_at": AT,
        "ended_at": None,
        "read_at": "2026-01-01T12:10:00+00:00",
        "last_seq": 9,
        **fields,
    }


def _event(type_: str, task: int | None = None, **payload: object) -> dict[str, object]:
    return {
        "kind": "event",
        "seq": 1,
        "plan_id": 1,
        "task_id": task,
        "task_key": f"A.{task}" if task else "",
        "token": None,
        "type": type_,
        "payload": payload,
        "at": AT,
    }


def _messages(*lines: dict[str, Any]) -> Iterable[Message]:
    return (read_message(json.dumps(line)) for line in lines)


STARTED = [
    {"kind": "progress", "text": "PostgreSQL is up", "step": "postgres", "at_s": 0.4},
    {
        "kind": "submitted",
        "plan_id": 1,
        "name": "first-light",
        "is_new": True,
        "tasks_total": 3,
        "findings": [],
    },
    {"kind": "tasks", "items": [_task(1), _task(2), _task(3, agent_type="testing-specialist")]},
]
WORK = {"kind": "work", "number": 1, "agent_type": "backend-development"}
FIRST_DONE = [
    _event("task.running", 1),
    _event("attempt.started", 1, **WORK),
    _event("attempt.ended", 1, **WORK, state="succeeded", failure_class=None, summary="ok"),
    _event("task.done", 1),
]
SECOND_FAILED = [
    _event("attempt.started", 2, **WORK),
    _event("attempt.ended", 2, **WORK, state="failed", failure_class="agent", summary="exit code 1: make"),
    _event("task.failed", 2, reason="out of attempts"),
]
THIRD_HELD = [_event("task.held", 3, reason="no credentials: openai")]


def _follow(*lines: dict[str, Any]) -> Progress:
    return follow(_messages(*lines), output=Output(is_json=True))


def _ended(state: str) -> dict[str, Any]:
    return {"kind": "ended", "plan": _plan(state)}


def test_progress_counts_by_state_and_agent_type() -> None:
    progress = _follow(*STARTED, *FIRST_DONE, *SECOND_FAILED, *THIRD_HELD)
    assert progress.counts() == {"done": 1, "failed": 1, "held": 1}
    backend, testing = progress.by_agent_type()
    assert (backend.agent_type, backend.tasks, backend.done, backend.failed) == (
        "backend-development",
        2,
        1,
        1,
    )
    assert (testing.tasks, testing.done) == (1, 0)
    assert progress.sessions == {}


def test_what_is_told_of_a_task_beside_its_states_leaves_it_where_it_is() -> None:
    beside = [_event("task.budget", 3, budget_micros=1), _event("task.flagged", 3, reason="opened again")]
    third = _follow(*STARTED, *THIRD_HELD, *beside).tasks[3]
    assert (third.state, third.reason) == ("held", "no credentials: openai")


def test_a_live_attempt_is_a_session_until_it_ends_or_is_lost() -> None:
    running = _follow(*STARTED, *FIRST_DONE[:2])
    assert [(session.task_key, session.number) for session in running.sessions.values()] == [("A.1", 1)]
    lost = _follow(*STARTED, *FIRST_DONE[:2], _event("attempt.lost", 1, **WORK, state="lost", summary="gone"))
    assert lost.sessions == {}


def test_work_gate_and_review_are_numbered_each_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    review = {"kind": "review", "number": 1, "agent_type": "code-reviewer"}
    refused = {"state": "failed", "failure_class": "gate", "summary": "no tests"}
    lines = [
        _event("attempt.started", 1, **{**WORK, "number": 2}),
        _event("attempt.started", 1, kind="gate", number=1, agent_type="gate"),
        _event("attempt.ended", 1, kind="gate", number=1, **refused),
        _event("attempt.started", 1, **review),
        _event("attempt.ended", 1, **review, **refused),
    ]
    follow(_messages(STARTED[-1], *lines), output=Output())
    assert [line.split(maxsplit=2)[2] for line in capsys.readouterr().out.splitlines()] == [
        "work 2 started  backend-development",
        "gate 1 started",
        "gate 1 failed: no tests [gate]",
        "review 1 started  code-reviewer",
        "review 1 failed: no tests [gate]",
    ]


def test_durations_are_those_of_the_plan_however_late_it_is_followed() -> None:
    progress = Progress()
    for line in ({"kind": "plan", **_plan()}, STARTED[-1]):
        progress.take(read_message(json.dumps(line)))
    attempt = {
        "token": 7, "number": 3, "kind": "work", "agent_type": "poet", "backend": "command", "executor": "e",
        "state": "started", "end_reason": "", "failure_class": None, "summary": "", "exit_code": None,
        "input_tokens": 0, "output_tokens": 0, "cost_micros": 0, "leased_at": AT, "ended_at": None,
        "started_at": "2026-01-01T12:08:00+00:00",
    }  # fmt: skip
    leased = AttemptView.model_validate({**attempt, "state": "leased", "started_at": None})
    progress.take(LiveRead(task_id=1, attempt=leased))
    assert progress.sessions == {}  # its start is still to come
    progress.take(LiveRead(task_id=1, attempt=AttemptView.model_validate(attempt)))
    session = progress.sessions[1]
    assert (session.kind, session.number, session.agent_type) == ("work", 3, "poet")
    assert 600 <= progress.elapsed_s < 600 + 60
    assert 120 <= progress.lasts_s(session) < 120 + 60
    ended = {"kind": "ended", "plan": _plan("done", ended_at="2026-01-01T12:00:05+00:00")}
    progress.take(read_message(json.dumps(ended)))
    assert progress.elapsed_s == 5.0


def test_a_plan_that_goes_on_takes_as_long_as_it_is_followed() -> None:
    known = {**STARTED[1], "is_new": False}
    assert _follow(known, STARTED[-1], {"kind": "plan", **_plan()}).elapsed_s < 60


def test_following_ends_with_the_plan() -> None:
    progress = follow(iter([*_messages(*STARTED, _ended("done"))]), output=Output(is_json=True))
    assert progress.is_over
    assert progress.plan is not None
    assert progress.plan.attempts == 4


@pytest.mark.parametrize(
    ("lines", "state", "until_key", "code"),
    [
        ([], "done", "", 0),
        (SECOND_FAILED, "stalled", "", 5),
        (THIRD_HELD, "stalled", "", 8),
        ([*SECOND_FAILED, *THIRD_HELD], "stalled", "", 5),
        ([], "stalled", "", 5),
        ([], "cancelled", "", 5),
        ([], "paused", "", 8),
        (FIRST_DONE, "paused", "A.1", 0),
        (FIRST_DONE, "paused", "A.2", 8),
        ([], "paused", "A", 0),
    ],
)
def test_exit_codes(lines: list[dict[str, Any]], state: str, until_key: str, code: int) -> None:
    assert exit_code(_follow(*STARTED, *lines, _ended(state)), until_key=until_key) == code


def test_piped_there_is_one_line_for_each_event_that_people_need(
    capsys: pytest.CaptureFixture[str],
) -> None:
    follow(_messages(*STARTED, *FIRST_DONE, *SECOND_FAILED, *THIRD_HELD), output=Output())
    lines = [line.split(maxsplit=1)[1].strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "s  PostgreSQL is up",
        "A.1          work 1 started  backend-development",
        "A.1          done",
        "A.2          work 1 started  backend-development",
        "A.2          work 1 failed: exit code 1: make [agent]",
        "A.2          failed: out of attempts",
        "A.3          held: no credentials: openai",
    ]


def test_the_summary_names_reasons_remedies_logs_and_the_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = {"token": 5, "number": 1, "kind": "work", "seq": 1, "offset_ms": 0, "stream": "stdout"}
    logs = {"kind": "logs", "task_key": "A.2", "items": [{**log, "text": "cc: no such file\nmake: stop\n"}]}
    progress = _follow(*STARTED, *FIRST_DONE, *SECOND_FAILED, *THIRD_HELD, logs, _ended("stalled"))
    write_summary(progress, output=Output())
    out = capsys.readouterr().out
    for words in (
        "first-light: stalled",
        "1 done, 1 failed, 1 held",
        "out of attempts",
        "| make: stop",
        "no credentials: openai: set OPENAI_API_KEY, then `orchestrator down` and `up` if a stack is up",
        "4 attempts, 1,200 tokens in, 340 out, $0.03 spent",
        "The work is in work",
    ):
        assert words in out


def test_a_simulated_plan_is_labelled_wherever_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    plan = {"kind": "plan", **_plan(backend="simulated")}
    ended = {"kind": "ended", "plan": _plan("done", backend="simulated")}
    lines = [*STARTED, plan, _event("attempt.started", 1, **WORK, backend="simulated")]
    progress = follow(_messages(*lines, ended), output=Output())
    assert "work 1 started  backend-development  simulated\n" in capsys.readouterr().out
    write_summary(progress, output=Output())
    assert "simulated: the sessions did no work" in capsys.readouterr().out
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=40, color_system=None)
    with LiveView(console, progress):
        pass
    assert isinstance(console.file, io.StringIO)
    assert "simulated · " in console.file.getvalue()


def test_the_json_result_tells_the_same() -> None:
    progress = _follow(*STARTED, *FIRST_DONE, *SECOND_FAILED, _ended("stalled"))
    found = result(progress)
    assert found["exit_code"] == 5
    assert [task.state for task in progress.tasks.values()] == ["done", "failed", "waiting"]
    assert progress.tasks[2].failure == "exit code 1: make"


def test_the_live_view_shows_bars_sessions_and_what_failed() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=40, color_system=None)
    progress = Progress()
    with LiveView(console, progress) as view:
        for message in _messages(
            *STARTED, *FIRST_DONE, *SECOND_FAILED, {"kind": "plan", **_plan()}, _event("attempt.started", 3)
        ):
            progress.take(message)
            view.show(message, progress)
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for words in ("first-light", "1/3", "testing-specialist", "A.3", "to go", "failed: out of attempts"):
        assert words in shown


def test_an_error_of_the_host_is_raised_as_what_it_is() -> None:
    finding = asdict(Code.CYCLE.at(2, "A → A.", remedy="Remove one."))
    line = {
        "kind": "error",
        "code": "PlanError",
        "message": "Refused.",
        "exit_code": 3,
        "findings": [finding],
    }
    with pytest.raises(PlanError, match="Refused") as refused:
        read_message(json.dumps(line))
    assert refused.value.findings[0].code == "cycle"
    fault = {"kind": "error", "code": "EnvironmentFault", "message": "No disk.", "remedy": "Buy one."}
    with pytest.raises(EnvironmentFault, match="Buy one"):
        read_message(json.dumps(fault))


@pytest.mark.parametrize("line", ["", "no json", "[]", '{"kind": "news"}', '{"kind": "plan"}', "3"])
def test_a_line_that_is_no_message_is_told(line: str) -> None:
    with pytest.raises(OrchestratorError, match="does not understand"):
        read_message(line)


def test_the_end_is_the_last_message() -> None:
    assert isinstance(read_message(json.dumps(_ended("done"))), Ended)
