"""Any plan can be written as Markdown, and what is written is read as the same plan."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan.markdown_out import to_markdown
from orchestrator.plan.model import Mark, Plan, PlanTask
from orchestrator.plan.read import read_plan

_PIECES = [
    "(2h)",
    "[P1]",
    "✅",
    "**",
    "`",
    "~~",
    "#",
    "A.1",
    "T001",
    "→ after A.1",
    "- [ ] x",
    "|",
    "<!--",
    "-->",
]
_PIECES += [
    "Legend",
    "Acceptance Criteria",
    "agent: x",
    "run: make",
    "depends on A.1.1",
    '"',
    "[x]",
    ":",
    "  ",
    "---",
]
_word = st.sampled_from(_PIECES) | st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=8
)
_line = (
    st.lists(_word, min_size=1, max_size=5).map(lambda words: " ".join(" ".join(words).split())).filter(bool)
)
_body = st.lists(_line | st.just(""), max_size=4).map("\n".join)
_keys = st.one_of(
    st.from_regex(r"[A-Z]\.[1-9]\.[1-9][0-9]?", fullmatch=True),
    st.from_regex(r"T0[0-9]{2}", fullmatch=True),
    st.from_regex(r"app-[a-f0-9]{3}(\.[0-9])?", fullmatch=True),
    st.from_regex(r"[a-z]{2,9}(-[a-z]{2,9})?", fullmatch=True),
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A plan in our own JSON, of any shape up to four levels, read."""
    keys = draw(st.lists(_keys, min_size=1, max_size=12, unique_by=str.casefold))
    tasks: dict[str, dict[str, Any]] = {}
    top: list[dict[str, Any]] = []
    for number, key in enumerate(keys):
        task: dict[str, Any] = {
            "key": key,
            "title": draw(_line),
            "mark": draw(st.sampled_from(Mark)),
            "tasks": [],
        }
        task |= draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "body": _body,
                    "priority": st.integers(0, 4),
                    "estimate": st.integers(0, 10**10),
                    "agent": st.sampled_from(["devops-engineer", "code-reviewer", "new-kind"]),
                    "type": st.sampled_from(["test", "milestone", "odd one"]),
                    "acceptance": st.lists(_line, max_size=2),
                    "touches": st.lists(st.sampled_from(["src/a.py", "docs/**", "a b.txt"]), max_size=2),
                    "timeout": st.sampled_from(["10 min", "2 h"]),
                },
            )
        )
        parents = [keys[at] for at in range(number) if draw(st.integers(0, 3)) == 0]
        (tasks[parents[-1]]["tasks"] if parents else top).append(task)
        tasks[key] = task
    for task in tasks.values():
        if not task["tasks"]:
            task["run"] = draw(st.lists(st.sampled_from(["make", "echo `date` | wc", "a 'b c'"]), max_size=2))
    text = json.dumps({"plan_version": 1, "name": "x", "title": draw(_line), "tasks": top})
    leaves = [key for key, task in tasks.items() if not task["tasks"]]
    for key, on in pairwise(leaves):
        if draw(st.booleans()):
            tasks[on]["depends_on"] = [key]
    return read_plan(json.dumps({**json.loads(text), "tasks": top}))


def _same(task: PlanTask) -> tuple[object, ...]:
    mark = Mark.CANCELLED if task.mark is Mark.SKIPPED else task.mark
    said = (task.key, task.title, task.kind, task.parent, task.body, mark, task.priority, task.estimate_ms)
    work = (task.agent, task.task_type, task.domain, task.acceptance, task.touches, task.run, task.verify)
    return (*said, *work, task.manual, task.approve, dict(task.options))


@given(plan=plans())
def test_what_is_written_is_read_as_the_same_plan(plan: Plan) -> None:
    text = to_markdown(plan)
    again = read_plan(text)
    assert [_same(task) for task in again.tasks] == [_same(task) for task in plan.tasks], text
    assert (again.name, again.title) == (plan.name, plan.title)
    stated = {(edge.task, edge.on, edge.kind) for edge in plan.dependencies if edge.is_explicit}
    assert {(edge.task, edge.on, edge.kind) for edge in again.dependencies if edge.is_explicit} == stated
    assert to_markdown(again) == text
