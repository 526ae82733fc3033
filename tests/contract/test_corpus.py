"""The importer against real plans of other people: the shared corpus and its checked figures.

The corpus lies beside the repository (`../shared/corpus`), or where ORCHESTRATOR_CORPUS points to.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from orchestrator.core.words import TaskKind
from orchestrator.plan.dependencies.references import ReferenceKind, references
from orchestrator.plan.fields import split_field
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.markdown import Text, scan
from orchestrator.plan.model import DependencyKind, Mark, Notation, Plan
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


def _lines_of(number: str, first: int, last: int) -> dict[int, set[tuple[str, str]]]:
    """The written `blocks` between two lines of a file, by line: (what waits, for what)."""
    found: dict[int, set[tuple[str, str]]] = {}
    for edge in _plan(number).dependencies:
        if edge.is_explicit and edge.kind is DependencyKind.BLOCKS and first <= edge.line <= last:
            found.setdefault(edge.line, set()).add((edge.task, edge.on))
    return found


def test_dependencies_in_brackets_of_07() -> None:
    brackets = _lines_of("07", 1, 178)
    assert len(brackets) == 31
    assert brackets[121] == {("T060", f"T0{number}") for number in range(35, 41)}


def test_the_section_on_dependencies_of_07() -> None:
    """A sentence may repeat what brackets say; then the brackets are the evidence."""
    known = {(edge.task, edge.on) for edge in _plan("07").dependencies}
    lines = _plan("07").source.split("\n")
    pattern = re.compile(r"- (T\d+)(?:-(T\d+))? depends? on ([T\d, -]+\d)")
    statements = [match for line in lines[219:235] if (match := pattern.match(line))]
    assert len(statements) == 15
    for match in statements:
        waits = _numbers(f"{match[1]}-{match[2] or match[1]}")
        expected = {(task, on) for task in waits for on in _numbers(match[3]) if task != on}
        assert expected <= known, match[0]
    chain = _lines_of("07", 185, 185)[185]
    assert len(chain) == 11 * 18 + 18 * 6 - 6 + 6 + 3 + 3  # six pairs stand in brackets as well
    groups = _lines_of("07", 200, 209)
    assert {line: len(edges) for line, edges in groups.items()} == {200: 9 * 6, 206: 2 * 2 - 1, 209: 3 - 2}


def _numbers(text: str) -> list[str]:
    """`T006, T008-T009` as the ids that it means."""
    found = []
    for first, last in re.findall(r"T(\d+)(?:-T(\d+))?", text):
        found += [f"T{number:03}" for number in range(int(first), int(last or first) + 1)]
    return found


def _phases(number: str, first: int, last: int) -> dict[str, set[str]]:
    """Which phases each phase waits for, by what is written between two lines."""
    phase_of: dict[str, str] = {}
    for task in _plan(number).tasks:
        phase_of[task.key] = phase_of.get(task.parent, task.key)
    found: dict[str, set[str]] = {}
    for edges in _lines_of(number, first, last).values():
        for waiting, on in edges:
            found.setdefault(phase_of[waiting].removeprefix("phase-"), set()).add(on.removeprefix("phase-"))
    return found


def test_the_phases_of_08() -> None:
    assert _phases("08", 259, 268) == {
        **{str(phase): {"2"} for phase in (3, 6)},
        "2": {"1"},
        **{str(phase): {"2", "3"} for phase in (4, 5, 7)},
        "8": {"2", "4", "5"},
        "9": {"2", *"345678"},
        "10": {*"123456789"},
    }


def test_the_phases_and_stories_of_09() -> None:
    assert _phases("09", 151, 172) == {
        "2": {"1"},
        "3": {"2"},
        "4": {"2"},
        "5": {"2", "4"},
        "6": {"3", "4", "5"},
    }


@pytest.mark.parametrize("number", ["02", "03", "05", "06", "14", "15"])
def test_files_without_dependencies_have_none(number: str) -> None:
    """Two tasks of 05 point at others ("see G.2"), which orders nothing."""
    assert all(edge.kind is DependencyKind.RELATES for edge in _plan(number).dependencies)


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


@each_file
def test_inferred_dependencies_cut_their_words_from_their_line(expected: Expected) -> None:
    plan = _read(expected.path)
    lines = [line.lstrip(" \t>") for line in plan.source.splitlines()]
    for edge in plan.dependencies:
        if not edge.is_explicit:
            assert edge.evidence
            assert lines[edge.line - 1][edge.start : edge.end] == edge.evidence


def test_the_corpus_has_inferred_dependencies() -> None:
    inferred = [edge for each in EXPECTED for edge in _read(each.path).dependencies if not edge.is_explicit]
    assert len(inferred) > 100
