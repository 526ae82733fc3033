"""A stored plan as it stands, for what looks at all of it at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import select

from orchestrator.core.words import TaskKind, TaskState
from orchestrator.plan.marks import mark_of
from orchestrator.plan.model import Checkboxes, Mark, Plan, PlanTask
from orchestrator.plan.standing import Standing
from orchestrator.store.engine import Connection
from orchestrator.store.revisions import read_stored
from orchestrator.store.tables import plans

#: What a file does not follow by itself, and a copy of the plan tells.
_MARKS = {
    TaskState.RUNNING: Mark.IN_PROGRESS,
    TaskState.VERIFYING: Mark.IN_PROGRESS,
    TaskState.MERGING: Mark.IN_PROGRESS,
    TaskState.FAILED: Mark.BLOCKED,
    TaskState.SKIPPED: Mark.SKIPPED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WholePlan:
    """A plan as it stands now.

    Attributes:
        plan: its leaves have the marks of their states; its dependencies are those in force, also by hand.
        standings: where the tasks stand, by key.
        agent_types: of the leaves, by the routing rules, by key.
    """

    plan: Plan
    standings: Mapping[str, Standing]
    agent_types: Mapping[str, str]


async def read_whole(connection: Connection, plan_id: int) -> WholePlan:
    """Return a plan; it must exist."""
    p = plans.c
    header = (await connection.execute(select(p.name, p.title, p.meta).where(p.id == plan_id))).one()
    stored = await read_stored(connection, plan_id)
    plan = Plan(
        format=stored.format,
        format_reason="stored",
        title=header.title,
        name=header.name,
        tasks=tuple(replace(task, mark=_mark(task, stored.standings[task.key])) for task in stored.tasks),
        dependencies=stored.as_dependencies(stored.edges),
        findings=(),
        checkboxes=Checkboxes(),
        with_id=0,
        source="",
        meta=header.meta,
    )
    agent_types = {row["key"]: row["agent_type"] for row in stored.rows.values()}
    return WholePlan(plan=plan, standings=stored.standings, agent_types=agent_types)


def _mark(task: PlanTask, standing: Standing) -> Mark:
    if task.kind is TaskKind.CONTAINER:
        return task.mark
    return _MARKS.get(standing.state) or mark_of(standing) or Mark.CANCELLED
