"""The import report: what `import --dry-run --json` prints as `data`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

from orchestrator.core.words import TaskKind
from orchestrator.errors import Finding
from orchestrator.plan.model import Plan, PlanTask


def import_report(plan: Plan) -> dict[str, object]:
    """Tell what was read, as plain JSON values.

    Returns:
        `format`, `format_reason`, `counts`, `findings` and `tasks`. `counts.tasks` counts leaves, for those
        are what is run; `tasks` lists containers too.
    """
    explicit = sum(dependency.is_explicit for dependency in plan.dependencies)
    waits_for: dict[str, list[str]] = {}
    for dependency in plan.dependencies:
        waits_for.setdefault(dependency.task, []).append(dependency.on)
    return {
        "format": plan.format,
        "format_reason": plan.format_reason,
        "counts": {
            "tasks": Counter(task.kind for task in plan.tasks)[TaskKind.LEAF],
            "with_id": plan.with_id,
            "checkboxes": {
                "open": plan.checkboxes.open,
                "done": plan.checkboxes.done,
                "other": dict(plan.checkboxes.other),
            },
            "dependencies": {"explicit": explicit, "inferred": len(plan.dependencies) - explicit},
        },
        "findings": [_finding(finding) for finding in plan.findings],
        "tasks": [_task(task, waits_for) for task in plan.tasks],
    }


def _finding(finding: Finding) -> dict[str, object]:
    return {name: value for name, value in asdict(finding).items() if name != "source" or value}


def _task(task: PlanTask, waits_for: Mapping[str, list[str]]) -> dict[str, object]:
    return {
        "key": task.key,
        "title": task.title,
        "kind": task.kind.value,
        "parent": task.parent,
        "mark": task.mark.value,
        "line": task.line,
        "source": task.source,
        "priority": task.priority,
        "estimate_ms": task.estimate_ms,
        "agent": task.agent,
        "task_type": task.task_type,
        "domain": task.domain,
        "why": {"task_type": list(task.type_evidence), "domain": list(task.domain_evidence)},
        "depends_on": waits_for.get(task.key, []),
        "acceptance": list(task.acceptance),
        "touches": list(task.touches),
        "run": list(task.run),
        "verify": list(task.verify),
        "manual": task.manual,
        "approve": task.approve,
        "options": dict(task.options),
    }
