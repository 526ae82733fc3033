"""The importer against real plans of other people: the shared corpus and its checked figures.

The corpus lies beside the repository (`../shared/corpus`), or where ORCHESTRATOR_CORPUS points to.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from orchestrator.core.words import TaskKind
from orchestrator.plan.dependencies import ReferenceKind, references
from orchestrator.plan.fields import split_field
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.markdown import Text, scan
from orchestrator.plan.model import Mark, Notation, Plan
from orchestrator.plan.read import read_path
from orchestrator.plan.report import import_report

REPOSITORY = Path(__file__).parents[2]
CORPUS = Path(os.environ.get("ORCHESTRATOR_CORPUS", REPOSITORY.parent / "shared" / "corpus"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    path: str
    figures: dict[str, Any]


def _expected() -> list[Expected]:
    """The Markdown files of the corpus with their figures; those of a folder one by one."""
    if not (CORPUS / "expectations.json").exists():
        return []
    found = []
    for entry in json.loads((CORPUS / "expectations.json").read_text()):
        files = entry.get("files", [{**entry, "path": ""}])
        paths = [Expected(path=f"{entry['file']}{file['path']}", figures=file) for file in files]
        found.extend(expected for expected in paths if expected.path.endswith(".md"))
    return found


EXPECTED = _expected()
needs_corpus = pytest.mark.skipif(not EXPECTED, reason=f"NOT RUN: no corpus at {CORPUS}")
each_file = pytest.mark.parametrize("expected", EXPECTED, ids=lambda expected: expected.path[:24])
each_plan = pytest.mark.parametrize(
    "expected", [each for each in EXPECTED if "ids_distinct" in each.figures], ids=lambda each: each.path[:24]
)
pytestmark = needs_corpus


@cache
def _read(path: str) -> Plan:
    return read_path(CORPUS / path)


def _plan(number: str) -> Plan:
    return next(_read(expected.path) for expected in EXPECTED if expected.path.startswith(number))


def test_the_corpus_is_whole() -> None:
    assert len(EXPECTED) == 18


@each_file
def test_checkboxes(expected: Expected) -> None:
    boxes = _read(expected.path).checkboxes
    figures = expected.figures
    assert (boxes.open, boxes.done) == (figures["open"], figures["done"])
    assert boxes.other == figures.get("other", {})


@each_file
def test_a_commonmark_parser_counts_the_same(expected: Expected) -> None:
    text = (CORPUS / expected.path).read_bytes().decode()
    boxes = scan(text).checkboxes
    states: Counter[str] = Counter()
    tokens = MarkdownIt("commonmark").parse(text)
    for before, _, token in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if before.type == "list_item_open" and token.type == "inline" and token.content[:1] == "[":
            is_box = token.content[2:3] == "]" and token.content[3:4] in ("", " ", "\n")
            states[token.content[1]] += is_box
    other = {mark: count for mark, count in states.items() if mark not in " xX" and count}
    assert (states[" "], states["x"] + states["X"], other) == (boxes.open, boxes.done, boxes.other)


@each_plan
def test_ids(expected: Expected) -> None:
    """`with_id` counts what has the form of an id, as the corpus does: in 02 that is one, `SHA-256`."""
    assert _read(expected.path).with_id == expected.figures["ids_distinct"]


def test_an_algorithm_is_no_key_though_it_has_the_form_of_an_id() -> None:
    """SOURCES.md: in 02 "the one id found is `SHA-256`, an algorithm: the right answer is 0"."""
    plan = _plan("02")
    assert plan.with_id == 1
    assert sum(task.has_own_key for task in plan.tasks) == 0


@each_file
def test_marks_stand_where_they_are_said_to(expected: Expected) -> None:
    text = (CORPUS / expected.path).read_bytes().decode()
    plan = _read(expected.path)
    assert plan.source == text
    for task in plan.tasks:
        assert task.span is not None
        if task.span.notation in (Notation.BOX, Notation.NEW_BOX):  # a `Status` field stands below its task
            assert text.count("\n", 0, task.span.start) == task.line - 1
        if task.span.notation is Notation.BOX:
            assert text[task.span.start - 1] == "["
            assert text[task.span.end] == "]"


@each_plan
def test_no_plan_has_errors_and_all_can_be_scheduled(expected: Expected) -> None:
    plan = _read(expected.path)
    assert [finding.message for finding in plan.errors] == []
    graph = PlanGraph(plan.tasks, plan.dependencies)
    leaves = [task for task in plan.tasks if task.kind is TaskKind.LEAF]
    left = [task for task in leaves if task.mark not in (Mark.DONE, Mark.DEFERRED, Mark.CANCELLED)]
    assert leaves
    assert sum(map(len, graph.waves())) == len(left)
    assert len({task.key for task in plan.tasks}) == len(plan.tasks)
    json.dumps(import_report(plan))


@pytest.mark.parametrize(
    ("number", "format_name", "leaves"),
    [
        ("01", "coditect", 174),
        ("03", "coditect", 113),
        ("05", "coditect", 182),
        ("06", "checklist", 53),
        ("07", "spec-kit", 85),
        ("08", "spec-kit", 81),
        ("09", "spec-kit", 60),
        ("15", "checklist", 100),
    ],
)
def test_formats_and_tasks(number: str, format_name: str, leaves: int) -> None:
    plan = _plan(number)
    assert plan.format == format_name
    assert sum(task.kind is TaskKind.LEAF for task in plan.tasks) == leaves


def _statements(number: str) -> list[list[Any]]:
    """What each `Dependencies` field line of a file names."""
    blocks = scan(_plan(number).source).blocks
    fields = [split_field(block.text) for block in blocks if isinstance(block, Text)]
    return [references(field[1]) for field in fields if field and field[0] == "depends"]


def _kinds(statements: list[list[Any]]) -> Counter[str]:
    """Lines by what they hold: `none`, a number of ids, `range` or `group`."""
    found: Counter[str] = Counter()
    for named in statements:
        kinds = {reference.kind for reference in named}
        if not named:
            found["none"] += 1
        elif kinds == {ReferenceKind.KEY}:
            found[f"{len(named)} ids"] += 1
        else:
            found["range" if kinds == {ReferenceKind.RANGE} else "group"] += 1
    return found


def test_dependency_statements_of_01() -> None:
    statements = _statements("01")
    assert _kinds(statements) == {"1 ids": 163, "2 ids": 4, "none": 2, "group": 5}
    in_phase_0 = Counter({"1 ids": 14, "2 ids": 1, "none": 2, "group": 1})
    assert _kinds(statements[:18]) == in_phase_0
    assert sum(edge.evidence.replace(".", "").isdigit() for edge in _plan("01").dependencies) == 171


def test_dependency_statements_of_04() -> None:
    assert _kinds(_statements("04")) == {
        "1 ids": 42,
        "2 ids": 20,
        "3 ids": 6,
        "4 ids": 3,
        "range": 2,
        "group": 3,
        "none": 2,
    }
    edges = _plan("04").dependencies
    assert sum(edge.evidence.replace(".", "").isdigit() for edge in edges) == 112
    assert sorted(edge.on for edge in edges if edge.evidence == "7.1-7.9") == [f"7.{n}" for n in range(1, 10)]


def test_dependencies_in_brackets_of_07() -> None:
    on = {edge.on for edge in _plan("07").dependencies if edge.task == "T060"}
    assert on == {f"T0{number}" for number in range(35, 41)}
    assert len({edge.task for edge in _plan("07").dependencies}) == 31


@pytest.mark.parametrize("number", ["02", "03", "05", "06", "14", "15"])
def test_files_without_dependencies_have_none(number: str) -> None:
    assert _plan(number).dependencies == ()


def test_the_unclosed_fence_of_14_is_reported() -> None:
    assert "unclosed-fence" in {finding.code for finding in _plan("14").findings}


def test_line_ends_do_not_matter(tmp_path: Path) -> None:
    """No licensed file with CRLF was found, so one is made."""
    plan = _plan("05")
    path = tmp_path / "plan.md"
    path.write_bytes(plan.source.replace("\n", "\r\n").encode())
    crlf = read_path(path)
    assert [(task.key, task.title, task.line, task.body) for task in crlf.tasks] == [
        (task.key, task.title, task.line, task.body) for task in plan.tasks
    ]
