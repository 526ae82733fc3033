"""One line a task: CSV for spreadsheets, and JSON lines that Beads imports."""

from __future__ import annotations

import csv
import io
import json

from orchestrator.core.words import TaskKind
from orchestrator.plan.amounts import MINUTE_MS
from orchestrator.plan.export.parts import edges_by_task, task_values
from orchestrator.plan.model import DependencyKind, Mark, Plan, PlanDependency, PlanTask

#: What spreadsheets take for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_BEADS_STATUS = {
    Mark.OPEN: "open",
    Mark.DONE: "closed",
    Mark.IN_PROGRESS: "in_progress",
    Mark.BLOCKED: "blocked",
    Mark.DEFERRED: "deferred",
    Mark.CANCELLED: "closed",
    Mark.SKIPPED: "closed",
}
_GIVEN_UP = frozenset({Mark.CANCELLED, Mark.SKIPPED})
#: Beads knows no weaker edge than this one.
_BEADS_EDGE = {
    DependencyKind.BLOCKS: "blocks",
    DependencyKind.INFORMS: "related",
    DependencyKind.RELATES: "related",
}
_BEADS_TITLE_BYTES_MAX = 500


def to_csv(plan: Plan) -> str:
    """Write a header and one row a task, as RFC 4180 has it; several values in a cell stand on lines.

    A text that a spreadsheet would take for a formula gets an apostrophe in front: plans come from others.
    """
    out = io.StringIO()
    edges = edges_by_task(plan)
    rows = csv.DictWriter(out, fieldnames=_cells(PlanTask(key="", has_own_key=False, title=""), []))
    rows.writeheader()
    for task in plan.tasks:
        rows.writerow({name: _safe(text) for name, text in _cells(task, edges.get(task.key, [])).items()})
    return out.getvalue()


def _cells(task: PlanTask, edges: list[PlanDependency]) -> dict[str, str]:
    """The cells by the names of their columns."""
    return {
        **task_values(task),
        **{kind.value: "\n".join(edge.on for edge in edges if edge.kind is kind) for kind in DependencyKind},
        "acceptance": "\n".join(task.acceptance),
        "touches": "\n".join(task.touches),
        "run": "\n".join(task.run),
        "verify": "\n".join(task.verify),
        "manual": task.manual,
        "approve": task.approve,
        "body": task.body,
    }


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def to_beads(plan: Plan) -> str:
    """Write one JSON object a line, in the names of Beads.

    Beads has no word for what is to be run and checked; that is left out. Moments are left to its import.
    """
    edges = edges_by_task(plan)
    lines = (json.dumps(_issue(task, edges.get(task.key, [])), ensure_ascii=False) for task in plan.tasks)
    return "".join(f"{line}\n" for line in lines)


def _issue(task: PlanTask, edges: list[PlanDependency]) -> dict[str, object]:
    title = _cut(task.title)
    is_cut = title != task.title
    issue: dict[str, object] = {
        "id": task.key,
        "title": title,
        "description": "\n\n".join(filter(None, (task.title if is_cut else "", task.body))),
        "acceptance_criteria": "\n".join(f"- {line}" for line in task.acceptance),
        "status": _BEADS_STATUS[task.mark],
        "close_reason": "cancelled" if task.mark in _GIVEN_UP else "",
        "priority": task.priority,
        "issue_type": _issue_type(task),
        "estimated_minutes": None if task.estimate_ms is None else -(-task.estimate_ms // MINUTE_MS),
        "assignee": task.agent,
        "labels": [task.domain] if task.domain else [],
        "dependencies": _issue_edges(task, edges),
    }
    return {name: value for name, value in issue.items() if value not in ("", [], None)}


def _issue_edges(task: PlanTask, edges: list[PlanDependency]) -> list[dict[str, str]]:
    found = [(task.parent, "parent-child")] if task.parent else []
    found += [(edge.on, _BEADS_EDGE[edge.kind]) for edge in edges]
    return [{"issue_id": task.key, "depends_on_id": on, "type": kind} for on, kind in found]


def _issue_type(task: PlanTask) -> str:
    if task.kind is TaskKind.CONTAINER:
        return "epic"
    return "bug" if task.task_type == "fix" else "task"


def _cut(title: str) -> str:
    """As much of a title as Beads takes: it counts bytes."""
    if len(title.encode()) <= _BEADS_TITLE_BYTES_MAX:
        return title
    return title.encode()[: _BEADS_TITLE_BYTES_MAX - 3].decode(errors="ignore") + "…"
