"""The graph of a plan as readers see it."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.analysis_views import BlockedView, BottleneckView, GraphView, HeldView, OpenTaskView
from orchestrator.plan.analysis import Analysis, estimate_ms


def graph_report(analysis: Analysis, agent_types: Mapping[str, str]) -> GraphView:
    """Tell what is left of a plan; `agent_types` are those of the leaves, by key, as far as known."""
    order = analysis.order
    waves = analysis.waves()
    wave = {key: number for number, keys in enumerate(waves, start=1) for key in keys}
    downstream_ms, slack_ms = analysis.downstream_ms(), analysis.slack_ms()
    tasks = [
        OpenTaskView(
            key=task.key,
            title=task.title,
            state=analysis.standing(task.key).state,
            agent_type=agent_types.get(task.key, ""),
            estimate_ms=estimate_ms(task),
            wave=wave[task.key],
            downstream_ms=downstream_ms[task.key],
            slack_ms=slack_ms[task.key],
        )
        for task in order.tasks
        if task.key in slack_ms
    ]
    return GraphView(
        tasks=tuple(tasks),
        ready=analysis.ready(),
        held=tuple(HeldView(key=key, reason=reason) for key, reason in analysis.held()),
        blocked=tuple(
            BlockedView(key=key, waits_for=waits_for, behind=behind)
            for key, waits_for, behind in analysis.blocked()
        ),
        waves=tuple(waves),
        work_ms=analysis.work_ms,
        critical_path=analysis.critical_path(),
        critical_path_ms=analysis.critical_path_ms,
        bottlenecks=tuple(
            BottleneckView(
                key=key,
                title=order.tasks[order.number[key]].title,
                tasks_behind=tasks_behind,
                work_behind_ms=work_behind_ms,
            )
            for key, tasks_behind, work_behind_ms in analysis.bottlenecks()
        ),
    )
