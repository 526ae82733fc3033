"""Which task of a new text is which task of the old one, when a plan was edited.

Rule, in this order: the same id (the author's, or the hidden one of an `<!-- id: -->` comment); the same
title under the same parent; the same title elsewhere; a similar title under the same parent. An id that
several tasks share is no proof: of these the titles tell which is which, then their parents and order. A task
that has become a container, or the other way round, is another one. The same two texts always give the same
answer.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from orchestrator.plan.keys import free_key, id_of
from orchestrator.plan.model import Plan, PlanTask

#: From this on two titles are of one task: `Write the importer` and `Write the importers of tracks`.
SIMILAR_MIN = 0.6
#: Titles are compared with so many neighbours on each side, so that time stays linear.
_NEIGHBOURS = 5


def match_tasks(old: Sequence[PlanTask], new: Sequence[PlanTask]) -> dict[str, str]:
    """Return the old key of each new task that is known, by its new key.

    Args:
        old, new: the tasks of the two texts, parents before their children; keys are unique in each.
    """
    matching = _Matching(old, new)
    matching.by_id()
    matching.by_title(same_parent=True, same_id=True)
    matching.by_title(same_parent=True)
    matching.by_shared_id()
    matching.by_title(same_parent=False)
    matching.by_similar_title()
    return matching.old_of


def keep_keys(new: Plan, old_of: Mapping[str, str]) -> Plan:
    """Return the plan with the keys by which its known tasks go: an id that the author wrote, else the old.

    Of an id that several tasks share each known task keeps the number that it has.

    Args:
        old_of: what `match_tasks` gave.
    """
    shared = _shared_ids(new.tasks)
    names = {task.key: task.key for task in new.tasks if task.has_own_key and id_of(task.key) not in shared}
    used, counts = set(names), dict[str, int]()
    for known in (True, False):
        for task in new.tasks:
            if task.key not in names and (task.key in old_of) is known:
                names[task.key] = free_key(_wanted_key(task, old_of), used, counts)
                used.add(names[task.key])
    return replace(
        new,
        tasks=tuple(
            replace(task, key=names[task.key], parent=names.get(task.parent, "")) for task in new.tasks
        ),
        dependencies=tuple(
            replace(edge, task=names.get(edge.task, edge.task), on=names.get(edge.on, edge.on))
            for edge in new.dependencies
        ),
    )


def _wanted_key(task: PlanTask, old_of: Mapping[str, str]) -> str:
    """The key that a task is to have if no other has it; its author may have given it another id."""
    old = old_of.get(task.key)
    if not task.has_own_key:
        return task.key if old is None else old
    return old if old is not None and id_of(old) == id_of(task.key) else id_of(task.key)


def _shared_ids(tasks: Iterable[PlanTask]) -> frozenset[str]:
    """The ids that several tasks have."""
    counts = Counter(id_of(task.key) for task in tasks if task.has_own_key)
    return frozenset(id_ for id_, count in counts.items() if count > 1)


class _Matching:
    def __init__(self, old: Sequence[PlanTask], new: Sequence[PlanTask]) -> None:
        self._old = {task.key: task for task in old}
        self._new = new
        self._left = dict(self._old)
        self._shared = _shared_ids(old) | _shared_ids(new)
        self.old_of: dict[str, str] = {}

    def _pair(self, new: PlanTask, old: PlanTask) -> None:
        self.old_of[new.key] = old.key
        del self._left[old.key]

    def _unknown(self) -> list[PlanTask]:
        return [task for task in self._new if task.key not in self.old_of]

    def by_id(self) -> None:
        """Pair what has an id of its own that is nobody else's."""
        olds = {id_of(old.key): old for old in self._old.values() if old.has_own_key}
        for task in self._new:
            old = olds.get(id_of(task.key)) if task.has_own_key else None
            if old is not None and old.kind is task.kind and not self._shared_id(task):
                self._pair(task, old)

    def by_title(self, *, same_parent: bool, same_id: bool = False) -> None:
        """Pair equal titles; `same_id` only those that share an id too, where ids are shared."""

        def name(task: PlanTask, parent: str) -> tuple[object, ...]:
            title = " ".join(task.title.casefold().split())
            id_ = self._shared_id(task) if same_id else ""
            return task.kind, title, parent if same_parent else None, id_

        self._pair_equal(name)

    def by_shared_id(self) -> None:
        """Pair what shares an id and a parent."""

        def name(task: PlanTask, parent: str) -> tuple[object, ...]:
            return (task.kind, parent, id_) if (id_ := self._shared_id(task)) else ()

        if self._shared:
            self._pair_equal(name)

    def _pair_equal(self, name: Callable[[PlanTask, str], tuple[object, ...]]) -> None:
        """Pair tasks of equal names, the first with the first; parents come before their children.

        Args:
            name: of a task under a parent of that old key; empty for none.
        """
        waiting: dict[tuple[object, ...], deque[PlanTask]] = defaultdict(deque)
        for old in self._left.values():
            waiting[name(old, old.parent)].append(old)
        for task in self._unknown():
            called = name(task, self._old_parent(task))
            if called and (found := waiting.get(called)):
                self._pair(task, found.popleft())

    def _shared_id(self, task: PlanTask) -> str:
        """Its id, if several tasks of one of the texts have it; else nothing."""
        id_ = id_of(task.key) if task.has_own_key else ""
        return id_ if id_ in self._shared else ""

    def _old_parent(self, task: PlanTask) -> str:
        """The old key of its parent; a name that nobody has if the parent is new."""
        return self.old_of.get(task.parent, "\0") if task.parent else ""

    def by_similar_title(self) -> None:
        olds: dict[str, list[PlanTask]] = defaultdict(list)
        news: dict[str, list[PlanTask]] = defaultdict(list)
        for old in self._left.values():
            olds[old.parent].append(old)
        for task in self._unknown():
            news[task.parent].append(task)
        for parent, tasks in news.items():  # a parent stands, and is paired, before its children
            old_parent = self.old_of.get(parent, "\0") if parent else ""
            for task, old in _best_pairs(tasks, olds.get(old_parent, [])):
                self._pair(task, old)


def _best_pairs(news: Sequence[PlanTask], olds: Sequence[PlanTask]) -> list[tuple[PlanTask, PlanTask]]:
    """Pair what is most alike first; of equals, what stands nearest."""
    pairs = sorted(
        (-ratio, abs(n - o), n, o)
        for n, task in enumerate(news)
        for o in range(max(0, n - _NEIGHBOURS), min(len(olds), n + _NEIGHBOURS + 1))
        if (ratio := _likeness(task, olds[o])) >= SIMILAR_MIN
    )
    found, new_done, old_done = [], set(), set()
    for _, _, n, o in pairs:
        if n not in new_done and o not in old_done:
            new_done.add(n)
            old_done.add(o)
            found.append((news[n], olds[o]))
    return found


def _likeness(new: PlanTask, old: PlanTask) -> float:
    """How alike two titles are, 0 to 1; two ids of the author's are never one task."""
    if new.kind is not old.kind or (new.has_own_key and old.has_own_key):
        return 0.0
    matcher = SequenceMatcher(None, old.title.casefold(), new.title.casefold(), autojunk=False)
    if matcher.real_quick_ratio() < SIMILAR_MIN or matcher.quick_ratio() < SIMILAR_MIN:
        return 0.0
    return matcher.ratio()
