"""Beads: issues a line, in a file or with their dependencies beside them, and the Markdown batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.core.words import TaskKind
from orchestrator.plan.model import Mark, Plan, PlanTask
from orchestrator.plan.read import read_path, read_plan
from orchestrator.plan.render import write_marks


def _issue(name: str, *links: tuple[str, str], **values: object) -> dict[str, object]:
    """An issue; each link is a type and the name of the issue it depends on."""
    issue = {"id": f"shop-{name}", "title": f"Issue {name}", "status": "open", "priority": 2, **values}
    dependencies = [
        {"issue_id": f"shop-{name}", "depends_on_id": f"shop-{on}", "type": kind} for kind, on in links
    ]
    return {**issue, "dependencies": dependencies} if dependencies else issue


def _read(*issues: object) -> Plan:
    return read_plan("".join(f"{json.dumps(issue)}\n" for issue in issues))


def _edges(plan: Plan) -> set[tuple[str, str, str]]:
    return {(edge.task, edge.on, edge.kind.value) for edge in plan.dependencies}


def _codes(plan: Plan) -> list[str]:
    return [finding.code for finding in plan.findings]


def test_every_field() -> None:
    plan = _read(
        _issue("1"),
        _issue(
            "2",
            title="Prices are wrong",
            description="They lack tax.\n\n## Acceptance Criteria\n- [ ] Tax is shown\n\n## Remarks\nNone.",
            design="Ask the tax office.",
            notes="Seen twice.",
            acceptance_criteria="* All prices\n2. All countries",
            priority=0,
            issue_type="bug",
            estimated_minutes=90,
            labels=["money", "web"],
            assignee="kim",
        ),
    )
    task = plan.tasks[1]
    assert (plan.format, plan.findings, plan.with_id) == ("beads", (), 2)
    assert plan.format_reason == "2 Beads issues are on its first lines"
    assert (task.key, task.title, task.line, task.priority) == ("shop-2", "Prices are wrong", 2, 0)
    assert task.body == (
        "They lack tax.\n\n## Remarks\nNone.\n\n## Design\n\nAsk the tax office.\n\n## Notes\n\nSeen twice."
    )
    assert task.acceptance == ("Tax is shown", "All prices", "All countries")
    assert (task.estimate_ms, task.task_type) == (90 * 60_000, "fix")
    assert task.options == {"labels": "money, web", "assignee": "kim"}


@pytest.mark.parametrize(
    ("status", "mark"),
    [
        ("open", Mark.OPEN),
        ("in_progress", Mark.IN_PROGRESS),
        ("hooked", Mark.IN_PROGRESS),
        ("pending_review", Mark.IN_PROGRESS),
        ("blocked", Mark.BLOCKED),
        ("deferred", Mark.DEFERRED),
        ("pinned", Mark.DEFERRED),
        ("closed", Mark.DONE),
        ("completed", Mark.DONE),
    ],
)
def test_statuses(status: str, mark: Mark) -> None:
    plan = _read(_issue("1", status=status), _issue("2"))
    assert (plan.tasks[0].mark, plan.findings) == (mark, ())


def test_an_unknown_status_holds_the_task() -> None:
    plan = _read(_issue("1"), _issue("2", status="in_orbit"))
    assert plan.tasks[1].mark is Mark.BLOCKED
    assert [(finding.code, finding.line) for finding in plan.findings] == [("unknown-status", 2)]


def test_types_of_dependencies() -> None:
    plan = _read(
        _issue("1"),
        _issue("2", ("blocks", "1"), ("related", "3")),
        _issue("3", ("waits-for", "1"), ("discovered-from", "2")),
        _issue("4", ("conditional-blocks", "1"), ("supersedes", "2"), ("someones-own", "3")),
        _issue("5", ("related", "gone"), ("tracks", "away")),
    )
    assert _edges(plan) == {
        ("shop-2", "shop-1", "blocks"),
        ("shop-2", "shop-3", "relates"),
        ("shop-3", "shop-1", "blocks"),
        ("shop-3", "shop-2", "informs"),
        ("shop-4", "shop-1", "blocks"),
        ("shop-4", "shop-2", "relates"),
        ("shop-4", "shop-3", "relates"),
    }
    assert _codes(plan) == ["lost-condition"]


def test_what_contains_an_issue_is_told_by_its_record_and_not_by_its_id() -> None:
    plan = _read(
        _issue("e", issue_type="epic"),
        _issue("e.1", ("parent-child", "e"), ("discovered-from", "e")),
        _issue("e.2"),
        _issue("f", ("parent-child", "e.1"), ("parent-child", "e.2")),
        _issue("g", ("parent-child", "away")),
    )
    assert [(task.key, task.parent) for task in plan.tasks] == [
        ("shop-e", ""),
        ("shop-e.1", "shop-e"),
        ("shop-f", "shop-e.1"),
        ("shop-e.2", ""),
        ("shop-g", ""),
    ]
    assert plan.tasks[0].kind is TaskKind.CONTAINER
    assert _codes(plan) == ["unusable-parent"]
    assert _edges(plan) == set()


def test_parents_in_a_circle_are_reported_and_nothing_is_lost() -> None:
    plan = _read(
        _issue("1", ("parent-child", "3")),
        _issue("2", ("parent-child", "1")),
        _issue("3", ("parent-child", "2")),
        _issue("4", ("parent-child", "4")),
    )
    assert [(task.key, task.parent) for task in plan.tasks] == [
        ("shop-1", ""),
        ("shop-2", "shop-1"),
        ("shop-3", "shop-2"),
        ("shop-4", ""),
    ]
    assert _codes(plan) == ["unusable-parent"] * 2


def test_what_is_deleted_or_no_work_is_left_out_and_holds_up_nobody() -> None:
    plan = _read(
        _issue("1", status="tombstone", deleted_at="2026-01-02T03:04:05Z"),
        _issue("2", ("blocks", "1"), ("parent-child", "1")),
        _issue("3", issue_type="event"),
        _issue("4", issue_type="molecule"),
        _issue("5", ("parent-child", "4")),
        {"_type": "memory", "key": "k", "value": "v"},
    )
    assert [(task.key, task.parent) for task in plan.tasks] == [
        ("shop-2", ""),
        ("shop-4", ""),
        ("shop-5", "shop-4"),
    ]
    assert _codes(plan) == ["left-out"]
    assert "3 lines" in plan.findings[0].message
    assert "1 tombstone" in plan.findings[0].message
    assert (plan.with_id, plan.checkboxes.open, plan.checkboxes.other) == (5, 4, {"tombstone": 1})


def test_a_gate_is_passed_by_a_person() -> None:
    plan = _read(_issue("1", issue_type="gate", title="Wait for the auditor"), _issue("2", ("blocks", "1")))
    assert plan.tasks[0].manual == "Wait for the auditor"


def test_a_blocker_that_is_not_in_the_file_is_reported() -> None:
    plan = _read(_issue("1", ("blocks", "9")), _issue("2"))
    assert (_codes(plan), plan.errors, _edges(plan)) == (["outside-dependency"], (), set())


def test_an_id_twice_is_found() -> None:
    assert [finding.code for finding in _read(_issue("1"), _issue("1")).findings] == ["duplicate-id"]


def test_a_broken_line_is_named_and_the_others_are_read() -> None:
    text = "\n".join([json.dumps(_issue("1")), "<<<<<<< HEAD", json.dumps(_issue("2")), "[]", '{"id": "x'])
    plan = read_plan(text)
    assert [(error.code, error.line) for error in plan.errors] == [
        ("invalid-json", line) for line in (2, 4, 5)
    ]
    assert [task.key for task in plan.tasks] == ["shop-1", "shop-2"]


def test_a_log_of_events_is_refused_with_the_reason() -> None:
    events = [{"id": n, "type": "created", "timestamp": "2026-01-02", "data": {"title": "x"}} for n in (1, 2)]
    plan = _read(*events)
    assert [error.code for error in plan.errors] == ["unknown-format"]
    assert "the first has id, type, timestamp, data" in plan.errors[0].message
    assert plan.format_reason == "JSON lines that are no issues of Beads"


def test_dependencies_in_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("- [ ] not a task of this plan\n")
    (tmp_path / "issues.jsonl").write_text("".join(f"{json.dumps(_issue(name))}\n" for name in "123"))
    links = [("1", "2", "blocks"), ("1", "3", "parent-child")]
    (tmp_path / "dependencies.jsonl").write_text(
        "".join(
            json.dumps({"issue_id": f"shop-{task}", "depends_on_id": f"shop-{on}", "type": kind}) + "\n"
            for task, on, kind in links
        )
    )
    plan = read_path(tmp_path)
    assert (plan.format, plan.findings) == ("beads", ())
    assert plan.format_reason == "the folder has issues.jsonl"
    assert [(task.key, task.parent, task.source) for task in plan.tasks] == [
        ("shop-2", "", "issues.jsonl"),
        ("shop-3", "", "issues.jsonl"),
        ("shop-1", "shop-3", "issues.jsonl"),
    ]
    assert _edges(plan) == {("shop-1", "shop-2", "blocks")}


def test_only_the_status_of_one_line_is_written_back() -> None:
    lines = ['\ufeff{"title":"a \\u003c b","status" : "open","id":"shop-1"}', json.dumps(_issue("2")), ""]
    text = "\r\n".join(lines)
    first, second = (task.span for task in read_plan(text).tasks)
    assert first
    assert second
    assert write_marks(text, {first: Mark.DONE}) == text.replace('"open"', '"closed"', 1)
    assert write_marks(text, {second: Mark.IN_PROGRESS}) == text[::-1].replace("nepo", "ssergorp_ni", 1)[::-1]


BATCH = """\
# Shop
Ignored.

