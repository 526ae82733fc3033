"""Which tasks a reference means, at the place where it is made.

Rule: of several tasks with the same id the one is meant that stands in the same section, then in the same
file; and never the one that says it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.plan.dependencies.references import Reference, ReferenceKind
from orchestrator.plan.draft import Node
from orchestrator.plan.keys import KEY, split_number

_SECTION_NAME = re.compile(r"[^:]{1,40}:\s*(?P<name>[^(–—:]{2,60}?)\s*(?:\(|\s[-–—]\s|$)")
_LETTERED = re.compile(r"(?P<letter>[A-Z]{1,2})(?:[.:)]|\s+[-–—])\s")
_FREE_ID = re.compile(rf"(?!{KEY}$)(?=[\w./-]*[\d-])(?=[\w./-]*[A-Za-z])[A-Za-z0-9][\w./-]*\w")
_STORY = re.compile(r"\b(?:user\s+story\s+|US)(\d+[a-z]?)\b", re.IGNORECASE)


class Lookup:
    """Finds nodes by id, section, group and title.

    Args:
        nodes: every node of the plan, parents before children, in the order of the source.
        keys: the key of each node.
        unused_keys: ids on headings that are no task, with their lines.
    """

    def __init__(
        self, nodes: Sequence[Node], keys: Mapping[Node, str], unused_keys: Mapping[str, int]
    ) -> None:
        self.nodes = nodes
        self.keys = keys
        self.unused_keys = unused_keys
        self._start = {node: position for position, node in enumerate(nodes)}
        self._end = dict(self._start)
        for node in reversed(nodes):
            self._end[node] = self._end[node.children[-1]] if node.children else self._start[node] + 1
        shared = {key: node for node in nodes for key in node.other_keys}
        self._by_key = shared | {key: node for node, key in keys.items()}
        self._twins = _several(node.given_key for node in nodes)
        self._files: dict[str, tuple[int, int]] = {}
        for position, node in enumerate(nodes):
            self._files[node.source] = self._files.get(node.source, (position, 0))[0], position + 1
        self._by_title = _unique((_plain_title(node.title), node) for node in nodes)
        self._by_name = _unique((name, node) for node in nodes for name in _names(node))
        self._by_alias = {alias: node for node in reversed(nodes) for alias in _aliases(node)}
        self._numbered: dict[str, list[tuple[int, Node]]] = {}
        for node in nodes:
            if parts := split_number(node.given_key or keys[node]):
                self._numbered.setdefault(parts[0], []).append((parts[1], node))
        for numbered in self._numbered.values():
            numbered.sort(key=_number)
        self._forms = {_form(node.own_key) for node in nodes if node.own_key}
        self._free_ids = {node.own_key for node in nodes if _FREE_ID.fullmatch(node.own_key)}
        self._topics: dict[str, tuple[list[Node], list[int]]] = {}

    def targets(self, node: Node, reference: Reference) -> list[Node] | None:
        """The nodes that a reference at a node names; None if it names none."""
        match reference.kind:
            case ReferenceKind.KEY | ReferenceKind.NUMBER | ReferenceKind.OUTSIDE:
                known = self._known(reference.first, node)
                return [known] if known else None
            case ReferenceKind.RANGE:
                return self._range(node, reference)
            case ReferenceKind.PREVIOUS:
                before = self._sibling_before(node)
                return [before] if before else None
            case ReferenceKind.SECTION:
                return self._sections(node, reference)
            case ReferenceKind.SECTIONS:
                return self._all_sections(node, reference) or None
            case ReferenceKind.ALL:
                return list(self._before(node))
            case ReferenceKind.TOPIC:
                return self._topic(node, reference.first) or None

    def titled(self, text: str) -> Node | None:
        """The one task with that whole title."""
        return self._by_title.get(_plain_title(text))

    def given(self, id_: str, near: Node) -> Node | None:
        """The task to which its author gave exactly this id."""
        node = self._known(id_, near)
        return node if node and node.given_key == id_ else None

    def named(self, name: str) -> Node | None:
        """The one section with that name: `Setup` for "Phase 1: Setup (Shared)"."""
        return self._by_name.get(name.casefold())

    def is_id(self, word: str) -> bool:
        """Whether a word is an id of another form than those that are known from afar, such as `app-a3f`."""
        return word in self._free_ids

    @property
    def has_free_ids(self) -> bool:
        """Whether there are such ids, as in the plans of trackers."""
        return bool(self._free_ids)

    def has_form(self, key: str) -> bool:
        """Whether ids of the plan look like this one."""
        return _form(key) in self._forms

    def holds(self, container: Node, node: Node) -> bool:
        """Whether the node stands somewhere below the container. The root of a draft stands nowhere."""
        return self._start[container] < self._start.get(node, -1) < self._end[container]

    def leaves(self, node: Node) -> Iterator[Node]:
        """The leaves below a node; itself if it is one."""
        below = self.nodes[self._start[node] : self._end[node]]
        return (leaf for leaf in below if not leaf.children)

    def _known(self, key: str, near: Node) -> Node | None:
        for form in (key, key.upper(), key.lower(), f"#{key}"):
            if node := self._by_key.get(form):
                return self._meant(node, near) if node.given_key == form else node
        return None

    def _meant(self, node: Node, near: Node) -> Node:
        """Of the tasks with the id of this one the one that is meant near another."""
        twins = self._twins.get(node.given_key, ())
        for start, end in self._around(near) if twins else ():
            at = bisect_left(twins, start)
            for position in twins[at : at + 2]:
                if position < end and self.nodes[position] is not near:
                    return self.nodes[position]
        return node

    def _around(self, node: Node) -> Iterator[tuple[int, int]]:
        """What stands around a node, from its section to the whole plan, as positions of nodes."""
        section = node.parent
        while section is not None and section.parent is not None:
            yield self._start[section] + 1, self._end[section]
            section = section.parent
        yield self._files.get(node.source, (0, 0))
        yield 0, len(self.nodes)

    def _range(self, node: Node, reference: Reference) -> list[Node] | None:
        """The tasks from one id to another, which must be alike but for their last number."""
        if whole := self._known(reference.text, node):
            return [whole]
        start, end = split_number(reference.first), split_number(reference.last)
        if start is None or end is None or start[0] != end[0] or not self._known(reference.last, node):
            return None
        numbered = self._numbered[start[0]]
        first = bisect_left(numbered, start[1], key=_number)
        after = bisect_right(numbered, end[1], key=_number)
        return list(dict.fromkeys(self._meant(each, node) for _, each in numbered[first:after]))

    def _sections(self, node: Node, reference: Reference) -> list[Node] | None:
        """The named sections; "all Phase 2 tasks" said inside phase 2 means those that stand before."""
        names = [reference.first]
        start, end = split_number(reference.first), split_number(reference.last)
        if start and end:
            names = [f"{start[0]}{number}" for number in range(start[1], min(end[1], start[1] + 999) + 1)]
        found = [section for name in names if (section := self._by_alias.get(name))]
        if len(found) != len(names):
            return None
        if len(found) == 1 and self.holds(found[0], node) and reference.text.lower().startswith("all"):
            return list(self._before(node, within=found[0]))
        return found

    def _all_sections(self, node: Node, reference: Reference) -> list[Node]:
        """All sections of a sort, without the node's own; with a side only those before or after it."""
        found: list[Node] = []
        for alias, section in self._by_alias.items():
            is_own = section is node or self.holds(section, node) or self.holds(node, section)
            is_before = self._start[section] < self._start[node]
            is_wanted = not reference.last or is_before is (reference.last == "earlier")
            if alias.rpartition(" ")[0] == reference.first and is_wanted and not is_own:
                found.append(section)
        return sorted(found, key=self._start.__getitem__)

    def _before(self, node: Node, *, within: Node | None = None) -> Iterator[Node]:
        """The nodes that stand before this one and do not hold it, innermost level first."""
        level = node
        while level.parent is not None and level is not within:
            for sibling in level.parent.children:
                if sibling is level:
                    break
                yield sibling
            level = level.parent

    def _sibling_before(self, node: Node) -> Node | None:
        """What stands directly before a node under the same parent."""
        position = self._start[node]
        before = self.nodes[position - 1] if position else None
        while before is not None and before is not node.parent and before.parent is not node.parent:
            before = before.parent
        return before if before is not node.parent else None

    def _topic(self, node: Node, topic: str) -> list[Node]:
        """The sections whose titles name the topic; without one the tasks of that domain above this one."""
        if topic not in self._topics:
            self._topics[topic] = self._topic_sections(topic), self._leaves_of_domain(topic)
        sections, leaves = self._topics[topic]
        found: list[Node] = []
        for section in sections:
            found.extend(self._before(node, within=section) if self.holds(section, node) else [section])
        if found:
            return found
        return [self.nodes[position] for position in leaves[: bisect_left(leaves, self._start[node])]]

    def _leaves_of_domain(self, domain: str) -> list[int]:
        return [self._start[node] for node in self.nodes if node.domain == domain and not node.children]

    def _topic_sections(self, topic: str) -> list[Node]:
        """The outermost sections whose titles have the word."""
        sections: list[Node] = []
        for node in self.nodes:
            is_inside = bool(sections) and self.holds(sections[-1], node)
            if node.children and not is_inside and topic in node.title.lower().split():
                sections.append(node)
        return sections


