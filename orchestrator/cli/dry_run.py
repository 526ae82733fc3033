"""What a run would do, without doing it: waves, routing, sessions, estimate, critical path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from orchestrator.cli.output import Output, finding_line
from orchestrator.cli.plan_files import Choices
from orchestrator.cli.text import count, duration, one_line
from orchestrator.core.task import GATE_POOL
from orchestrator.core.words import HoldReason, TaskKind
from orchestrator.errors import Finding, PlanError
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.model import ESTIMATE_MS_DEFAULT, Mark, Plan, PlanTask
from orchestrator.routing import Routing, choose_backend, wanted_backend
from orchestrator.routing.backends import ANTHROPIC
from orchestrator.settings import Settings

_CRITICAL_SHOWN_MAX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskForecast:
    """What would become of one task. `held` says why it would wait for a person; empty if it would run."""

    key: str
    title: str
    wave: int
    agent_type: str
    rule: str
    evidence: str
    backend: str
    has_gate: bool
    estimate_ms: int
    held: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run would do.

    Attributes:
        waves: keys of the tasks that could run side by side, in their order.
        sessions: sessions by agent type if every first attempt succeeds; gates under `gate`.
        estimate_ms: of all tasks together; critical_path_ms: of the longest way through them.
    """

    format: str
    title: str
    tasks: tuple[TaskForecast, ...]
    waves: tuple[tuple[str, ...], ...]
    sessions: dict[str, int]
    sessions_total: int
    estimate_ms: int
    critical_path: tuple[str, ...]
    critical_path_ms: int
    findings: tuple[Finding, ...]


def forecast(plan: Plan, choices: Choices, *, settings: Settings) -> Forecast:
    """Return what a run of `plan` would do; the plan has no errors.

    Raises:
        PlanError: the run would be refused.
    """
    routing = Routing.from_settings(settings)
    backend = wanted_backend(choices.backend, plan=plan, settings=settings)
    graph = _graph(plan, choices.until_key)
    waves = tuple(graph.waves())
    wave_of = {key: number for number, keys in enumerate(waves, start=1) for key in keys}
    routes = routing.route(plan)
    tasks = tuple(
        TaskForecast(
            key=task.key,
            title=task.title,
            wave=wave_of[task.key],
            agent_type=routes[task.key].agent_type,
            rule=routes[task.key].rule,
            evidence=routes[task.key].evidence,
            backend=(chosen := _backend(task, backend)),
            has_gate=bool(task.verify),
            estimate_ms=ESTIMATE_MS_DEFAULT if task.estimate_ms is None else task.estimate_ms,
            held=_held(task, take=choices.take) or _held_by(chosen, settings),
        )
        for task in plan.tasks
        if task.kind is TaskKind.LEAF and task.key in wave_of
    )
    sessions = _sessions(tasks)
    path = graph.critical_path()
    estimates = {task.key: task.estimate_ms for task in tasks}
    return Forecast(
        format=plan.format,
        title=plan.title,
        tasks=tasks,
        waves=waves,
        sessions=dict(sessions.most_common()),
        sessions_total=sessions.total(),
        estimate_ms=sum(estimates.values()),
        critical_path=path,
        critical_path_ms=sum(estimates[key] for key in path),
        findings=(*plan.findings, *routing.findings(plan)),
    )


def _graph(plan: Plan, until_key: str) -> PlanGraph:
    """Return the graph of what would run: of all of the plan, or of one task and what it needs."""
    graph = PlanGraph(plan.tasks, plan.dependencies)
    if not until_key:
        return graph
    needed = graph.needed_for(until_key)
    return PlanGraph([task for task in plan.tasks if task.key in needed], plan.dependencies)


def write_forecast(found: Forecast, *, told: Collection[Finding], output: Output) -> None:
    """Write a forecast for people, without the findings that they were told already."""
    columns = ("wave", "task", "title", "agent type", "by", "backend", "gate")
    output.table(columns, (_row(task) for task in sorted(found.tasks, key=lambda task: task.wave)))
    for line in _lines(found):
        output.say(line)
    for finding in found.findings:
        if finding not in told:
            output.say(finding_line(finding))
    output.say("Nothing was started.")


def _backend(task: PlanTask, wanted: str) -> str:
    try:
        return choose_backend(wanted, has_run=bool(task.run))
    except PlanError as error:
        raise PlanError(f"{task.key}: {error.message}", remedy=error.remedy) from None


def _held(task: PlanTask, *, take: bool) -> str:
    if task.manual:
        return "manual"
    if task.approve:
        return "approval"
    if task.mark is Mark.BLOCKED:
        return "blocked in the plan"
    return "in progress elsewhere" if task.mark is Mark.IN_PROGRESS and not take else ""


def _held_by(backend: str, settings: Settings) -> str:
    return HoldReason.NO_CREDENTIALS if backend == ANTHROPIC and not settings.has_credentials else ""


def _sessions(tasks: tuple[TaskForecast, ...]) -> Counter[str]:
    running = [task for task in tasks if not task.held]
    return Counter(task.agent_type for task in running) + Counter(
        GATE_POOL for task in running if task.has_gate
    )


def _row(task: TaskForecast) -> tuple[str, ...]:
    what = f"held ({task.held})" if task.held else task.backend
    title = one_line(task.title, width=60)
    return str(task.wave), task.key, title, task.agent_type, task.rule, what, "yes" if task.has_gate else ""


def _lines(found: Forecast) -> Iterator[str]:
    held = sum(bool(task.held) for task in found.tasks)
    by_type = ", ".join(f"{number} {agent_type}" for agent_type, number in found.sessions.items())
    yield f"{count(len(found.tasks), 'task')} in {count(len(found.waves), 'wave')}, {held or 'none'} held"
    yield f"{count(found.sessions_total, 'session')} at least: {by_type}"
    whole, shortest = duration(found.estimate_ms / 1000), duration(found.critical_path_ms / 1000)
    yield f"Estimate {whole} in all, {shortest} at the shortest"
    shown = found.critical_path[:_CRITICAL_SHOWN_MAX]
    more = "" if len(shown) == len(found.critical_path) else f" → … {found.critical_path[-1]}"
    yield f"Critical path: {' → '.join(shown)}{more}"