## Pay by card
Cards of two kinds.

### Priority
P1

### Type
bug

### Description
More of it.

### Design
```
## no issue
```

### Rollout
On Monday.

### Acceptance Criteria
- [ ] A refused card is told

### Assignee
kim

### Labels
money, web

### Deps
shop-1 discovered-from:shop-2

## [x] Refund
### Type
task
"""


def _batch(text: str) -> tuple[Plan, list[PlanTask]]:
    plan = read_plan(text)
    assert plan.format == "beads-batch"
    return plan, list(plan.tasks)


def test_every_field_of_a_batch() -> None:
    plan, (card, refund) = _batch(BATCH)
    assert plan.format_reason == "2 of 2 headings have a section with a priority or type of Beads"
    assert (plan.title, card.key, card.title, card.line) == ("Shop", "pay-by-card", "Pay by card", 4)
    assert card.body == (
        "Cards of two kinds.\n\n### Rollout\n\nOn Monday.\n\nMore of it.\n\n"
        "## Design\n\n```\n## no issue\n```"
    )
    assert (card.priority, card.task_type, card.acceptance) == (1, "fix", ("A refused card is told",))
    assert card.options == {"labels": "money, web", "assignee": "kim"}
    assert (card.mark, refund.mark, refund.title, refund.priority) == (Mark.OPEN, Mark.DONE, "Refund", 2)
    assert [(finding.code, finding.line) for finding in plan.findings] == [("outside-dependency", 4)]


def test_the_state_of_an_issue_of_a_batch_is_a_box() -> None:
    _, (card, refund) = _batch(BATCH)
    assert card.span
    assert refund.span
    changed = write_marks(BATCH, {card.span: Mark.DONE, refund.span: Mark.OPEN})
    assert changed == BATCH.replace("## Pay", "## [x] Pay").replace("## [x] Refund", "## [ ] Refund")
    assert [task.mark for task in _batch(changed)[1]] == [Mark.DONE, Mark.OPEN]


@pytest.mark.parametrize(
    "text",
    ["## Plan\n### Priority\nas soon as we can\n- [ ] a\n", "- [ ] a\n## A\n## B\n## C\n### Type\nbug\n"],
)
def test_other_markdown_is_no_batch(text: str) -> None:
    assert read_plan(text).format == "checklist"


def test_sentences_of_titles_and_descriptions_are_read() -> None:
    plan = _read(
        _issue("a3", title="Pay by card"),
        _issue("b7.1", title="Refund, after shop-a3"),
        _issue("c", title="Ship", description="Notes.\nBlocked by shop-b7.1, not by shop-d.\n"),
        _issue("d", title="Needs shopping"),
    )
    assert [(edge.task, edge.on, edge.evidence, edge.line) for edge in plan.dependencies] == [
        ("shop-b7.1", "shop-a3", "after shop-a3", 2),
        ("shop-c", "shop-b7.1", "Blocked by shop-b7.1", 3),
    ]
