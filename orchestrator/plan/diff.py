"""What an edit of a plan changes: added, changed, moved, marked and removed tasks, each with its reasons."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.plan.identity import keep_keys, match_tasks
from orchestrator.plan.model import Mark, Plan, PlanDependency, PlanTask

#: What an author writes about a task, by the name that a change gives as its reason.
_WRITTEN = (
    "title",
    "body",
    "priority",
    "estimate_ms",
    "agent",
    "acceptance",
    "touches",
    "run",
    "verify",
    "manual",
    "approve",
    "options",
)


class ChangeKind(StrEnum):
    """What happens to a task by an edit."""

    ADDED = "added"
    CHANGED = "changed"
    MOVED = "moved"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A task that an edit touches.

    Attributes:
        key: in the new text; of a removed task, in the old one.
        reasons: what is new about it, such as `title` or `under B.2`.
        line: in the new text; of a removed task, in the old one.
    """

    kind: ChangeKind
    key: str
    title: str
    reasons: tuple[str, ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkChange:
    """A known task whose author has changed its mark; `key` is the one in the new text."""

    key: str
    old: Mark
    new: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDiff:
    """The way from an old text to a new one.

    Attributes:
        plan: the new plan, its known tasks under the keys by which they go.
        old_of: old key of each known task, by its key in `plan`.
        changes: in the order of the new text, removed tasks last.
    """

    plan: Plan
    old_of: Mapping[str, str]
    changes: tuple[Change, ...]
    marks: tuple[MarkChange, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the edit means nothing, such as a blank line."""
        return not self.changes and not self.marks

    def of(self, kind: ChangeKind) -> tuple[Change, ...]:
        """The changes of one kind."""
        return tuple(change for change in self.changes if change.kind is kind)


def diff_plans(
    old: Sequence[PlanTask],
    old_edges: Iterable[PlanDependency],
    new: Plan,
    *,
    decided: frozenset[tuple[str, str]] = frozenset(),
) -> PlanDiff:
    """Compare what is stored with a new text.

    Args:
        old: the stored tasks, in their order, each with the mark of the text that they were read from.
        old_edges: the stored dependencies.
        decided: pairs of keys (task, on) of which a person has decided: what a text says of them is no news.
    """
    old_of = match_tasks(old, new.tasks)
    plan = keep_keys(new, old_of)
    known = {
        task.key: old_of[before.key]
        for before, task in zip(new.tasks, plan.tasks, strict=True)
        if before.key in old_of
    }
    by_key = {task.key: task for task in old}
    moved = _moved(by_key, plan.tasks, known)
    edges = _edges_by_task(old_edges, {}, decided), _edges_by_task(plan.dependencies, known, decided)
    kept = frozenset(known.values())
    return PlanDiff(
        plan=plan,
        old_of=known,
        changes=(
            *(
                change
                for task in plan.tasks
                for change in _changes(task, by_key.get(known.get(task.key, "")), moved, edges)
            ),
            *(
                Change(kind=ChangeKind.REMOVED, key=task.key, title=task.title, line=task.line)
                for task in old
                if task.key not in kept
            ),
        ),
        marks=tuple(
            MarkChange(key=task.key, old=before.mark, new=task.mark)
            for task in plan.tasks
            if (before := by_key.get(known.get(task.key, ""))) is not None and before.mark is not task.mark
        ),
    )


_Edges = Mapping[str, frozenset[tuple[str, str]]]


def _changes(
    task: PlanTask, old: PlanTask | None, moved: Mapping[str, str], edges: tuple[_Edges, _Edges]
) -> Iterator[Change]:
    def change(kind: ChangeKind, *reasons: str) -> Change:
        return Change(kind=kind, key=task.key, title=task.title, reasons=reasons, line=task.line)

    if old is None:
        yield change(ChangeKind.ADDED)
        return
    reasons = [name for name in _WRITTEN if getattr(task, name) != getattr(old, name)]
    if task.key != old.key:
        reasons.insert(0, f"id, was {old.key}")
    before, now = (edges[0].get(old.key), edges[1].get(old.key))
    if (before or frozenset()) != (now or frozenset()):
        reasons.append("dependencies")
    if reasons:
        yield change(ChangeKind.CHANGED, *reasons)
    if task.key in moved:
        yield change(ChangeKind.MOVED, moved[task.key])


def _edges_by_task(
    edges: Iterable[PlanDependency], old_of: Mapping[str, str], decided: frozenset[tuple[str, str]]
) -> _Edges:
    """What each task waits for, with both ends under their old keys."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for edge in edges:
        task, on = old_of.get(edge.task, edge.task), old_of.get(edge.on, edge.on)
        if (task, on) not in decided:
            found[task].add((on, edge.kind.value))
    return {task: frozenset(on) for task, on in found.items()}


def _moved(old: Mapping[str, PlanTask], new: Sequence[PlanTask], known: Mapping[str, str]) -> dict[str, str]:
    """Tell where known tasks stand now: under another parent, in another file, in another order."""
    place = {key: number for number, key in enumerate(old)}
    siblings: dict[str, list[str]] = defaultdict(list)
    moved: dict[str, str] = {}
    for task in new:
        if task.key not in known:
            continue
        before = old[known[task.key]]
        if before.parent != known.get(task.parent, task.parent):
            moved[task.key] = f"under {task.parent}" if task.parent else "to the top"
        elif before.source != task.source:
            moved[task.key] = f"to {task.source}"
        else:
            siblings[task.parent].append(task.key)
    for keys in siblings.values():
        places = [place[known[key]] for key in keys]
        staying = _longest_rise(places)
        moved |= {key: "in its order" for number, key in enumerate(keys) if number not in staying}
    return moved


def _longest_rise(values: Sequence[int]) -> frozenset[int]:
    """Return the indexes of the longest rising subsequence: what did not move."""
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for index, value in enumerate(values):
        at = bisect_left(tails, value)
        before.append(ends[at - 1] if at else -1)
        if at == len(tails):
            tails.append(value)
            ends.append(index)
        else:
            tails[at], ends[at] = value, index
    found, index = set(), ends[-1] if ends else -1
    while index >= 0:
        found.add(index)
        index = before[index]
    return frozenset(found)
