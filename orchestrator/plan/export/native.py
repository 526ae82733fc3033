"""Our own JSON: what the native importer reads back as the same plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from orchestrator.plan.export.parts import children_by_parent, known_edges
from orchestrator.plan.formats.native import NativeTask
from orchestrator.plan.model import DependencyKind, Mark, Plan, PlanTask


def to_native(plan: Plan) -> str:
    """Write the plan as JSON with `plan_version`; see formats/native.py for its names.

    What was inferred is written as what it is taken for, so it is explicit when it is read again. Places in
    the author's file are left out.
    """
    document: dict[str, object] = {"plan_version": 1}
    if plan.name:
        document["name"] = plan.name
    if plan.title:
        document["title"] = plan.title
    if plan.meta:
        document["meta"] = {name: _text(value) for name, value in plan.meta.items()}
    document["tasks"] = _tasks(plan)
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _tasks(plan: Plan) -> list[dict[str, object]]:
    """The tree of tasks, from the bottom up: the children of a task are made before it."""
    relations = _relations(plan)
    below = children_by_parent(plan)
    made: dict[str, dict[str, object]] = {}
    for task in reversed(plan.tasks):
        children = [made[child.key] for child in below.get(task.key, ())]
        values = {**_values(task), **relations.get(task.key, {}), "tasks": children}
        made[task.key] = {name: value for name, value in values.items() if value not in ("", [], None)}
    return [made[task.key] for task in below.get("", ())]


def _values(task: PlanTask) -> dict[str, object]:
    return {
        "key": task.key,
        "title": task.title,
        "body": task.body,
        "mark": "" if task.mark is Mark.OPEN else task.mark.value,
        "priority": task.priority,  # always: what is left out is inherited
        "estimate": task.estimate_ms,
        "agent": task.agent,
        "type": task.task_type,
        "domain": task.domain,
        "acceptance": list(task.acceptance),
        "touches": list(task.touches),
        "run": list(task.run),
        "verify": list(task.verify),
        "manual": task.manual,
        "approve": task.approve,
        **_options(task.options),
    }


def _options(options: Mapping[str, str]) -> dict[str, object]:
    named = {name.replace(" ", "_"): value for name, value in options.items()}
    known = {name: value for name, value in named.items() if name in NativeTask.model_fields}
    return {name: int(value) if name == "attempts" else value for name, value in known.items()}


def _relations(plan: Plan) -> Mapping[str, dict[str, list[str]]]:
    """`depends_on`, `informs` and `relates` of each task, which says what it informs, not what informs it."""
    found: dict[str, dict[str, list[str]]] = {}
    for edge in known_edges(plan):
        task, other = (edge.on, edge.task) if edge.kind is DependencyKind.INFORMS else (edge.task, edge.on)
        found.setdefault(task, {}).setdefault(_RELATIONS[edge.kind], []).append(other)
    return found


_RELATIONS: Mapping[DependencyKind, str] = {
    DependencyKind.BLOCKS: "depends_on",
    DependencyKind.INFORMS: "informs",
    DependencyKind.RELATES: "relates",
}


def _text(value: object) -> str:
    """A value of the front matter as text; lists and such as JSON."""
    is_plain = not isinstance(value, Mapping | Sequence) or isinstance(value, str)
    return str(value) if is_plain else json.dumps(value, ensure_ascii=False, default=str)
