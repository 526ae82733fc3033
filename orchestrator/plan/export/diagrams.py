"""Pictures of a plan: Mermaid for Markdown pages, DOT for Graphviz. Arrows lead from what comes first."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.core.words import TaskKind
from orchestrator.plan.export.parts import children_by_parent, known_edges, label, numbers
from orchestrator.plan.model import DependencyKind, Mark, Plan, PlanTask

_INDENT = "  "

#: What means something in a Mermaid label, where Markdown works too; and what no page shows.
_MERMAID_SPECIAL = re.compile(r"[\"#&<>`*_~\\]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_LINE_END = re.compile(r"\r\n?|\n")

_COLOURS = {
    Mark.DONE: "#c8e6c9",
    Mark.IN_PROGRESS: "#bbdefb",
    Mark.BLOCKED: "#ffe0b2",
    Mark.DEFERRED: "#eeeeee",
    Mark.CANCELLED: "#eeeeee",
    Mark.SKIPPED: "#eeeeee",
}
_MERMAID_ARROWS = {
    DependencyKind.BLOCKS: "-->",
    DependencyKind.INFORMS: "-.->",
    DependencyKind.RELATES: "-.-",
}
_DOT_STYLES = {
    DependencyKind.BLOCKS: "",
    DependencyKind.INFORMS: " [style=dashed]",
    DependencyKind.RELATES: " [style=dotted, dir=none]",
}


def to_mermaid(plan: Plan) -> str:
    """Write a flowchart: containers are boxes around their tasks, colours tell the marks.

    Mermaid itself refuses to draw more than 500 arrows or 50,000 characters unless its page allows more.
    """
    names = numbers(plan)
    lines = ["flowchart TD", *_mermaid_tasks(children_by_parent(plan), names)]
    lines += [
        f"{_INDENT}{names[edge.on]} {_MERMAID_ARROWS[edge.kind]} {names[edge.task]}"
        for edge in known_edges(plan)
    ]
    for mark, colour in _COLOURS.items():
        marked = [names[task.key] for task in plan.tasks if task.mark is mark and task.kind is TaskKind.LEAF]
        if marked:
            lines += [
                f"{_INDENT}classDef {mark} fill:{colour},color:#000000",
                f"{_INDENT}class {','.join(marked)} {mark}",
            ]
    return "\n".join(lines) + "\n"


def _mermaid_tasks(below: Mapping[str, Sequence[PlanTask]], names: Mapping[str, str]) -> Iterator[str]:
    for depth, task, is_start in _walk(below):
        name, text = names[task.key], _mermaid_text(label(task))
        if task.kind is TaskKind.LEAF:
            yield f'{_INDENT * depth}{name}["{text}"]'
        else:
            yield f'{_INDENT * depth}subgraph {name}["{text}"]' if is_start else f"{_INDENT * depth}end"


def _mermaid_text(text: str) -> str:
    escaped = _MERMAID_SPECIAL.sub(lambda found: f"#{ord(found[0])};", text)
    return _CONTROL.sub(" ", _LINE_END.sub("<br/>", escaped))


def to_dot(plan: Plan) -> str:
    """Write a digraph: a container is a folder in a cluster with its tasks, colours tell the marks."""
    names = numbers(plan)
    lines = [
        f"digraph {_dot_text(plan.title or plan.name or 'plan')} {{",
        f"{_INDENT}rankdir=LR;",
        f'{_INDENT}node [shape=box, style="rounded,filled", fillcolor=white];',
        *_dot_tasks(children_by_parent(plan), names),
    ]
    lines += [
        f"{_INDENT}{names[edge.on]} -> {names[edge.task]}{_DOT_STYLES[edge.kind]};"
        for edge in known_edges(plan)
    ]
    return "\n".join([*lines, "}"]) + "\n"


def _dot_tasks(below: Mapping[str, Sequence[PlanTask]], names: Mapping[str, str]) -> Iterator[str]:
    for depth, task, is_start in _walk(below):
        indent, name, text = _INDENT * depth, names[task.key], _dot_text(label(task))
        if task.kind is TaskKind.LEAF:
            colour = f', fillcolor="{_COLOURS[task.mark]}"' if task.mark in _COLOURS else ""
            yield f"{indent}{name} [label={text}{colour}];"
        elif is_start:
            yield f"{indent}subgraph cluster_{name} {{"
            yield f"{indent}{_INDENT}{name} [label={text}, shape=folder];"
        else:
            yield f"{indent}}}"


def _dot_text(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    shown = _CONTROL.sub(" ", _LINE_END.sub(lambda _: "\\n", quoted))
    return f'"{shown}"'


def _walk(below: Mapping[str, Sequence[PlanTask]]) -> Iterator[tuple[int, PlanTask, bool]]:
    """Yield `(depth from 1, task, whether it begins)`: a container comes twice, around what is in it."""
    stack = [(1, task, True) for task in reversed(below.get("", ()))]
    while stack:
        depth, task, is_start = stack.pop()
        yield depth, task, is_start
        if is_start and task.kind is TaskKind.CONTAINER:
            stack.append((depth, task, False))
            stack += [(depth + 1, child, True) for child in reversed(below.get(task.key, ()))]
