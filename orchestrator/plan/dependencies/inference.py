"""Which dependencies the words of a plan imply: sentences in titles and bodies, chains, sections on order.

Under a heading on dependencies or the critical path a sentence that names both sides is as good as a field:
"T5-T6 depend on T1". Everywhere else it is inferred, with its evidence and how sure it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from orchestrator.plan.dependencies.cues import BLOCKS_CONFIDENCE_MIN
from orchestrator.plan.dependencies.edges import Edges, Said
from orchestrator.plan.dependencies.lookup import Lookup
from orchestrator.plan.dependencies.prose import Hint, read_hints
from orchestrator.plan.dependencies.references import Reference, ReferenceKind, find_references
from orchestrator.plan.draft import Node
from orchestrator.plan.model import DependencyKind

#: What is left of the confidence where the prose of a section is taken to speak of the whole section.
_OF_SECTION = 0.8

_HEADING = re.compile(r"(#{1,6})\s")
_ON_ORDER = re.compile(r"\bdependenc(?:y|ies)\b|\bcritical path\b|\bexecution order\b", re.IGNORECASE)
_FENCE = re.compile(r"`{3,}|~{3,}")
_ARROW = re.compile(r"\s*(?:→|⟶|⇒|=+>|-+>)\s*")
_BRACKETS = re.compile(r"\([^()]*\)")
_DRAWING = re.compile(r"[│├└┌┐┘┤┬┴┼]")
_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)])\s")
_RELATIVE = frozenset(
    {ReferenceKind.SECTIONS, ReferenceKind.ALL, ReferenceKind.TOPIC, ReferenceKind.PREVIOUS}
)


class Inference:
    """Reads the words of the nodes, after everything that is stated in fields."""

    def __init__(self, lookup: Lookup, edges: Edges) -> None:
        self._lookup = lookup
        self._edges = edges

    def read(self, node: Node) -> None:
        """Take what title and body of a node say; the root of a draft is a node without a task."""
        is_on_order = node.is_heading and _ON_ORDER.search(node.title) is not None
        title = node.line_text.replace(node.own_key, " " * len(node.own_key), 1)
        self._prose(node, node.line, title, is_on_order=False)
        level = 1 if is_on_order else 7
        for line, text, is_code in _lines(node.body):
            if heading := _HEADING.match(text) if not is_code else None:
                if _ON_ORDER.search(text):
                    level = min(level, len(heading[1]))
                elif len(heading[1]) <= level:
                    level = 7
            elif level < 7 and _ARROW.search(text):
                self._chain(node, line, text)
            elif not is_code:
                self._prose(node, line, text, is_on_order=level < 7)

    def _prose(self, node: Node, line: int, text: str, *, is_on_order: bool) -> None:
        def is_name(word: str) -> bool:
            is_section = is_on_order and word[0].isupper() and self._lookup.named(word) is not None
            return is_section or self._lookup.is_id(word)

        has_names = is_on_order or self._lookup.has_free_ids
        has_line = bool(node.raw) or node.parent is None  # a record of a tracker stands in no line of its own
        for hint in read_hints(text, is_name=is_name if has_names else None):
            if line > node.line and _ITEM.match(text) and _is_of_list(hint):
                continue
            is_stated = bool(is_on_order and hint.first and hint.then)
            is_stated = is_stated and hint.confidence >= BLOCKS_CONFIDENCE_MIN
            confidence = 1.0 if is_stated else hint.confidence
            kind = hint.kind
            if node.children and not (hint.first and hint.then):
                confidence *= _OF_SECTION
                is_weak = kind is DependencyKind.BLOCKS and confidence < BLOCKS_CONFIDENCE_MIN
                kind = DependencyKind.INFORMS if is_weak else kind
            said = Said(
                kind=kind,
                evidence=text[hint.start : hint.end],
                line=line if has_line else node.line,
                start=hint.start if has_line else 0,
                end=hint.end if has_line else 0,
                is_explicit=is_stated,
                confidence=round(confidence, 2),
            )
            self._edges.infer(*self._sides(node, hint), said, source=node.source)

    def _sides(self, node: Node, hint: Hint) -> tuple[list[Node], list[Node]]:
        """The nodes on both sides; "all prior phases" is seen from the other side."""
        place = node
        for side in (hint.first, hint.then):
            if side and not _is_relative(side):
                place = next(iter(self._nodes(node, side)), place)

        def nodes(side: Sequence[Reference]) -> list[Node]:
            if side:
                return self._nodes(place if _is_relative(side) else node, side)
            return [node] if node.parent is not None else []

        return nodes(hint.first), nodes(hint.then)

    def _nodes(self, place: Node, side: Sequence[Reference]) -> list[Node]:
        found: dict[Node, None] = {}
        for reference in side:
            if reference.kind in _RELATIVE and place.parent is None:
                continue  # the root of a draft stands nowhere, so nothing is before it
            named = self._lookup.named(reference.text) if reference.kind is ReferenceKind.OUTSIDE else None
            targets = [named] if named else self._lookup.targets(place, reference)
            found.update(dict.fromkeys(targets or ()))
        return list(found)

    def _chain(self, node: Node, line: int, text: str) -> None:
        """`A → B → C`: every part waits for the one before it; parts that are no tasks are passed over."""
        if _DRAWING.search(text):
            return
        before: list[Node] = []
        start = before_start = 0
        for arrow in [*_ARROW.finditer(text), None]:
            end = arrow.start() if arrow else len(text)
            part = _BRACKETS.sub(lambda match: " " * len(match[0]), text[start:end])
            named = [each for each in find_references(part) if each.kind is not ReferenceKind.OUTSIDE]
            nodes = self._nodes(node, named)
            if before and nodes:
                said = Said(
                    kind=DependencyKind.BLOCKS,
                    evidence=text[before_start:end],
                    line=line,
                    start=before_start,
                    end=end,
                )
                self._edges.infer(before, nodes, said, source=node.source)
            if nodes:
                before, before_start = nodes, start
            start = arrow.end() if arrow else end


def _is_of_list(hint: Hint) -> bool:
    """Whether it speaks of "the previous step", which in a list below a task is the item before."""
    sides = (*hint.first, *hint.then)
    return any(each.kind is ReferenceKind.PREVIOUS and each.first != "task" for each in sides)


def _is_relative(side: Sequence[Reference]) -> bool:
    return any(reference.kind in _RELATIVE for reference in side)


def _lines(body: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str, bool]]:
    """The lines of a body in order, without their indentation, and whether they stand in a code fence."""
    is_code = False
    for first, text in sorted(body, key=lambda entry: entry[0]):
        for number, line in enumerate(text.split("\n") if "\n" in text else (text,)):
            bare = line.lstrip(" \t>")
            if _FENCE.match(bare):
                is_code = not is_code
            elif bare:
                yield (first + number if first else 0), bare, is_code
        is_code = False
