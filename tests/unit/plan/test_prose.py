"""Dependencies that sentences imply: against the labelled ones, and rule by rule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from orchestrator.plan.model import DependencyKind, Plan
from orchestrator.plan.read import read_plan

PLAN = """
## Phase 1: Groundwork
### A.1 Storage
- [ ] A.1.1 Schema
- [ ] A.1.2 Tables
- [ ] A.1.3 Columns
- [ ] A.1.4 Loader
- [ ] A.1.5 Backup
## Phase 2: Interface
### A.2 Screens
- [ ] A.2.1 Frame
- [ ] A.2.2 Menu
- [ ] A.2.3 The task at hand
{sentence}
- [ ] A.2.4 Help
- [ ] A.2.5 About
## Phase 3: Delivery
- [ ] B.1 One
- [ ] B.2 Two
- [ ] B.3 Three
- [ ] B.4 Four
- [ ] B.5 Five
- [ ] B.6 Six
- [ ] T001 a
- [ ] T002 b
- [ ] T003 c
- [ ] T004 d
- [ ] T005 e
- [ ] T006 f
- [ ] T007 g
- [ ] T008 h
- [ ] 2.1 p
- [ ] 2.2 q
- [ ] 2.3 r
- [ ] 2.4 s
## Section C: Leftovers
- [ ] C.1 Sweep
"""
AT_HAND = "A.2.3"
SIGNS = {DependencyKind.BLOCKS: ">", DependencyKind.INFORMS: "~", DependencyKind.RELATES: "?"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    sentence: str
    edges: frozenset[str]


def _read_labelled() -> dict[str, list[Labelled]]:
    halves: dict[str, list[Labelled]] = {}
    half: list[Labelled] = []
    for line in Path(__file__).with_name("prose_hints.txt").read_text().splitlines():
        if line.startswith("## "):
            half = halves.setdefault(line[3:], [])
        elif "\t" in line and not line.startswith("#"):
            sentence, _, edges = line.partition("\t")
            half.append(Labelled(sentence=sentence, edges=frozenset(edges.split(", ")) - {"-"}))
    return halves


LABELLED = _read_labelled()


def _read(sentence: str) -> Plan:
    return read_plan(PLAN.format(sentence=f"  {sentence}"))


@cache
def _edges(sentence: str) -> frozenset[str]:
    """The edges of a sentence as the labels write them; a section that waits stands for its tasks."""
    plan = _read(sentence)
    leaves = {task.key for task in plan.tasks if task.parent == "phase-3"}
    found = {
        f"{edge.on} {SIGNS[edge.kind]} {edge.task}".replace(AT_HAND, "@")
        for edge in plan.dependencies
        if not edge.is_explicit
    }
    whole = {f"@ > {leaf}" for leaf in leaves}
    return frozenset(found - whole | {"@ > phase-3"} if whole <= found else found)


def test_the_labelled_sentences_are_many_and_hard() -> None:
    both = [labelled for half in LABELLED.values() for labelled in half]
    assert len(both) >= 200
    assert len({labelled.sentence for labelled in both}) == len(both)
    assert sum(not labelled.edges for labelled in both) >= 60


@pytest.mark.parametrize("half", ["development", "held out"])
def test_recall_and_precision(half: str) -> None:
    expected = {(each.sentence, edge) for each in LABELLED[half] for edge in each.edges}
    found = {(each.sentence, edge) for each in LABELLED[half] for edge in _edges(each.sentence)}
    recall, precision = len(expected & found) / len(expected), len(expected & found) / len(found)
    wrong = sorted(
        {("missed", *each) for each in expected - found} | {("made up", *each) for each in found - expected}
    )
    print(f"{half}: recall {recall:.3f}, precision {precision:.3f}, {len(expected)} edges", *wrong, sep="\n")
    assert recall >= 0.95
    assert precision >= 0.95
