"""Bring the marks of a plan's files and the states in the database together: pure.

Rule: what one side has changed since both agreed, the other follows. Where both have changed the same mark,
and not to the same, nobody follows: it is a conflict, and stays one until a person makes them agree. In a
file nothing but marks is ever written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.plan.identity import match_tasks
from orchestrator.plan.marks import agrees, mark_of
from orchestrator.plan.model import Mark, MarkSpan, PlanTask
from orchestrator.plan.render import write_marks
from orchestrator.plan.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A mark that the author has set and the database is to follow; `key` is the one it knows."""

    key: str
    mark: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkConflict:
    """A mark that both sides have changed."""

    key: str
    source: str
    line: int
    in_file: Mark
    in_database: Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """What is to be done.

    Attributes:
        marks: those of the database that are to be written, by file.
        files: the text of each file, these marks written.
        base: the texts that both sides agree on after that; as before at marks that are sent or in conflict.
        missing: keys of the tasks that the files no longer have.
        sends: in the order of the files. Until the database agrees they are sent again with each merge.
    """

    marks: Mapping[str, Mapping[MarkSpan, Mark]]
    files: Mapping[str, str]
    base: Mapping[str, str]
    missing: tuple[str, ...]
    sends: tuple[Sent, ...]
    conflicts: tuple[MarkConflict, ...]

    @property
    def written(self) -> int:
        """How many marks of the database are to be written."""
        return sum(map(len, self.marks.values()))


def merge(
    base: Sequence[PlanTask],
    found: Sequence[PlanTask],
    files: Mapping[str, str],
    database: Mapping[str, Standing],
) -> Merge:
    """Merge.

    Args:
        base: the tasks of the texts that both sides agreed on last, under the keys of the database.
        found: the tasks that the files have now.
        files: the text of each file, by the `source` of its tasks.
        database: where each task stands, by key.
    """
    known = {task.key: task for task in base}
    old_of = match_tasks(base, found)
    found_keys = frozenset(old_of.values())
    written: dict[str, dict[MarkSpan, Mark]] = defaultdict(dict)
    waiting: dict[str, dict[MarkSpan, Mark]] = defaultdict(dict)
    sends: list[Sent] = []
    conflicts: list[MarkConflict] = []
    for task in found:
        before = known.get(old_of.get(task.key, ""))
        standing = database.get(before.key) if before is not None else None
        if before is None or standing is None or task.span is None:
            continue
        wanted = _wanted(before.mark, standing)
        if task.mark is before.mark:
            if wanted is not None:
                written[task.source][task.span] = wanted
            continue
        if agrees(task.mark, standing):
            continue
        waiting[task.source][task.span] = before.mark
        if wanted is None:
            sends.append(Sent(key=before.key, mark=task.mark))
        else:
            conflicts.append(
                MarkConflict(
                    key=before.key,
                    source=task.source,
                    line=task.line,
                    in_file=task.mark,
                    in_database=wanted,
                )
            )
    return Merge(
        marks=written,
        files={name: write_marks(text, written.get(name, {})) for name, text in files.items()},
        base={
            name: write_marks(text, {**written.get(name, {}), **waiting.get(name, {})})
            for name, text in files.items()
        },
        missing=tuple(key for key in known if key not in found_keys),
        sends=tuple(sends),
        conflicts=tuple(conflicts),
    )


def _wanted(before: Mark, standing: Standing) -> Mark | None:
    """Return the mark that the database wants to be written; None if it has not changed."""
    if agrees(before, standing):
        return None
    return mark_of(standing)
