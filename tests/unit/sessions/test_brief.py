"""The brief of a plan: what is in the way is told first and left out last."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.sessions.brief import make_brief
from orchestrator.sessions.context import ContextPack
from orchestrator.views import NoteKind, NoteView, PlanView, TaskView

AT = datetime(2026, 1, 1, tzinfo=UTC)
PLAN = PlanView(
    id=1,
    name="plan.md",
    title="Ship it",
    format="coditect",
    state="active",
    backend="auto",
    workdir="",
    tasks_total=100,
    tasks={"done": 30, "ready": 40, "held": 3, "failed": 2, "running": 5, "waiting": 20},
    agent_types=(),
    attempts=37,
    input_tokens=0,
    output_tokens=0,
    cost_micros=1_500_000,
    budget_micros=20_000_000,
    eta_s=9_000.0,
    created_at=AT,
    ended_at=None,
    read_at=AT,
    last_seq=0,
)


def tasks(state: str, count: int, *, reason: str = "") -> list[TaskView]:
    """Tasks in a state."""
    return [
        TaskView(
            id=n,
            plan_id=1,
            key=f"{state}.{n}",
            parent_key="",
            kind="leaf",
            title=f"Do {n}",
            state=state,
            reason=reason,
            agent_type="coder",
            priority=2,
            unmet_dependencies=0,
            not_before=None,
            attempts_used=0,
            losses=0,
            line=n,
        )
        for n in range(count)
    ]


def brief(*, tokens_max: int) -> ContextPack:
    """The brief of PLAN."""
    kinds = (NoteKind.DECISION, NoteKind.NOTE)
    notes = [NoteView(id=1, kind=kind, task_key="", author="", text=f"one {kind}", at=AT) for kind in kinds]
    return make_brief(
        PLAN,
        at_work=tasks("running", 5),
        ready=tasks("ready", 10),
        blocked=tasks("held", 3, reason="approval"),
        notes=notes,
        tokens_max=tokens_max,
    )


def test_a_brief_tells_how_the_plan_stands() -> None:
    told = brief(tokens_max=3_000)
    parts = [
        "# Plan plan.md (active)",
        "Ship it.",
        "30 of 100 tasks are done; 40 ready, 3 held, 2 failed, 5 running, 20 waiting.",
        "37 attempts, $1.50 of $20.00 spent.",
        "About 2.5 h to go",
        "- running.4 Do 4 (running, coder)",
        "- ready.0 Do 0 (ready, coder)",
        "- held.0 Do 0 (held: approval, coder)",
        "- a person: one decision",
        "- a person: one note",
    ]
    places = [told.text.index(part) for part in parts]
    assert places == sorted(places)
    assert told.left_out == ("30 ready tasks", "2 blocked tasks")


def test_what_is_in_the_way_is_left_out_last() -> None:
    told = brief(tokens_max=330)
    assert told.tokens <= 330
    assert "- held.2 Do 2" in told.text
    assert "one note" not in told.text
    assert told.left_out[-2:] == ("1 decision", "1 note")
