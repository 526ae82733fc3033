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
