"""The order that spec-kit gives to phases and lines without a word about it.

Phases follow each other, and a phase waits for the whole of the one before it; user stories stand side by
side. Inside a phase a task without `[P]` comes after the line before it: that informs, and it blocks when
both touch the same file. Rule: what the author says of a task takes the place of what its phase would say.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from orchestrator.plan.dependencies.edges import Edges, Said
from orchestrator.plan.dependencies.lookup import Lookup, stories
from orchestrator.plan.draft import Draft, Node
from orchestrator.plan.model import DependencyKind

_OF_PHASES = 0.8
_OF_SAME_FILE = 0.75
_OF_LINES = 0.5


class Phases:
    """Orders the phases of drafts whose dialect says so, after everything that their authors say."""

    def __init__(self, lookup: Lookup, edges: Edges) -> None:
        self._lookup = lookup
        self._edges = edges

    def order(self, draft: Draft) -> None:
        """Make the dependencies that the order of one draft implies, with a place for each in its lines."""
        phases = _phases(draft.root)
        for before, group in pairwise(_groups(phases)):
            for phase in group:
                self._wait(phase, before)
        for phase in phases:
            tasks = [leaf for leaf in self._lookup.leaves(phase) if not leaf.is_heading]
            for previous, task in pairwise(tasks):
                if not task.is_parallel:
                    self._follow(task, previous)

    def _wait(self, phase: Node, before: Sequence[Node]) -> None:
        """Let the tasks of a phase wait for the phases before it, but those that say what they wait for."""
        said = _said(phase, phase.title, DependencyKind.BLOCKS, _OF_PHASES)
        for task in self._lookup.leaves(phase):
            if all(self._lookup.holds(phase, on) for on in self._edges.stated_for(task)):
                self._edges.infer(before, [task], said, source=phase.source)

    def _follow(self, task: Node, previous: Node) -> None:
        """Let a task follow the line before it, unless its author says that it comes first."""
        if task in self._edges.stated_for(previous):
            return
        shared = next((path for path in task.touches if path in previous.touches and _is_file(path)), "")
        kind = DependencyKind.BLOCKS if shared else DependencyKind.INFORMS
        confidence = _OF_SAME_FILE if shared else _OF_LINES
        said = _said(task, shared or task.own_key or task.title, kind, confidence)
        self._edges.infer([previous], [task], said, source=task.source)


def _phases(root: Node) -> list[Node]:
    """The outermost sections that are called a phase and have tasks."""
    phases: list[Node] = []
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.alias.startswith("phase ") and node.children:
            phases.append(node)
        else:
            waiting.extend(reversed(node.children))
    return phases


def _groups(phases: Sequence[Node]) -> list[list[Node]]:
    """Phases that stand side by side: user stories in a row; every other phase stands alone."""
    groups: list[list[Node]] = []
    is_after_story = False
    for phase in phases:
        is_story = bool(stories(phase.title))
        if is_story and is_after_story:
            groups[-1].append(phase)
        else:
            groups.append([phase])
        is_after_story = is_story
    return groups


def _is_file(path: str) -> bool:
    """Whether a path names a file: `src/price.ts`, and neither `src/` nor "export/sync"."""
    return "." in path.rpartition("/")[2]


def _said(node: Node, words: str, kind: DependencyKind, confidence: float) -> Said:
    start = max(0, node.line_text.find(words))
    return Said(
        kind=kind,
        evidence=words,
        line=node.line,
        start=start,
        end=start + len(words),
        is_explicit=False,
        confidence=confidence,
    )
