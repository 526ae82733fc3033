"""What a run would do, without doing it: waves, routing, sessions, estimate, critical path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from orchestrator.backends import without_key
from orchestrator.cli.output import Output
from orchestrator.cli.plan_files import Choices
from orchestrator.cli.summary import remedy_of
from orchestrator.cli.text import count, duration, one_line
from orchestrator.core.task import GATE_POOL
from orchestrator.core.words import HoldReason, TaskKind
from orchestrator.errors import Finding
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.model import ESTIMATE_MS_DEFAULT, Mark, Plan, PlanTask
from orchestrator.routing import (
    Route,
    Routing,
    backend_of_models,
    choose_backend,
    keyless,
    not_installed,
    wanted_backend,
)
from orchestrator.settings import Settings

_CRITICAL_SHOWN_MAX = 12
_HELD_SHOWN_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPreview:
    """What would become of one task.

    Attributes:
        review: agent type that would judge the work; empty if none.
        held: why it would wait for a person; empty if it would run.
    """

    key: str
    title: str
    wave: int
    agent_type: str
    rule: str
    evidence: str
    backend: str
    has_gate: bool
    review: str
    estimate_ms: int
    held: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a run would do.

    Attributes:
        waves: keys of the tasks that could run side by side, in their order.
        sessions: sessions by agent type, reviewers too, if every first attempt succeeds; gates under `gate`.
        estimate_ms: of all tasks together; critical_path_ms: of the longest way through them.
    """

    format: str
    title: str
    tasks: tuple[TaskPreview, ...]
    waves: tuple[tuple[str, ...], ...]
    sessions: dict[str, int]
    sessions_total: int
    estimate_ms: int
    critical_path: tuple[str, ...]
    critical_path_ms: int
    findings: tuple[Finding, ...]


def dry_run(plan: Plan, choices: Choices, *, routing: Routing, settings: Settings) -> DryRun:
    """Return what a run of `plan` would do; the plan has no errors.

    Raises:
        PlanError: no task has the key of `choices.until_key`.
    """
    plan = routing.with_reviewers(plan)
    backend = wanted_backend(choices.backend, plan=plan, settings=settings)
    graph = _graph(plan, choices.until_key)
    waves = tuple(graph.waves())
    wave_of = {key: number for number, keys in enumerate(waves, start=1) for key in keys}
    routes = routing.route(plan)
    choose = partial(choose_backend, routing.backends(), backend, of_models=backend_of_models(settings))
    needed = {task.key: _needed(task, routes, choose) for task in plan.tasks if task.key in routes}
    tasks = tuple(
        TaskPreview(
            key=task.key,
            title=task.title,
            wave=wave_of[task.key],
            agent_type=routes[task.key].agent_type,
            rule=routes[task.key].rule,
            evidence=routes[task.key].evidence,
            backend=needed[task.key][0],
            has_gate=bool(task.verify),
            review=task.options.get("review", ""),
            estimate_ms=ESTIMATE_MS_DEFAULT if task.estimate_ms is None else task.estimate_ms,
            held=_held(task, take=choices.take) or _lacking(needed[task.key], settings),
        )
        for task in plan.tasks
        if task.kind is TaskKind.LEAF and task.key in wave_of
    )
    sessions = _sessions(tasks)
    path = graph.critical_path()
    estimates = {task.key: task.estimate_ms for task in tasks}
    return DryRun(
        format=plan.format,
        title=plan.title,
        tasks=tasks,
        waves=waves,
        sessions=dict(sessions.most_common()),
        sessions_total=sessions.total(),
        estimate_ms=sum(estimates.values()),
        critical_path=path,
        critical_path_ms=sum(estimates[key] for key in path),
        findings=plan.findings,
    )


def _graph(plan: Plan, until_key: str) -> PlanGraph:
    """Return the graph of what would run: of all of the plan, or of one task and what it needs."""
    graph = PlanGraph(plan.tasks, plan.dependencies)
    if not until_key:
        return graph
    needed = graph.needed_for(until_key)
    return PlanGraph([task for task in plan.tasks if task.key in needed], plan.dependencies)


def write_dry_run(found: DryRun, *, output: Output) -> None:
    """Write a dry run for people; they were told the findings already."""
    columns = ("wave", "task", "title", "agent type", "by", "backend", "gate", "review")
    output.table(columns, (_row(task) for task in sorted(found.tasks, key=lambda task: task.wave)))
    for line in _lines(found):
        output.say(line)
    output.say("Nothing was started.")


def _held(task: PlanTask, *, take: bool) -> str:
    if task.manual:
        return HoldReason.MANUAL
    if task.approve:
        return HoldReason.APPROVAL
    if task.mark is Mark.BLOCKED:
        return HoldReason.BLOCKED_IN_PLAN
    return HoldReason.ELSEWHERE if task.mark is Mark.IN_PROGRESS and not take else ""


def _needed(
    task: PlanTask, routes: Mapping[str, Route], choose: Callable[[str, bool], str]
) -> tuple[str, ...]:
    """Return the backend of a task's work, then that of its review if it has one."""
    work = choose(routes[task.key].agent_type, bool(task.run))
    return (work, choose(task.options["review"], False)) if "review" in task.options else (work,)


def _lacking(needed: tuple[str, ...], settings: Settings) -> str:
    """A task is held before its work if its review could not be paid for: work is not done in vain."""
    if lacking := without_key(needed, keyless(settings)):
        return f"{HoldReason.NO_CREDENTIALS}: {lacking}"
    return "" if not_installed().isdisjoint(needed) else HoldReason.NOT_INSTALLED


def _sessions(tasks: tuple[TaskPreview, ...]) -> Counter[str]:
    sessions: Counter[str] = Counter()
    for task in tasks:
        if not task.held:
            sessions[task.agent_type] += 1
            sessions[GATE_POOL] += task.has_gate
            sessions[task.review] += bool(task.review)
    return +sessions


def _row(task: TaskPreview) -> tuple[str, ...]:
    what = f"held ({task.held})" if task.held else task.backend
    title = one_line(task.title, width=60)
    gate = "yes" if task.has_gate else ""
    return str(task.wave), task.key, title, task.agent_type, task.rule, what, gate, task.review


def _lines(found: DryRun) -> Iterator[str]:
    held = sum(bool(task.held) for task in found.tasks)
    by_type = ", ".join(f"{number} {agent_type}" for agent_type, number in found.sessions.items())
    yield f"{count(len(found.tasks), 'task')} in {count(len(found.waves), 'wave')}, {held or 'none'} held"
    yield f"{count(found.sessions_total, 'session')} at least: {by_type}"
    whole, shortest = duration(found.estimate_ms / 1000), duration(found.critical_path_ms / 1000)
    yield f"Estimate {whole} in all, {shortest} at the shortest"
    shown = found.critical_path[:_CRITICAL_SHOWN_MAX]
    more = "" if len(shown) == len(found.critical_path) else f" → … {found.critical_path[-1]}"
    yield f"Critical path: {' → '.join(shown)}{more}"
    yield from _held_lines(found)


def _held_lines(found: DryRun) -> Iterator[str]:
    """Yield each reason with its tasks and what a person can do."""
    by_reason: dict[str, list[str]] = {}
    for task in found.tasks:
        if task.held:
            by_reason.setdefault(task.held, []).append(task.key)
    for reason, keys in by_reason.items():
        more = len(keys) - _HELD_SHOWN_MAX
        shown = ", ".join(keys[:_HELD_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
        yield f"Held, {reason}: {shown}"
        yield f"  {remedy_of(reason, key=keys[0] if len(keys) == 1 else 'TASK', plan='PLAN')}"
