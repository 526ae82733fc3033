"""What is wrong with a plan once it is to be run: agent types that no file defines, work for no backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from orchestrator.agent_types import GENERAL, AgentType
from orchestrator.core.task import GATE_POOL
from orchestrator.core.words import TaskKind
from orchestrator.errors import Finding, PlanError
from orchestrator.plan.findings import Code
from orchestrator.plan.model import Mark, Plan, PlanTask
from orchestrator.routing.backends import AUTO, COMMAND, wanted_backend
from orchestrator.routing.models import wrong_models_in
from orchestrator.routing.rules import Routing
from orchestrator.settings import Settings

_BACKEND_FAULTS_SHOWN_MAX = 20


def checked_plan(plan: Plan, *, routing: Routing, settings: Settings, asked: str = AUTO) -> Plan:
    """Return the plan with these findings among its own, in the order of the lines.

    Args:
        asked: the backend that whoever runs the plan asks for.
    """
    backend_faults = _backend_faults(plan, routing=routing, asked=asked, settings=settings)
    found = (*plan.findings, *routing.own_findings, *_unknown_agents(plan, routing), *backend_faults)
    return replace(plan, findings=tuple(sorted(found, key=lambda finding: (finding.source, finding.line))))


def _unknown_agents(plan: Plan, routing: Routing) -> Iterator[Finding]:
    """Yield a finding for each agent type that no file defines, at the first task that names it."""
    broken = routing.broken()
    for name, tasks in routing.unknown_agents(plan).items():
        if name == GATE_POOL:
            message = f"The task {tasks[0].key} names the agent type `{name}`, under which gates run."
            remedy = "Name the agent type that is to do the work; `verify:` lines are gates by themselves."
            yield Code.RESERVED_AGENT.at(tasks[0].line, message, remedy=remedy, source=tasks[0].source)
            continue
        if name in broken:
            if name not in routing.own:  # of these the file's own finding is told
                yield _of_broken_file(tasks[0], broken[name])
            continue
        others = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
        message = (
            f"No file defines the agent type `{name}` of {tasks[0].key}{others}: "
            f"it works with the instructions and tools of `{GENERAL}`."
        )
        near = routing.near(name)
        file = f"agents/{name}.md of ORCHESTRATOR_HOME"
        remedy = f"Describe it in {file}, or name another."
        if near:
            remedy = f"Write `{near}` if that is meant; else describe it in {file}."
        yield Code.UNKNOWN_AGENT.at(tasks[0].line, message, remedy=remedy, source=tasks[0].source)


def _of_broken_file(task: PlanTask, broken: AgentType) -> Finding:
    message = f"{task.key} names the agent type `{broken.name}`, whose file cannot be read."
    return Code.AGENT_FILE.at(task.line, message, remedy=f"Mend it: {broken.fault}", source=task.source)


def _backend_faults(plan: Plan, *, routing: Routing, asked: str, settings: Settings) -> Iterator[Finding]:
    try:
        wanted = wanted_backend(asked, plan=plan, settings=settings)
    except PlanError as error:
        yield Code.UNKNOWN_BACKEND.at(0, error.message, remedy=error.remedy)
        return
    yield from wrong_models_in(plan, routing=routing, wanted=wanted, settings=settings)
    if wanted == COMMAND:
        yield from islice(_not_for_commands(plan), _BACKEND_FAULTS_SHOWN_MAX)


def _not_for_commands(plan: Plan) -> Iterator[Finding]:
    for task in plan.tasks:
        if task.kind is not TaskKind.LEAF or task.mark is not Mark.OPEN or task.manual:
            continue
        if not task.run:
            message = f"The task {task.key} has no `run:` lines, and the backend is `command`."
            remedy = "Add a `run:` line below the task, or choose the backend `auto`."
            yield Code.NO_COMMAND.at(task.line, message, remedy=remedy, source=task.source)
        if "review" in task.options:
            message = f"The `review:` of the task {task.key} needs a model, and the backend is `command`."
            remedy = "Remove it, or choose the backend `auto`."
            yield Code.COMMAND_REVIEW.at(task.line, message, remedy=remedy, source=task.source)
