"""What may be wrong with a plan as a whole. Every finding names the thing, the reason and the remedy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from orchestrator.core.words import TaskKind
from orchestrator.errors import Finding
from orchestrator.plan.amounts import HOUR_MS
from orchestrator.plan.draft import Draft, Node
from orchestrator.plan.findings import Code, are
from orchestrator.plan.graph import SETTLED_MARKS, PlanGraph
from orchestrator.plan.model import Checkboxes, DependencyKind, Mark, PlanDependency, PlanTask
from orchestrator.plan.states import BOX_MARKS

CYCLES_SHOWN_MAX = 20
#: What front matter may count: tasks with a mark; None = all of them.
_COUNTS = {
    "total_tasks": None,
    "completed_tasks": Mark.DONE,
    "in_progress_tasks": Mark.IN_PROGRESS,
    "blocked_tasks": Mark.BLOCKED,
}
#: From this on a task is large, and what joins several things in its title.
_LARGE_MS = 4 * HOUR_MS
_SEVERAL = re.compile(r"\band\b|[,;&+]", re.IGNORECASE)
_WRITE_ONE = "Write at least one task, such as `- [ ] A.1.1 Say hello`."


def check_plan(
    tasks: Sequence[PlanTask],
    dependencies: Sequence[PlanDependency],
    *,
    drafts: Sequence[Draft],
    nodes: Sequence[Node],
    source: str,
) -> Iterator[Finding]:
    """Yield the findings that concern more than one line.

    Args:
        nodes: the nodes of the tasks, in the same order.
        source: the whole text.
    """
    yield from _no_tasks(tasks, drafts, source)
    yield from _work_on_containers(nodes, drafts)
    yield from _done_parents(nodes)
    yield from _done_too_early(tasks, dependencies)
    yield from _vague_tasks(tasks)
    yield from _stale_counts(drafts)
    yield from _cycles(tasks, dependencies, nodes)


def duplicate_key(node: Node, first: Node) -> Finding:
    """The finding for a second task with the same id."""
    where = f"{first.source} {first.place}" if first.source != node.source else first.place
    taken = f"The id {node.given_key} at {node.place} is already taken at {where}"
    message = f"{taken}: a number behind it tells the two apart."
    return Code.DUPLICATE_ID.at(node.line, message, remedy="Give one of them another id.", source=node.source)


def _no_tasks(tasks: Sequence[PlanTask], drafts: Sequence[Draft], source: str) -> Iterator[Finding]:
    if not source.strip("\ufeff \t\r\n"):
        yield Code.EMPTY_PLAN.at(0, "The plan is empty.", remedy=_WRITE_ONE)
    elif not any(task.kind is TaskKind.LEAF for task in tasks) and not _has_errors(drafts):
        yield Code.NO_TASKS.at(0, "The plan has no tasks.", remedy=_WRITE_ONE)


def _has_errors(drafts: Sequence[Draft]) -> bool:
    return any(finding.severity == "error" for draft in drafts for finding in draft.findings)


def _work_on_containers(nodes: Sequence[Node], drafts: Sequence[Draft]) -> Iterator[Finding]:
    """Only leaves are executed, so work written on anything else would never be done."""
    for node in (*(draft.root for draft in drafts), *nodes):
        is_leaf = node.parent is not None and not node.children
        works = {"run": node.run, "verify": node.verify, "manual": node.manual, "approve": node.approve}
        if not is_leaf and any(works.values()):
            names = ", ".join(f"`{name}:`" for name, value in works.items() if value)
            what = (
                f"{node.own_key or node.title} contains tasks"
                if node.parent
                else "The plan itself is no task"
            )
            message = f"{what} and has {names}, which only tasks can have."
            yield Code.RUN_ON_CONTAINER.at(
                node.line, message, remedy="Move it to a task below.", source=node.source
            )


def _done_parents(nodes: Sequence[Node]) -> Iterator[Finding]:
    """A container is what its tasks are, whatever its own mark says."""
    for node in nodes:
        if not (node.has_mark and node.mark in SETTLED_MARKS):
            continue
        children = [child for child in node.children if child.mark is Mark.OPEN]
        if children:
            name, said = node.own_key or node.title, node.mark.value
            message = (
                f"{name} is {said} and {are(len(children), 'task')} open in it, "
                f"the first at {children[0].place}: what is open will be run."
            )
            remedy = f"Mark that as {said} too, or open the task above."
            code = Code.DONE_PARENT_OPEN_CHILD if node.mark is Mark.DONE else Code.GIVEN_UP_PARENT
            yield code.at(node.line, message, remedy=remedy, source=node.source)


def _done_too_early(tasks: Sequence[PlanTask], dependencies: Sequence[PlanDependency]) -> Iterator[Finding]:
    """Only what the author states himself is held against his own marks."""
    done = {task.key: task for task in tasks if task.kind is TaskKind.LEAF and task.mark is Mark.DONE}
    open_ = {task.key for task in tasks if task.kind is TaskKind.LEAF and task.mark not in SETTLED_MARKS}
    for edge in dependencies:
        is_stated = edge.is_explicit and edge.kind is DependencyKind.BLOCKS
        if is_stated and edge.on in open_ and (task := done.pop(edge.task, None)):
            message = f"{edge.task} is done, and {edge.on}, which it depends on, is not."
            remedy = f"Mark {edge.on} as done, or remove the dependency."
            yield Code.DONE_TOO_EARLY.at(task.line, message, remedy=remedy, source=task.source)


def _vague_tasks(tasks: Sequence[PlanTask]) -> Iterator[Finding]:
    """Of what is much, manifold and nowhere described, an agent does a part and calls it done."""
    for task in tasks:
        is_open_leaf = task.kind is TaskKind.LEAF and task.mark is Mark.OPEN
        is_large = is_open_leaf and (task.estimate_ms or 0) > _LARGE_MS
        is_told = any((task.body.strip(), task.acceptance, task.verify, task.run, task.manual))
        if is_large and not is_told and _SEVERAL.search(task.title):
            message = f"{task.key} takes more than 4 h, is several things in one, and has no criteria."
            remedy = f"Split it, or see what `orchestrator decompose PLAN {task.key}` proposes."
            yield Code.VAGUE_TASK.at(task.line, message, remedy=remedy, source=task.source)


def _stale_counts(drafts: Sequence[Draft]) -> Iterator[Finding]:
    """The front matter may count boxes or tasks; it is stale when it is right about neither."""
    for draft in drafts:
        boxes = _counted(draft.checkboxes)
        tasks = Counter(node.mark for node in draft.root.descendants() if not node.children)
        stale = [
            f"{name} {given}, and there are {boxes[mark] if mark else boxes.total()}"
            for name, mark in _COUNTS.items()
            if (given := str(draft.meta.get(name, ""))).isdecimal()
            and int(given) not in {count[mark] if mark else count.total() for count in (boxes, tasks)}
        ]
        if stale:
            message = f"The front matter says {'; '.join(stale)}."
            remedy = "Correct the numbers, or leave them out: nothing reads them."
            yield Code.STALE_COUNTS.at(1, message, remedy=remedy, source=draft.root.source)


def _counted(boxes: Checkboxes) -> Counter[Mark]:
    counted = Counter({Mark.OPEN: boxes.open, Mark.DONE: boxes.done})
    for sign, number in boxes.other.items():
        counted[BOX_MARKS.get(sign, Mark.OPEN)] += number
    return counted


def _cycles(
    tasks: Sequence[PlanTask], dependencies: Sequence[PlanDependency], nodes: Sequence[Node]
) -> Iterator[Finding]:
    if not dependencies:
        return
    places = {task.key: node.place for task, node in zip(tasks, nodes, strict=True)}
    by_key = {task.key: task for task in tasks}
    for cycle in PlanGraph(tasks, dependencies).cycles()[:CYCLES_SHOWN_MAX]:
        way = " → ".join(f"{key} ({places[key]})" for key in cycle.keys)
        said = ", ".join(map(told, filter(None, cycle.dependencies)))
        first = by_key[cycle.keys[0]]
        yield Code.CYCLE.at(
            first.line,
            f"These tasks wait for each other: {way}. It is said by {said}.",
            remedy=f"Remove one of these dependencies; the weakest is {told(cycle.weakest)}.",
            source=first.source,
        )


def inferred_cycles(demoted: Sequence[PlanDependency], tasks: Sequence[PlanTask]) -> Iterator[Finding]:
    """The findings for what was inferred and only informs, because it would have closed a cycle."""
    sources = {task.key: task.source for task in tasks} if demoted else {}
    for edge in demoted:
        message = f"{told(edge)} would close a cycle, so nothing waits for it."
        remedy = "If it is right, state it in a `Dependencies:` line and remove what contradicts it."
        yield Code.INFERRED_CYCLE.at(edge.line, message, remedy=remedy, source=sources[edge.task])


def told(edge: PlanDependency) -> str:
    """A dependency with its evidence, in words."""
    place = f" in line {edge.line}" if edge.line else ""
    sure = "" if edge.is_explicit else f", inferred with {edge.confidence:.2f}"
    return f"“{edge.evidence}”{place} ({edge.task} waits for {edge.on}{sure})"
