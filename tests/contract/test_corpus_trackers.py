"""The plans of trackers against real files of other people: what they hold, and their states written back.

The corpus lies beside the repository (`../shared/corpus`), or where ORCHESTRATOR_CORPUS points to.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.words import TaskKind
from orchestrator.plan.draft import Draft, Node
from orchestrator.plan.formats import choose_format
from orchestrator.plan.formats.base import PlanFile
from orchestrator.plan.graph import SETTLED_MARKS, PlanGraph
from orchestrator.plan.model import DependencyKind, Mark, Plan
from orchestrator.plan.read import read_path
from orchestrator.plan.render import WRITTEN, write_marks
from orchestrator.plan.report import import_report

REPOSITORY = Path(__file__).parents[2]
CORPUS = Path(os.environ.get("ORCHESTRATOR_CORPUS", REPOSITORY.parent / "shared" / "corpus"))
FORMATS = {"10": "taskmaster", "11": "taskmaster", "12": "beads", "13": "beads", "16": "backlog"}
SEED = 20261121

each_plan = pytest.mark.parametrize("number", FORMATS)
pytestmark = pytest.mark.skipif(not CORPUS.exists(), reason=f"NOT RUN: no corpus at {CORPUS}")


@cache
def _expected(number: str) -> dict[str, Any]:
    entries = json.loads((CORPUS / "expectations.json").read_text())
    found: dict[str, Any] = next(entry for entry in entries if entry["file"].startswith(number))
    return found


@cache
def _plan(number: str) -> Plan:
    return read_path(CORPUS / _expected(number)["file"])


def _files(number: str) -> dict[str, str]:
    """The texts of the files that have tasks, by the names that tasks have as their source."""
    path = CORPUS / _expected(number)["file"]
    names = {task.source for task in _plan(number).tasks}
    return {name: (path / name if name else path).read_bytes().decode() for name in names}


def _draft(text: str) -> Draft:
    file = PlanFile(text)
    return choose_format(file)[0].read(file)


def _stated(nodes: list[Node], kind: DependencyKind) -> int:
    return sum(len(said.keys) for node in nodes for said in node.statements if said.kind is kind)


@each_plan
def test_every_plan_is_known_for_what_it_is_and_can_be_scheduled(number: str) -> None:
    plan = _plan(number)
    assert plan.format == FORMATS[number]
    assert plan.errors == ()
    leaves = [task for task in plan.tasks if task.kind is TaskKind.LEAF]
    waves = PlanGraph(plan.tasks, plan.dependencies).waves()
    assert sum(map(len, waves)) == sum(task.mark not in SETTLED_MARKS for task in leaves)
    json.dumps(import_report(plan))


@pytest.mark.parametrize("number", ["10", "11"])
def test_task_master(number: str) -> None:
    plan, figures = _plan(number), _expected(number)["tags"]["master"]
    nodes = list(_draft(plan.source).root.descendants())
    tasks = [node for node in nodes if "." not in node.own_key]
    subtasks = [node for node in nodes if "." in node.own_key]
    assert (len(tasks), len(subtasks)) == (figures["tasks"], figures["subtasks"])
    assert Counter(node.status_text for node in tasks) == figures["status"]
    assert Counter(node.status_text for node in subtasks) == figures["substatus"]
    assert Counter(node.priority for node in tasks) == {
        {"high": 1, "medium": 2, "low": 3}[word]: count for word, count in figures["prio"].items()
    }
    assert _stated(tasks, DependencyKind.BLOCKS) == figures["deps"]
    assert _stated(subtasks, DependencyKind.BLOCKS) == figures["subdeps"]
    assert plan.with_id == len(plan.tasks) == len(nodes)
    assert "outside-dependency" not in {finding.code for finding in plan.findings}


@pytest.mark.parametrize("number", ["12", "13"])
def test_beads(number: str) -> None:
    plan, figures = _plan(number), _expected(number)
    draft = _draft(plan.source)
    nodes = list(draft.root.descendants())
    states = {"open": draft.checkboxes.open, "closed": draft.checkboxes.done, **draft.checkboxes.other}
    assert states == figures["status"]
    assert plan.with_id == figures["distinct"]
    assert _stated(nodes, DependencyKind.BLOCKS) == figures["deps"]["blocks"]
    assert sum(node.parent is not draft.root for node in nodes) == figures["deps"].get("parent-child", 0)
    assert [finding.code for finding in plan.findings if finding.code != "done-too-early"] == ["left-out"]


def test_backlog() -> None:
    plan, figures = _plan("16"), _expected("16")
    assert (plan.checkboxes.open, plan.checkboxes.done) == (figures["open"], figures["done"])
    assert len(plan.tasks) == plan.with_id == figures["tasks"]
    assert Counter(task.mark for task in plan.tasks) == {Mark.DONE: 5, Mark.OPEN: 2}
    assert Counter(finding.code for finding in plan.findings) == {
        "outside-dependency": 2,
        "unusable-parent": 4,
    }


@each_plan
def test_a_mark_changes_its_value_and_nothing_else(number: str) -> None:
    for name, text in _files(number).items():
        spans = [task.span for task in _plan(number).tasks if task.source == name]
        assert write_marks(text, {}) == text
        for span in spans:
            assert span is not None
            for mark in Mark:
                changed = write_marks(text, {span: mark})
                assert changed[: span.start] == text[: span.start]
                assert changed[span.start :] == WRITTEN[span.notation][mark] + text[span.end :]


@each_plan
def test_written_marks_are_read_again_and_all_others_stay(number: str) -> None:
    dice = random.Random(SEED)
    for text in _files(number).values():
        nodes = list(_draft(text).root.descendants())
        for share in (1.0, 0.5, 0.02):
            marks = [
                dice.choice((Mark.OPEN, Mark.DONE, Mark.IN_PROGRESS)) if dice.random() < share else node.mark
                for node in nodes
            ]
            changes = {node.span: mark for node, mark in zip(nodes, marks, strict=True) if node.span}
            again = list(_draft(write_marks(text, changes)).root.descendants())
            assert [node.own_key for node in again] == [node.own_key for node in nodes]
            assert [node.mark for node in again] == marks, f"seed {SEED}"
