"""Lines that look like fields and are none, and prose that only looks like such a line."""

from __future__ import annotations

import pytest

from orchestrator.plan.model import Plan
from orchestrator.plan.read import read_plan


def task_with(*lines: str) -> Plan:
    return read_plan("- [ ] A.1 Build it\n" + "".join(f"  - {line}\n" for line in lines))


def remedies(plan: Plan) -> list[tuple[int, str, str]]:
    assert plan.errors == ()
    return [(found.line, found.code, found.remedy) for found in plan.findings]


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("buget: $3", "budget"),
        ("bugdet: $3", "budget"),
        ("budgget: $3", "budget"),
        ("timout: 10 min", "timeout"),
        ("time out: 10 min", "timeout"),
        ("idle_timeout: 10 min", "idle timeout"),
        ("attemps: 3", "attempts"),
        ("**Agnet:** `poet`", "agent"),
        ("**Agnet**: `poet`", "agent"),
        ("verfiy: `make test`", "verify"),
        ("depend on: A.2", "depends on"),
        ("dependancies: A.2", "dependencies"),
        ("aprove:", "approve"),
        ("rewiew: code-reviewer", "review"),
    ],
)
def test_a_slip_is_told_with_its_line_and_what_is_meant(line: str, meant: str) -> None:
    plan = task_with("run: make", line)
    assert remedies(plan) == [(3, "no-field", f"Write `{meant}:` if that is meant.")]
    assert line in plan.tasks[0].body, "it stays text: nothing is guessed"


@pytest.mark.parametrize(
    "line",
    [
        "Reviewer: Ada",
        "Reviewed: yesterday",
        "Preview: http://localhost",
        "Attempt: the first one failed",
        "Required: two keys",
        "Approved: no",
        "Note: the budget is small",
        "Tests: unit and end to end",
        "Label: urgent",
        "Backend: FastAPI with PostgreSQL",
        "Model: User with a name and an address",
        "Model: User",
        "see agnet:poet",
        "agentid: 7",
        "buget",
    ],
)
def test_prose_is_left_alone(line: str) -> None:
    assert remedies(task_with(line)) == []


def test_a_line_of_text_below_a_task_or_a_section_counts_and_one_of_the_plan_does_not() -> None:
    plan = read_plan("# Plan\n\nAgnet: of nobody\n\n## A\n\nAgnet: poet\n\n- [ ] A.1 a\n  timout: 3 min\n")
    assert [(line, remedy) for line, _, remedy in remedies(plan)] == [
        (7, "Write `agent:` if that is meant."),
        (10, "Write `timeout:` if that is meant."),
    ]


@pytest.mark.parametrize("line", ["model: opus", "Model: `gpt-6.1-sol`", "model: llama3.3:70b"])
def test_the_model_of_a_task_is_that_of_its_agent_type(line: str) -> None:
    remedy = "Write it into the file of the agent type that `agent:` names."
    assert remedies(task_with(line)) == [(2, "no-field", remedy)]


@pytest.mark.parametrize("name", ["openai", "auto", "`claude-code`"])
def test_a_task_has_no_backend_of_its_own(name: str) -> None:
    ((line, code, remedy),) = remedies(task_with(f"backend: {name}"))
    assert (line, code) == (2, "no-field")
    assert remedy.startswith("Write it into the head of the plan, or into the file of the agent type")


def test_the_head_of_a_plan() -> None:
    head = ["---", "name: p", "bakend: openai", "model: opus", "timeout: 3 min", "owner: Ada", "---"]
    plan = read_plan("\n".join([*head, "- [ ] A.1 a\n"]))
    assert remedies(plan) == [
        (3, "no-field", "Write `backend:` if that is meant."),
        (4, "no-field", "Write it into the file of the agent type that `agent:` names."),
        (5, "no-field", "Write it into each task that it is meant for."),
    ]
