"""Which attempt starts next: stride scheduling over tenants, then over plans, then the plan's own order.

Whoever has had the fewest starts is next; a pick looks at the plans in that order and at the pools that are
open (limit not reached, an executor has a free slot). A shut pool parks its heaps: the tasks stay ready.
"""

from __future__ import annotations

from orchestrator.core.commands import LeaseAttempt, ReserveTokens, StartAttempt
from orchestrator.core.moving import MODEL_BACKENDS, move_task
from orchestrator.core.state import Attempt, Executor, Plan, State, Task
from orchestrator.core.words import AttemptKind, AttemptState, HoldReason, PlanState, TaskState


def assign(s: State, *, at_ms: int) -> None:
    """Lease attempts until a limit is reached or nothing can start."""
    while len(s.attempts) < s.limits.sessions_max and s.tokens:
        found = _next(s)
        if found is None:
            break
        plan, pool, executor = found
        task = s.tasks[plan.queue.pop(pool)]
        _lease(s, plan, task, executor, at_ms=at_ms)
    if s.tokens_left < s.policy.tokens_low and not s.is_reserving:
        s.is_reserving = True
        s.out.append(ReserveTokens())


def _next(s: State) -> tuple[Plan, str, Executor] | None:
    open_pools = {pool: executor for pool in s.pools if (executor := _free_executor(s, pool)) is not None}
    if not open_pools:
        return None
    for plan in sorted(_startable(s), key=lambda p: (s.ran_by_tenant[p.tenant_id], p.ran, p.plan_id)):
        pool = _best_pool(s, plan, open_pools)
        if pool is not None:
            return plan, pool, open_pools[pool]
    return None


def _startable(s: State) -> list[Plan]:
    return [p for p in s.plans.values() if p.state is PlanState.ACTIVE and p.is_loaded and p.queue.sizes]


def _free_executor(s: State, pool: str) -> Executor | None:
    if s.live_by_pool[pool] >= s.limits.of(pool):
        return None
    best: Executor | None = None
    for executor in s.pools[pool].values():
        if executor.free > 0 and (best is None or executor.free > best.free):
            best = executor
    return best


def _best_pool(s: State, plan: Plan, open_pools: dict[str, Executor]) -> str | None:
    best: tuple[tuple[int, int, int, int], str] | None = None
    for pool in list(plan.queue.sizes):
        if pool not in open_pools:
            continue
        top = plan.queue.top(pool)
        while top is not None and not _is_affordable(s, plan, s.tasks[top[3]]):
            if plan.reserved_micros:
                top = None  # parked until what is live has settled
                break
            move_task(s, s.tasks[top[3]], TaskState.HELD, reason=HoldReason.BUDGET.value)
            top = plan.queue.top(pool)
        if top is not None and (best is None or top < best[0]):
            best = (top, pool)
    return None if best is None else best[1]


def _is_affordable(s: State, plan: Plan, task: Task) -> bool:
    if not plan.budget_micros or task.backend not in MODEL_BACKENDS or task.wants is not AttemptKind.WORK:
        return True
    return plan.spent_micros + plan.reserved_micros + s.policy.attempt_cost_micros <= plan.budget_micros


def _lease(s: State, plan: Plan, task: Task, executor: Executor, *, at_ms: int) -> None:
    kind, token = task.wants, s.take_token()
    is_work = kind is AttemptKind.WORK
    task.not_before_ms = 0
    if is_work:
        task.work_number += 1
        move_task(s, task, TaskState.RUNNING)
    else:
        task.gate_number += 1
    backend = task.backend if is_work else "command"
    reserved = s.policy.attempt_cost_micros if backend in MODEL_BACKENDS else 0
    attempt = Attempt(
        token=token,
        task_id=task.task_id,
        plan_id=plan.plan_id,
        kind=kind,
        number=task.work_number if is_work else task.gate_number,
        agent_type=executor.pool,
        backend=backend,
        executor=executor.name,
        state=AttemptState.LEASED,
        leased_at_ms=at_ms,
        beat_at_ms=at_ms,
        reserved_micros=reserved,
    )
    task.token = token
    register(s, plan, attempt)
    plan.ran += 1
    s.ran_by_tenant[plan.tenant_id] += 1
    s.out.append(
        LeaseAttempt(
            token=token,
            tenant_id=plan.tenant_id,
            plan_id=plan.plan_id,
            task_id=task.task_id,
            kind=kind,
            number=attempt.number,
            agent_type=attempt.agent_type,
            backend=backend,
            executor=executor.name,
        )
    )
    s.record("attempt.leased", plan, task_id=task.task_id, token=token, payload=attempt_payload(attempt))
    s.out.append(StartAttempt(token=token, executor=executor.name))


def attempt_payload(attempt: Attempt) -> dict[str, object]:
    """Return what events tell of an attempt."""
    return {
        "kind": attempt.kind.value,
        "number": attempt.number,
        "agent_type": attempt.agent_type,
        "backend": attempt.backend,
        "executor": attempt.executor,
    }


def register(s: State, plan: Plan, attempt: Attempt) -> None:
    """Count a live attempt everywhere it counts."""
    s.attempts[attempt.token] = attempt
    s.live_by_pool[attempt.agent_type] += 1
    plan.live += 1
    plan.reserved_micros += attempt.reserved_micros
    s.touched.add(plan.plan_id)
    executor = s.executors.get(attempt.executor)
    if executor is not None:
        executor.tokens.add(attempt.token)


def unregister(s: State, attempt: Attempt) -> None:
    """Undo `register`: the attempt has ended."""
    del s.attempts[attempt.token]
    s.live_by_pool[attempt.agent_type] -= 1
    plan = s.plans[attempt.plan_id]
    plan.live -= 1
    plan.reserved_micros -= attempt.reserved_micros
    s.touched.add(plan.plan_id)
    executor = s.executors.get(attempt.executor)
    if executor is not None:
        executor.tokens.discard(attempt.token)
