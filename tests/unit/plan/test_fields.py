"""Field lines and notes in titles."""

from __future__ import annotations

import json

import pytest

from orchestrator.plan.model import Mark, Plan, PlanTask
from orchestrator.plan.read import read_plan


def _one(text: str) -> PlanTask:
    plan = read_plan(text)
    assert plan.errors == ()
    return plan.tasks[0]


def _codes(plan: Plan) -> list[tuple[int, str, str]]:
    return [(finding.line, finding.code, finding.severity) for finding in plan.findings]


def test_every_field_as_a_sub_bullet() -> None:
    task = _one(
        "- [ ] **A.1.1** Lay out the package (15 min) [P1]\n"
        "  - agent: backend-development\n"
        "  - run: `mkdir -p src`\n  - run: touch src/a\n"
        "  - verify: `test -d src`\n"
        "  - manual: press the button\n  - approve: yes\n"
        "  - touches: `src/**`, `docs/*.md`\n"
        "  - timeout: 10 min\n  - attempts: 3\n  - simulate: 1s fail 1\n"
        "  - idle timeout: 90 s\n  - start timeout: 1 min\n  - grace: 0 s\n"
        "  - retry lost: Never\n  - review: `code-reviewer` (strict)\n"
        "  - type: test\n  - domain: data\n  - Note: this is prose\n"
    )
    assert (task.key, task.title, task.estimate_ms, task.priority) == (
        "A.1.1",
        "Lay out the package",
        900_000,
        1,
    )
    assert task.agent == "backend-development"
    assert task.run == ("mkdir -p src", "touch src/a")
    assert task.verify == ("test -d src",)
    assert (task.manual, task.approve) == ("press the button", "Lay out the package")
    assert task.touches == ("src/**", "docs/*.md")
    assert task.options == {
        "timeout": "10 min",
        "attempts": "3",
        "simulate": "1s fail 1",
        "idle timeout": "90 s",
        "start timeout": "1 min",
        "grace": "0 s",
        "retry lost": "never",
        "review": "code-reviewer",
    }
    assert (task.task_type, task.domain) == ("test", "data")
    assert task.body == "- Note: this is prose"


def test_fields_as_indented_lines_and_right_below() -> None:
    task = _one("- [ ] A.1.1 x\n  agent: a\n\n  run: make\n")
    assert (task.agent, task.run) == ("a", ("make",))
    assert _one("- [ ] x\n**Priority:** P0\n").priority == 0


def test_the_colon_may_stand_inside_or_outside_of_the_bold() -> None:
    task = _one(
        "#### Task 1: x\n"
        "**Agent**: `a` (adapts)\n"
        "**Duration:** 2 days, 16 hours\n"
        "**Priority:** P0 (CRITICAL)\n"
    )
    assert (task.agent, task.estimate_ms, task.priority) == ("a", 16 * 3_600_000, 0)


def test_run_lines_in_a_fence() -> None:
    task = _one(
        "- [ ] x\n"
        "  - run:\n"
        "    ```sh\n"
        "    # a comment\n"
        "    make \\\n"
        "      all\n"
        "\n"
        "    `date`\n"
        "    ```\n"
        "  - verify: ok\n"
    )
    assert task.run == ("make all", "`date`")
    assert task.verify == ("ok",)
    assert _one("#### Task 1: x\nrun:\n```\nmake\n```\n").run == ("make",)


def test_run_lines_in_a_list() -> None:
    assert _one("- [ ] x\n  - run:\n    - `a`\n    - b\n").run == ("a", "b")


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ("`make`", ("make",)),
        ("``echo `date` ``", ("echo `date`",)),
        ("`a`, `b` and `c`", ("a", "b", "c")),
        ("echo `date`", ("echo `date`",)),
        ("a: b", ("a: b",)),
    ],
)
def test_back_ticks_around_commands(value: str, lines: tuple[str, ...]) -> None:
    assert _one(f"- [ ] x\n  - run: {value}\n").run == lines


def test_a_command_half_in_back_ticks_is_refused() -> None:
    plan = read_plan("- [ ] x\n  - run: `make` && rm -r y\n")
    assert _codes(plan) == [(2, "unreadable-option", "error")]
    assert plan.tasks[0].run == ()


@pytest.mark.parametrize(
    "field",
    [
        "priority: soon",
        "estimate: a while",
        "status: fine",
        "agent: ()",
        "agent: ?",
        "review: —",
    ],
)
def test_unreadable_values_are_warnings_with_their_line(field: str) -> None:
    plan = read_plan(f"# T\n- [ ] x\n  - {field}\n  text\n")
    assert _codes(plan) == [(3, "unknown-value", "warning")]


@pytest.mark.parametrize(
    ("field", "form"),
    [
        ("timeout: banana", "`timeout: 10 min`"),
        ("idle timeout: a while", "`idle timeout: 10 min`"),
        ("start timeout: 5", "`start timeout: 10 min`"),
        ("grace: none", "`grace: 10 s`"),
        ("attempts: many", "`attempts: 3`"),
        ("simulate: x", "`simulate: 1s fail 1`"),
    ],
)
def test_options_that_cannot_be_read_are_errors_with_the_form_that_can(field: str, form: str) -> None:
    plan = read_plan(f"# T\n- [ ] x\n  - {field}\n  text\n")
    assert _codes(plan) == [(3, "unreadable-option", "error")]
    assert form in plan.errors[0].remedy


