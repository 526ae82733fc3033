"""Class and field of work, by words."""

from __future__ import annotations

import pytest

from orchestrator.plan.classify import classify


@pytest.mark.parametrize(
    ("title", "task_type", "domain"),
    [
        ("Investigate the slow query", "research", "data"),
        ("Design the REST API", "design", "backend"),
        ("Create the React dashboard component", "implement", "frontend"),
        ("Add a regression test", "test", "testing"),
        ("Write the README", "document", "documentation"),
        ("Review the tests", "review", "testing"),
        ("Deploy the Helm chart to GKE", "deploy", "devops"),
        ("Fix the JWT token expiry", "fix", "security"),
        ("Refactor the FastAPI server", "refactor", "backend"),
        ("Approve the design", "review", "other"),
        ("Zap", "other", "other"),
    ],
)
def test_titles(title: str, task_type: str, domain: str) -> None:
    found = classify(title)
    assert (found.task_type, found.domain) == (task_type, domain)


def test_the_evidence_is_the_words_of_the_winners() -> None:
    found = classify("Add a regression test for the API", body="with pytest, and pytest again")
    assert found.type_evidence == ("title: test", "body: pytest")
    assert found.domain_evidence == ("title: test", "body: pytest")
    assert classify("Do it", agent="devops-engineer").domain_evidence == ("agent: devops",)
    assert (classify("Zap").type_evidence, classify("Zap").domain_evidence) == ((), ())


def test_agent_and_body_help_where_the_title_says_little() -> None:
    assert classify("Do it", agent="devops-engineer").domain == "devops"
    assert classify("Do it", body="with postgres").domain == "data"
    assert classify("Test it", body="deploy deploy release").task_type == "test"


def test_the_section_says_the_domain_where_nothing_else_does() -> None:
    found = classify("Do it", section="Track D: Security")
    assert (found.domain, found.domain_evidence) == ("security", ("section: security",))
    assert classify("Style the page", section="Track D: Security").domain == "frontend"


def test_a_milestone_says_so() -> None:
    assert classify("Milestone 2: tests are green").task_type == "milestone"
