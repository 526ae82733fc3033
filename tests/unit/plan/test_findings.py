"""The table of findings: every code has one number, one maker, and a plan in which it is found."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import orchestrator
from orchestrator.plan.encoding import without_loss
from orchestrator.plan.files import agents_beside
from orchestrator.plan.findings import Code, are
from orchestrator.plan.read import read_path, read_plan
from orchestrator.routing import Routing, checked_plan
from orchestrator.settings import Settings

_JSON = '{{"plan_version": 1, "tasks": {}}}'
#: Six hundred tasks that wait for six hundred others.
_MANY = "1.1-1.600 require 1.601-1.1200.\n" + "".join(f"- [ ] 1.{n} b\n" for n in range(1, 1201))
_DEEP = '[{"key": "a", "title": "b", "tasks": ' * 60 + "[]" + "}]" * 60
_TASK = '{"id": 1, "title": "a", "status": "pending"}'
_SUBTASKS = ", ".join(f'{{"id": 2.{n}, "title": "a"}}' for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 1))
_ISSUE = '{"id": "a", "title": "a", "status": "open"}\n'
_LINK = '{{"issue_id": "a", "depends_on_id": "{}", "type": "{}"}}\n'
_BACKLOG = "---\nid: A-1\ntitle: a\nstatus: Idea\nlabels: []\n---\n"

#: Code → line of the finding, and a plan in which it is: a text, or the files of a folder.
EXAMPLES: dict[Code, tuple[int, str | dict[str, str]]] = {
    Code.EMPTY_PLAN: (0, ""),
    Code.STRAY_BYTES: (2, {"plan.md": "- [ ] a\n- [ ] it\udc92s\n"}),
    Code.NO_TASKS: (0, "# Only prose\n"),
    Code.REPLACED_CHARACTERS: (0, "- [ ] a\0\n"),
    Code.FRONT_MATTER: (1, "---\n- a\n---\n- [ ] a\n"),
    Code.UNCLOSED_FENCE: (2, "- [ ] a\n```\n- [ ] b\n"),
    Code.UNCLOSED_COMMENT: (2, "- [ ] a\n<!-- \n- [ ] b\n"),
    Code.UNKNOWN_FORMAT: (0, '{"tasks": []}'),
    Code.INVALID_JSON: (1, '{"plan_version": 1'),
    Code.INVALID_FIELD: (0, _JSON.format('[{"key": "a"}]')),
    Code.TOO_DEEP: (0, _JSON.format(_DEEP)),
    Code.STALE_COUNTS: (1, "---\ntotal_tasks: 2\n---\n- [ ] a\n"),
    Code.DUPLICATE_ID: (2, "- [ ] A.1 a\n- [ ] A.1 b\n"),
    Code.RUN_ON_CONTAINER: (1, "- [ ] a\n  - run: make\n  - [ ] b\n"),
    Code.EMPTY_TITLE: (2, "- [ ] a\n- [ ]\n"),
    Code.CRITERIA_BOXES: (3, "- [ ] a\n## Acceptance criteria\n- [ ] b\n"),
    Code.NUMBERED_TASKS: (1, "1. **Build it**\n2. **Test it**\n"),
    Code.ALMOST_BOX: (2, "- [ ] a\n- [x]b\n"),
    Code.SHARED_BOX: (1, "- [ ] T001-T003 a\n"),
    Code.ODD_ID: (1, "- [ ] A.0.1 a\n"),
    Code.COPIED_FILE: (0, {"a.md": "- [ ] a\n", "copy/a.md": "- [ ] a\n"}),
    Code.RESTORED_ID: (
        1,
        f'{{"tasks": [{{"id": 2, "title": "a", "status": "pending", "subtasks": [{_SUBTASKS}]}}]}}',
    ),
    Code.TAGGED_IDS: (1, f'{{"a": {{"tasks": [{_TASK}]}}, "b": {{"tasks": [{_TASK}]}}}}'),
    Code.LEFT_OUT: (0, _ISSUE + _ISSUE.replace('"a"', '"b"').replace("open", "tombstone")),
    Code.UNUSABLE_PARENT: (1, _ISSUE + _LINK.format("b", "parent-child")),
    Code.VAGUE_TASK: (1, "- [ ] a and b\n  - estimate: 5h\n"),
    Code.DONE_PARENT_OPEN_CHILD: (1, "- [x] a\n  - [ ] b\n"),
    Code.MARK_CONFLICT: (1, "- [ ] a ✅ **DONE**\n"),
    Code.UNKNOWN_MARK: (2, "- [ ] a\n- [o] b\n"),
    Code.STRUCK_TITLE: (1, "- [ ] ~~a~~\n"),
    Code.UNKNOWN_STATUS: (1, _ISSUE.replace("open", "in orbit")),
    Code.OWN_STATUSES: (0, {"config.yml": "statuses: [Idea, Shipped]\n", "tasks/a-1.md": _BACKLOG}),
    Code.DONE_TOO_EARLY: (3, "- [ ] A.1 a\n- [ ] A.2 c\n- [x] A.3 b\n  - depends: A.1, A.2\n"),
    Code.GIVEN_UP_PARENT: (1, "- [>] a\n  - [ ] b\n"),
    Code.UNKNOWN_VALUE: (2, "- [ ] a\n  - priority: soon\n"),
    Code.UNREADABLE_OPTION: (2, "- [ ] a\n  - timeout: banana\n"),
    Code.OUT_OF_BOUNDS: (2, "- [ ] a\n  - attempts: 0\n"),
    Code.NO_FIELD: (2, "- [ ] a\n  - buget: $3\n"),
    Code.UNKNOWN_DEPENDENCY: (2, "- [ ] A.1 a\n  - depends: A.7\n"),
    Code.OUTSIDE_DEPENDENCY: (2, "- [ ] A.1 a\n  - depends: the office key\n"),
    Code.SELF_DEPENDENCY: (2, "- [ ] A.1 a\n  - depends: A.1\n"),
    Code.CYCLE: (1, "- [ ] A.1 a\n  - depends: A.2\n- [ ] A.2 b\n  - depends: A.1\n"),
    Code.INFERRED_CYCLE: (4, "- [ ] A.1 a\n  - depends: A.2\n- [ ] A.2 b\n  Requires A.1.\n"),
    Code.TOO_MUCH_INFERRED: (1, _MANY),
    Code.LOST_CONDITION: (
        1,
        _ISSUE + _ISSUE.replace('"id": "a"', '"id": "b"') + _LINK.format("b", "conditional-blocks"),
    ),
    Code.UNKNOWN_AGENT: (1, "- [ ] a\n  - agent: stern-poet\n"),
    Code.RESERVED_AGENT: (1, "- [ ] a\n  - agent: Gate\n"),
    Code.AGENT_FILE: (3, {"plan.md": "- [ ] a\n", "agents/a.md": "---\nname: a\nbackend: b\n---\n"}),
    Code.AGENT_FILE_REMARK: (3, {"plan.md": "- [ ] a\n", "agents/a.md": "---\nname: a\ntools: Fly\n---\n"}),
    Code.FOREIGN_MODEL: (
        1,
        {
            "plan.md": "- [ ] a\n  - agent: poet\n",
            "agents/poet.md": "---\nname: poet\nbackend: openai\nmodel: opus\n---\n",
        },
    ),
    Code.UNLISTED_MODEL: (
        1,
        {
            "plan.md": "- [ ] a\n  - agent: poet\n",
            "agents/poet.md": "---\nname: poet\nbackend: openai\nmodel: gpt-5.55\n---\n",
        },
    ),
    Code.UNKNOWN_BACKEND: (0, "---\nbackend: banana\n---\n- [ ] a\n"),
    Code.NO_COMMAND: (4, "---\nbackend: command\n---\n- [ ] a\n"),
    Code.COMMAND_REVIEW: (
        4,
        "---\nbackend: command\n---\n- [ ] a\n  - run: make\n  - review: code-reviewer\n",
    ),
}


def test_a_number_and_a_name_are_given_once() -> None:
    numbers = [code.number for code in Code.__members__.values()]
    assert len(set(numbers)) == len(Code.__members__)
    assert all(re.fullmatch(r"P[1-6]\d\d", number) for number in numbers)


def test_every_code_has_an_example() -> None:
    assert set(EXAMPLES) == set(Code)


@pytest.mark.parametrize("code", EXAMPLES, ids=[code.label for code in EXAMPLES])
def test_each_is_found_alone_with_its_line_and_remedy(code: Code, tmp_path: Path) -> None:
    line, text = EXAMPLES[code]
    settings = Settings(home=tmp_path)
    if isinstance(text, str):
        read = read_plan(text)
    else:
        for name, content in text.items():
            (tmp_path / "plan" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "plan" / name).write_bytes(without_loss(content))
        read = read_path(tmp_path / "plan")
    routing = Routing.from_settings(settings).with_own(agents_beside(tmp_path / "plan"))
    plan = checked_plan(read, routing=routing, settings=settings)
    assert [(found.code, found.number, found.line) for found in plan.findings] == [
        (code.label, code.number, line)
    ]
    (finding,) = plan.findings
    assert finding.severity == code.severity
    assert finding.message.endswith(".")
    assert finding.remedy.endswith(".")


def test_findings_are_made_from_the_table_alone() -> None:
    makers = {
        path.name
        for path in Path(orchestrator.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding"
    }
    assert makers == {"findings.py", "errors.py"}  # errors.py: those that came over the wire


def test_one_is_not_many() -> None:
    assert [are(number, "box") for number in (1, 2)] == ["1 box is", "2 boxes are"]
    assert are(3, "task") == "3 tasks are"
