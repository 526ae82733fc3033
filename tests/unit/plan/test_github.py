"""GitHub task lists: issues are keys."""

from __future__ import annotations

from orchestrator.plan.read import read_plan

TEXT = """# Release
- [ ] #12 Ship it
  - depends: #7
  * [x] acme/site#7
- [ ] https://github.com/acme/site/issues/9 - pages @someone
- [x] [The logo](https://github.com/acme/art/pull/3)
- [ ] words
"""


def test_references_to_issues_are_keys() -> None:
    plan = read_plan(TEXT)
    assert plan.format == "github"
    assert [(task.key, task.title, task.parent, task.has_own_key) for task in plan.tasks] == [
        ("#12", "Ship it", "", True),
        ("acme/site#7", "acme/site#7", "#12", True),
        ("acme/site#9", "pages @someone", "", True),
        ("acme/art#3", "The logo", "", True),
        ("words", "words", "", False),
    ]
    assert plan.with_id == 4


def test_few_references_make_a_checklist() -> None:
    plan = read_plan("- [ ] #1 a\n- [ ] b\n- [ ] c\n- [ ] d\n")
    assert (plan.format, plan.tasks[0].title) == ("checklist", "#1 a")


def test_issues_depend_on_issues() -> None:
    plan = read_plan("- [ ] #1 a\n- [ ] #2 b\n  - Depends on: #1\n")
    assert [(edge.task, edge.on) for edge in plan.dependencies] == [("#2", "#1")]


def test_issues_are_named_in_sentences() -> None:
    plan = read_plan(
        "- [ ] #1 a\n- [ ] #2 b, blocked by #1\n- [ ] acme/site#3 c\n"
        "  Start once [#2](https://github.com/acme/shop/issues/2) and `#1` are closed. Not after #4.\n"
        "- [ ] #4 d\n  Needs acme/site#3. See #12 and version #2.1. Unblocks #5 once #99 is in.\n- [ ] #5 e\n"
    )
    assert {(edge.task, edge.on, edge.evidence) for edge in plan.dependencies} == {
        ("#2", "#1", "blocked by #1"),
        ("acme/site#3", "#2", "once [#2](https://github.com/acme/shop/issues/2) and `#1"),
        ("acme/site#3", "#1", "once [#2](https://github.com/acme/shop/issues/2) and `#1"),
        ("#4", "acme/site#3", "Needs acme/site#3"),
        ("#5", "#4", "Unblocks #5"),
    }
    assert plan.findings == ()


def test_issues_elsewhere_are_outside() -> None:
    plan = read_plan("- [ ] #1 a\n  - depends: #2, acme/site#9\n- [ ] #2 b\n")
    assert [(edge.task, edge.on) for edge in plan.dependencies] == [("#1", "#2")]
    assert [finding.code for finding in plan.findings] == ["outside-dependency"]