@pytest.mark.parametrize(
    "field",
    [
        "timeout: -5 min",
        "timeout: − 5 min",
        "timeout: 0s",
        "timeout: 99999999999 weeks",
        "timeout: 5000 weeks",
        "attempts: 0",
        "attempts: -1",
        "attempts: 1001",
        "idle timeout: 0 min",
        "start timeout: -1 s",
        "grace: 31 s",
        "grace: -1 s",
    ],
)
def test_amounts_that_cannot_be_meant_are_refused_with_field_and_task(field: str) -> None:
    plan = read_plan(f"# T\n- [ ] A.1 x\n  - {field}\n  text\n")
    assert _codes(plan) == [(3, "out-of-bounds", "error")]
    assert f"`{field.partition(':')[0]}` of A.1" in plan.errors[0].message
    assert plan.tasks[0].options == {}


@pytest.mark.parametrize("value", ["$2.50", "2.5 USD", "0.75", "1,000"])
def test_a_budget_of_a_task_is_a_sum_of_dollars(value: str) -> None:
    assert _one(f"# T\n- [ ] A.1 x\n  - budget: {value}\n").options == {"budget": value}
    native = {"plan_version": 1, "tasks": [{"key": "a", "title": "x", "budget": value}]}
    assert _one(json.dumps(native)).options == {"budget": value}


@pytest.mark.parametrize("value", ["$1,50", "-3", "0.0000001", "5€", "1.2.3"])
def test_a_sum_that_cannot_be_read_is_no_freedom_to_spend(value: str) -> None:
    plan = read_plan(f"# T\n- [ ] A.1 x\n  - budget: {value}\n")
    assert _codes(plan) == [(3, "unreadable-option", "error")]


@pytest.mark.parametrize("value", ["$40,000", "$107,520 (all of it)", "0", "2 weeks", "TBD"])
def test_the_money_of_a_project_is_no_budget_of_a_task(value: str) -> None:
    plan = read_plan(f"# T\n- [ ] A.1 x\n  - budget: {value}\n")
    assert _codes(plan) == [(3, "unknown-value", "warning")]
    assert plan.tasks[0].options == {}


@pytest.mark.parametrize("value", ["sometimes", "", "proven always", "neverever"])
def test_a_wrong_retry_lost_is_refused_with_the_three_words(value: str) -> None:
    native = {"plan_version": 1, "tasks": [{"key": "a", "title": "x", "retry_lost": f"{value} "}]}
    for text in (json.dumps(native), f"# T\n- [ ] A.1 x\n  - retry lost: `{value} `\n"):
        plan = read_plan(text)
        assert [finding.code for finding in plan.errors] == ["unreadable-option"]
        assert "proven, always, never" in plan.errors[0].remedy
        assert plan.tasks[0].options == {}


def test_the_review_of_a_section_holds_for_what_stands_below_it() -> None:
    plan = read_plan("# T\n## S\n**Review:** code-reviewer\n- [ ] A.1 x\n- [ ] A.2 y\n  - review: poet\n")
    reviews = {task.key: task.options.get("review") for task in plan.tasks}
    assert (reviews["A.1"], reviews["A.2"]) == ("code-reviewer", "poet")


def test_a_run_field_without_a_command() -> None:
    assert _codes(read_plan("- [ ] x\n  - run:\n- [ ] y\n")) == [(2, "unknown-value", "warning")]


def test_status_words_yield_to_the_box() -> None:
    plan = read_plan(
        "#### Task 1: a\n"
        "**Status:** 🟡 In progress\n"
        "#### Task 2: b\n"
        "**Status**: blocked\n"
        "- [x] T001 c\n"
        "  - status: pending\n"
    )
    assert [task.mark for task in plan.tasks if task.title in "ac"] == [Mark.IN_PROGRESS, Mark.DONE]


def test_points_and_hours() -> None:
    assert _one("- [ ] x\n  - Story Points: 5\n").estimate_ms == 5 * 3_600_000
    assert _one("- [ ] x\n  - Estimated Hours: 1.5\n").estimate_ms == 5_400_000


@pytest.mark.parametrize(
    ("title", "rest"),
    [
        ("Ship it (4h) [P0]", "Ship it"),
        ("Ship it [agent: devops-engineer]", "Ship it"),
        ("Ship it (32 shards) [US1]", "Ship it (32 shards) [US1]"),
        ("Ship it. *Effort: 1.5h.*", "Ship it."),
        ("Ship (requires PR, 1 approval)", "Ship (requires PR, 1 approval)"),
        ("Ship → **KEEP**", "Ship → KEEP"),
    ],
)
def test_notes_in_titles(title: str, rest: str) -> None:
    assert _one(f"- [ ] {title}\n").title == rest


def test_fields_of_the_plan_itself_are_no_fault() -> None:
    assert read_plan("# P\n**Status:** Active Development\n**Duration:** long\n- [ ] x\n").findings == ()
