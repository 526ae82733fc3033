"""Write proposed subtasks into the text of a plan, below their task and in the notation of its author.

Rule: lines are added and none is changed, and what comes out is read again: unless it is the same plan with
exactly these subtasks more, it is refused. So no words of a proposal can become anything else in the plan.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

from orchestrator.core.words import TaskKind
from orchestrator.errors import PlanError
from orchestrator.plan.amounts import MINUTE_MS
from orchestrator.plan.diff import ChangeKind, diff_plans
from orchestrator.plan.keys import find_key, hidden
from orchestrator.plan.markdown_out import can_be_shown, fields_of, reads_as
from orchestrator.plan.model import Plan, PlanTask
from orchestrator.plan.read import read_files
from orchestrator.proposals import Subtask

#: Formats in which tasks are boxes that may stand below each other.
FORMATS = frozenset({"checklist", "coditect", "github", "spec-kit"})

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
_BOX = re.compile(r"(?P<lead>[ \t]*)(?P<bullet>[-*+]|\d+[.)])[ \t]+\[[^\]]?\][ \t]+(?P<words>.*)")
_HEADING = re.compile(r"#{1,6}[ \t]+(?P<words>.*)")
_TAB_WIDTH = 4
_BY_HAND = "Write its subtasks into the file by hand."
#: What is tried before a model is asked.
_PROBE = tuple(Subtask(title=f"Do part {name}", acceptance=("It is done",), estimate_min=60) for name in "pq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A plan with subtasks in it.

    Attributes:
        files: the texts of all its files.
        keys: of the subtasks, in their order.
    """

    files: Mapping[str, str]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where subtasks go, and how its author writes there.

    Attributes:
        at: number of lines before it.
        lead: what stands before a subtask, and `inner` before its fields.
        words: text of the task behind its box, with its id.
    """

    at: int
    lead: str
    inner: str
    bullet: str
    words: str


def require_decomposable(files: Mapping[str, str], task: PlanTask, *, format: str) -> None:  # noqa: A002
    """Refuse a task below which no subtasks can be written.

    Args:
        files: the texts of its plan by path; `task` stands where it says in the one that it names.
        format: of all of them, as read.

    Raises:
        PlanError: its format or its place has no room for them, or it has what only a leaf can have.
    """
    if format not in FORMATS:
        raise PlanError(
            f"A plan in the format {format} takes no subtasks below {task.key} as Markdown does.",
            remedy="Decompose the task in the program that keeps the plan, or write the plan in Markdown.",
        )
    if task.kind is not TaskKind.LEAF:
        raise PlanError(f"{task.key} has subtasks already.", remedy="Name one of them.")
    works = {"run": task.run, "verify": task.verify, "manual": task.manual, "approve": task.approve}
    if names := ", ".join(f"`{name}:`" for name, value in works.items() if value):
        message = f"{task.key} has {names}, which what contains tasks cannot have."
        raise PlanError(message, remedy="Take that out first, or leave the task as it is.")
    with_subtasks(files, task, _PROBE, format=format)


def with_subtasks(
    files: Mapping[str, str],
    task: PlanTask,
    subtasks: Sequence[Subtask],
    *,
    format: str,  # noqa: A002  the word of the CLI
) -> Edit:
    """Return a plan with these subtasks below a task of it that is decomposable.

    Args:
        files, task, format: as in `require_decomposable`.

    Raises:
        PlanError: below the task they would be read as something else.
    """
    before = read_files(files, format=format)
    name = file_of(files, task)
    lines = _LINE.findall(files[name])
    place = _place(lines, task)
    keys = tuple(islice(_free_keys(task.key, {known.key for known in before.tasks}), len(subtasks)))
    tasks = [_task(subtask, key, task) for subtask, key in zip(subtasks, keys, strict=True)]
    end = "\r\n" if "\r\n" in files[name] else "\n"
    head = lines[: place.at]
    if not head[-1].endswith(("\r", "\n")):
        head[-1] += end
    added = [f"{line}{end}" for line in _lines(place, tasks, subtasks, keys, parent=task)]
    edited = {**files, name: "".join([*head, *added, *lines[place.at :]])}
    _require_exact(before, read_files(edited, format=format), task, tasks)
    return Edit(files=edited, keys=keys)


def file_of(files: Mapping[str, str], task: PlanTask) -> str:
    """Return the path of the file in which a task stands."""
    return task.source if task.source in files else next(iter(files))


def _free_keys(key: str, taken: set[str]) -> Iterator[str]:
    return (own for number in count(1) if (own := f"{key}.{number}") not in taken)


def _task(subtask: Subtask, key: str, parent: PlanTask) -> PlanTask:
    return PlanTask(
        key=key,
        has_own_key=True,
        title=subtask.title,
        parent=parent.key,
        priority=parent.priority,
        estimate_ms=subtask.estimate_min * MINUTE_MS,
        agent=subtask.agent or parent.agent,
        acceptance=subtask.acceptance,
        touches=subtask.touches,
    )


def _place(lines: Sequence[str], task: PlanTask) -> _Place:
    """Find the end of what stands below a task, and how its author indents there."""
    line = lines[task.line - 1].lstrip("\ufeff") if 0 < task.line <= len(lines) else ""
    if heading := _HEADING.match(line):
        end = _end(lines, task.line, lambda text: text.startswith("#"))
        return _Place(at=end, lead="", inner="  ", bullet="-", words=heading["words"])
    box = _BOX.match(line)
    if box is None:
        raise PlanError(
            f"{task.key} is no box and no heading in line {task.line}, so nothing can stand below it.",
            remedy=_BY_HAND,
        )
    width = _width(box["lead"])
    end = _end(lines, task.line, lambda text: _width(text) <= width)
    below = next((text for text in lines[task.line : end] if text.strip()), "")
    step = "\t" if box["lead"].startswith("\t") else " " * (len(box["bullet"]) + 1)
    lead = below[: len(below) - len(below.lstrip(" \t"))] or box["lead"] + step
    step = lead.removeprefix(box["lead"]) or step
    bullet = box["bullet"] if box["bullet"] in "-*+" else "-"
    return _Place(at=end, lead=lead, inner=lead + step, bullet=bullet, words=box["words"])


def _end(lines: Sequence[str], start: int, is_over: Callable[[str], bool]) -> int:
    """Return how many lines there are to the last one that is not blank before something else begins."""
    end = start
    for number in range(start, len(lines)):
        if not lines[number].strip():
            continue
        if is_over(lines[number]):
            break
        end = number + 1
    return end


def _width(text: str) -> int:
    """How far a line is indented."""
    spread = text.expandtabs(_TAB_WIDTH)
    return len(spread) - len(spread.lstrip(" "))


def _lines(
    place: _Place,
    tasks: Sequence[PlanTask],
    subtasks: Sequence[Subtask],
    keys: Sequence[str],
    *,
    parent: PlanTask,
) -> Iterator[str]:
    for task, subtask in zip(tasks, subtasks, strict=True):
        is_shown = can_be_shown(task.key)
        before = _shown(place.words, parent.key, task.key) if is_shown else ""
        after = "" if is_shown else f" {hidden(task.key)}"
        is_titled = reads_as(f"- [ ] {before}{task.title}{after}", task)
        title = task.title if is_titled else ""
        yield f"{place.lead}{place.bullet} [ ] {before}{title}{after}".rstrip()
        if not is_titled:
            yield f"{place.inner}- title: {json.dumps(task.title, ensure_ascii=False)}"
        yield from (f"{place.inner}- {name}: {value}" for name, value in fields_of(task, parent))
        if subtask.depends_on:
            on = ", ".join(keys[number - 1] for number in sorted(set(subtask.depends_on)))
            yield f"{place.inner}- depends: {on}"


def _shown(words: str, parent: str, key: str) -> str:
    """The id before a title, in bold, code or plain as its author writes that of the task."""
    found = find_key(words)
    written = words[: len(words) - len(found.rest)] if found and found.key == parent else ""
    is_whole = all(written.count(sign) % 2 == 0 for sign in ("**", "__", "`", "~~"))
    return written.replace(parent, key) if written and is_whole else f"**{key}** "


def _require_exact(before: Plan, after: Plan, parent: PlanTask, tasks: Sequence[PlanTask]) -> None:
    """Refuse an edit that is not read as the same plan with exactly these subtasks more.

    The task itself counts as another one, for it has become a container.
    """
    diff = diff_plans(before.tasks, before.dependencies, after)
    old = next(task for task in before.tasks if (task.source, task.line) == (parent.source, parent.line))
    wanted = {old.key: _says(old), **{task.key: _says(replace(task, parent=old.key)) for task in tasks}}
    found = {task.key: _says(task) for task in after.tasks if task.key in wanted}
    added = [change.key for change in diff.of(ChangeKind.ADDED)]
    removed = [change.key for change in diff.of(ChangeKind.REMOVED)]
    is_alone = len(diff.changes) == len(added) + len(removed) and not diff.marks
    is_exact = (added, removed, found) == (list(wanted), [old.key], wanted)
    if not (is_alone and is_exact and len(after.errors) <= len(before.errors)):
        message = f"Below {parent.key} in line {parent.line} the subtasks would not be read as what they are."
        raise PlanError(message, remedy=_BY_HAND)


def _says(task: PlanTask) -> tuple[object, ...]:
    """What is said of a task; its review may be that of its parent."""
    options = {name: value for name, value in task.options.items() if name != "review"}
    works = (task.run, task.verify, task.manual, task.approve, task.body, task.mark, options)
    about = (task.title, task.priority, task.estimate_ms, task.agent, task.acceptance, task.touches)
    return (task.parent, *about, *works)
