"""How past attempts went, by kind of task: what forecasts rest on."""

from __future__ import annotations

from sqlalchemy import func, select

from orchestrator.core.words import AttemptKind, AttemptState, FailureClass
from orchestrator.plan.history import Kind, PastAttempts
from orchestrator.plan.model import ESTIMATE_MS_DEFAULT
from orchestrator.store.engine import Connection
from orchestrator.store.tables import attempts, tasks

#: Failures that say something about the work; all others are nobody's fault.
_OWN_FAILURES = (FailureClass.AGENT, FailureClass.GATE, FailureClass.TIMEOUT, FailureClass.BUDGET)


async def past_attempts(connection: Connection, *, without_backend: str) -> list[PastAttempts]:
    """Return the ended attempts of this tenant, one entry for each kind.

    Work that a gate or a review refused is no success.

    Args:
        without_backend: what it ran is not counted, in whatever plan: what is simulated teaches nothing.
    """
    a, t = attempts.c, tasks.c
    is_work = a.kind == AttemptKind.WORK
    has_succeeded = is_work & (a.state == AttemptState.SUCCEEDED)
    has_failed = a.failure_class.in_(_OWN_FAILURES)
    taken_ms = func.greatest(func.extract("epoch", a.ended_at - a.started_at) * 1000, 1)
    log_factor = func.ln(taken_ms / func.greatest(func.coalesce(t.estimate_ms, ESTIMATE_MS_DEFAULT), 1))
    is_command = func.jsonb_array_length(t.run) > 0
    query = (
        select(
            t.agent_type,
            t.task_type,
            is_command,
            func.count().filter(is_work),
            func.count().filter(has_succeeded) - func.count().filter(~is_work & has_failed),
            func.coalesce(func.avg(log_factor).filter(has_succeeded), 0),
            func.coalesce(func.var_samp(log_factor).filter(has_succeeded), 0),
            func.coalesce(func.avg(a.cost_micros).filter(is_work), 0),
        )
        .join(tasks, t.id == a.task_id)
        .where(a.backend != without_backend, has_succeeded | has_failed)
        .group_by(t.agent_type, t.task_type, is_command)
    )
    return [
        PastAttempts(
            kind=Kind(agent_type, task_type, is_command),
            attempts=count,
            successes=max(0, min(successes, count)),
            log_factor=float(mean),
            log_factor_variance=float(variance),
            cost_micros=float(cost_micros),
        )
        for agent_type, task_type, is_command, count, successes, mean, variance, cost_micros in (
            await connection.execute(query)
        )
    ]
