"""Which attempt starts next, and what leasing it changes.

Among the pools that are open (an executor has a free slot, the limit is not reached, the breaker not shut)
the task starts whose turn comes first: by tenant, then by plan (core/fairness.py), then by the plan's own
order (core/ready.py). A shut pool parks its heaps: its tasks stay ready.
"""

from __future__ import annotations

from heapq import heappop, heappush

from orchestrator.core import breaker, budget, fairness
from orchestrator.core.commands import LeaseAttempt, ReserveTokens, StartAttempt
from orchestrator.core.limits import UNBOUNDED
from orchestrator.core.moving import end_beyond, move_task
from orchestrator.core.ready import Entry
from orchestrator.core.state import Attempt, Executor, Plan, Pool, State
from orchestrator.core.task import Task
from orchestrator.core.words import AttemptKind, AttemptState, TaskState


def assign(s: State, *, at_ms: int) -> None:
    """Lease attempts until a limit is reached or nothing can start."""
    while len(s.attempts) < s.bounds.total and s.tokens and not s.is_paused:
        found = _next(s)
        if found is None:
            break
        plan, entry, executor = found
        task = entry[3]
        if not budget.is_affordable(s, plan, task):
            move_task(s, task, TaskState.HELD, reason=budget.reason_to_hold(s, plan, task).value)
            continue
        plan.queue.discard(task)
        _lease(s, plan, task, executor, at_ms=at_ms)
    if s.tokens_left < s.policy.tokens_low and not s.is_reserving:
        s.is_reserving = True
        s.out.append(ReserveTokens())


def _next(s: State) -> tuple[Plan, Entry, Executor] | None:
    best: tuple[tuple[int, str, int, int], Entry, Plan, Executor] | None = None
    for name, pool in s.pools.items():
        if not pool.tenants or pool.live >= s.bounds.of_pool(name) or breaker.is_shut(s, name):
            continue
        executor = _idle(pool)
        if executor is None:
            continue
        found = fairness.next_of_pool(s, name, pool)
        if found is None:
            continue
        plan, entry = found
        turn = (s.tenants[plan.tenant_id].ran, plan.tenant_id, plan.ran, plan.plan_id)
        if best is None or (turn, entry[:3]) < (best[0], best[1][:3]):
            best = (turn, entry, plan, executor)
    return None if best is None else (best[2], best[1], best[3])


def _idle(pool: Pool) -> Executor | None:
    """Return the executor with the most free slots."""
    while pool.idle:
        executor = pool.executors.get(pool.idle[0][1])
        if executor is not None and executor.free == -pool.idle[0][0]:
            return executor
        pool.listed.discard(heappop(pool.idle))
    return None


def _lease(s: State, plan: Plan, task: Task, executor: Executor, *, at_ms: int) -> None:
    kind, backend, token = task.wants, task.next_backend, s.take_token()
    reserved_micros = (budget.share(s, plan, task) or 0) if budget.is_paid(task) else 0
    task.not_before_ms = 0
    if kind is AttemptKind.WORK:
        move_task(s, task, TaskState.RUNNING)
    attempt = Attempt(
        token=token,
        task_id=task.task_id,
        plan_id=plan.plan_id,
        kind=kind,
        number=task.number_next(kind),
        agent_type=executor.pool,
        backend=backend,
        executor=executor.name,
        state=AttemptState.LEASED,
        leased_at_ms=at_ms,
        beat_at_ms=at_ms,
        reserved_micros=0 if reserved_micros == UNBOUNDED else reserved_micros,
    )
    register(s, plan, task, attempt)
    breaker.note_start(s, attempt)
    plan.ran += 1
    s.tenant(plan.tenant_id).ran += 1
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
            reserved_micros=attempt.reserved_micros,
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


def register(s: State, plan: Plan, task: Task, attempt: Attempt) -> None:
    """Count a live attempt everywhere it counts."""
    task.token = attempt.token
    s.attempts[attempt.token] = attempt
    s.pool(attempt.agent_type).live += 1
    s.tenant(plan.tenant_id).live += 1
    plan.live += 1
    budget.reserve(s, plan, attempt)
    s.touched.add(plan.plan_id)
    executor = s.executors.get(attempt.executor)
    if executor is not None:
        executor.tokens.add(attempt.token)
        note_idle(s, executor)


def unregister(s: State, attempt: Attempt, *, cost_micros: int | None) -> int:
    """Undo `register`: the attempt has ended, and has spent so much; None if nobody knows.

    Returns:
        What of its reservation counts as spent.
    """
    del s.attempts[attempt.token]
    s.pools[attempt.agent_type].live -= 1
    plan = s.plans[attempt.plan_id]
    plan.live -= 1
    kept_micros = budget.settle(s, plan, attempt, cost_micros)
    s.touched.add(plan.plan_id)
    tenant = s.tenant(plan.tenant_id)
    tenant.live -= 1
    if attempt.is_counted_on:  # it may have spent more than was left
        end_beyond(s)
    if plan.is_parked:
        fairness.offer_all(s, plan)
    if tenant.is_parked:
        fairness.offer_tenant(s, plan.tenant_id)
    if s.is_short and attempt.reserved_micros:
        fairness.offer_everybody(s)
    executor = s.executors.get(attempt.executor)
    if executor is not None:
        executor.tokens.discard(attempt.token)
        note_idle(s, executor)
    s.tasks[attempt.task_id].token = 0
    return kept_micros


def note_idle(s: State, executor: Executor) -> None:
    """Remember how many slots an executor has free."""
    pool, entry = s.pools[executor.pool], (-executor.free, executor.name)
    if executor.free > 0 and entry not in pool.listed:
        pool.listed.add(entry)
        heappush(pool.idle, entry)
