"""Tables with ids and states list tasks; any other table is text."""

from __future__ import annotations

from orchestrator.plan.model import Mark, Notation, Plan
from orchestrator.plan.read import read_plan
from orchestrator.plan.render import write_marks

TABLE = (
    "## Work\n"
    "| ID | Title | Priority | Depends on | Status |\n"
    "|----|:------|---------:|------------|--------|\n"
    "| [TASK-001](tasks/TASK-001.md) | Set `a \\| b` up | P0 | - | ✅ |\n"
    "| **TASK-002** | Build it (2h) | P1 | TASK-001 | 🔄 Ready |\n"
    "| TASK-003 | Ship it |  | TASK-002 | Blocked |\n"
    "| TASK-004 | Tell them |  |  |  |\n"
    "| total | 4 |  |  | 25% |\n"
)


def _said(plan: Plan) -> list[str]:
    return [plan.source[task.span.start : task.span.end] for task in plan.tasks if task.span]


def test_rows_are_tasks() -> None:
    plan = read_plan(TABLE)
    assert plan.format == "coditect"
    assert [(task.key, task.title, task.mark.value, task.priority) for task in plan.tasks[1:]] == [
        ("TASK-001", "Set `a | b` up", "done", 0),
        ("TASK-002", "Build it", "open", 1),
        ("TASK-003", "Ship it", "blocked", 2),
        ("TASK-004", "Tell them", "open", 2),
    ]
    assert plan.tasks[2].estimate_ms == 2 * 3_600_000
    assert [(edge.task, edge.on) for edge in plan.dependencies] == [
        ("TASK-002", "TASK-001"),
        ("TASK-003", "TASK-002"),
    ]
    assert plan.findings == ()


def test_states_are_written_into_their_cells() -> None:
    plan = read_plan(TABLE)
    assert _said(plan)[1:] == ["✅", "🔄 Ready", "Blocked", ""]
    spans = [task.span for task in plan.tasks[1:] if task.span]
    assert [span.notation for span in spans] == [
        Notation.EMOJI,
        Notation.EMOJI_WORD,
        Notation.WORD,
        Notation.WORD,
    ]
    changed = write_marks(
        TABLE, dict(zip(spans, (Mark.OPEN, Mark.DONE, Mark.IN_PROGRESS, Mark.DONE), strict=True))
    )
    assert changed.splitlines()[3:7] == [
        "| [TASK-001](tasks/TASK-001.md) | Set `a \\| b` up | P0 | - | ⏳ |",
        "| **TASK-002** | Build it (2h) | P1 | TASK-001 | ✅ Done |",
        "| TASK-003 | Ship it |  | TASK-002 | In Progress |",
        "| TASK-004 | Tell them |  |  | Done |",
    ]


def test_rows_that_repeat_tasks_are_no_tasks_and_may_not_contradict_them() -> None:
    plan = read_plan(
        "| Task | Status |\n|---|---|\n| A.1 | ✅ |\n| A.2 | Open |\n\n- [ ] A.1 a\n- [ ] A.2 b\n"
    )
    assert [(task.key, task.line) for task in plan.tasks] == [("A.1", 6), ("A.2", 7)]
    assert [(finding.line, finding.code) for finding in plan.findings] == [(3, "mark-conflict")]


def test_other_tables_are_text() -> None:
    for header in ("| Version | Status |", "| ID | Owner |", "| Phase | Status |"):
        plan = read_plan(f"- [ ] A.1 a\n\n{header}\n|---|---|\n| 1.0 | ✅ |\n| 1.1 | x |\n")
        assert [task.key for task in plan.tasks] == ["A.1"]
        assert "| 1.1 | x |" in plan.tasks[0].body or plan.findings == ()


def test_an_unknown_state_is_reported_and_can_be_replaced() -> None:
    text = "| # | Task | State |\n|-|-|-|\n| A.1 | x | TBD |\n"
    plan = read_plan(text)
    assert [(finding.line, finding.code) for finding in plan.findings] == [(3, "unknown-value")]
    span = plan.tasks[0].span
    assert span is not None
    assert write_marks(text, {span: Mark.DONE}) == text.replace("TBD", "Done")