def _several(ids: Iterator[str]) -> dict[str, list[int]]:
    """The positions at which ids stand that stand there more than once."""
    found: dict[str, list[int]] = {}
    for position, id_ in enumerate(ids):
        if id_:
            found.setdefault(id_, []).append(position)
    return {id_: positions for id_, positions in found.items() if len(positions) > 1}


def _unique(named: Iterator[tuple[str, Node]]) -> dict[str, Node]:
    """Nodes by a name that no other has."""
    pairs = list(named)
    counts = Counter(name for name, _ in pairs)
    return {name: node for name, node in pairs if name and counts[name] == 1}


def stories(title: str) -> list[str]:
    """The numbers of the user stories that a title names: `1` for "Phase 3: User Story 1 - Export"."""
    return [number.lower() for number in _STORY.findall(title)]


def _aliases(node: Node) -> list[str]:
    """What a section is called: `phase 3`, `user story 1` too for "Phase 3: User Story 1 - Export", and
    `section b` for "B. Screens"."""
    if not node.is_heading:
        return [node.alias] if node.alias else []
    lettered = _LETTERED.match(node.title)
    names = [node.alias, f"section {lettered['letter'].lower()}" if lettered else ""]
    return [alias for alias in (*names, *(f"user story {number}" for number in stories(node.title))) if alias]


def _names(node: Node) -> Iterator[str]:
    """The short names of a section: `setup` for "Phase 1: Setup (Shared)", and `us1` for a story."""
    if node.is_heading and node.alias:
        if match := _SECTION_NAME.match(node.title):
            yield match["name"].casefold()
        yield from (f"us{number}" for number in stories(node.title))


def _number(numbered: tuple[int, Node]) -> int:
    return numbered[0]


def _form(key: str) -> str:
    """The shape of an id up to its first dot: `A` for tracks, `9` for numbers, `A-9` for prefixed ids."""
    return re.sub(r"\d+", "9", re.sub(r"[A-Z]+", "A", key.partition(".")[0]))


def _plain_title(text: str) -> str:
    """Return a title as two writers of it agree on: no marks around it, one case, no full stop."""
    return " ".join(text.strip(" \t.*_`\"“”'").casefold().split())
