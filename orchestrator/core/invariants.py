"""What must be true of the scheduler's memory after every event. One named function per invariant.

`check_invariants` recomputes every derived number from scratch: O(tasks), for tests, simulations and demand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from orchestrator.core.moving import is_in_scope
from orchestrator.core.state import State
from orchestrator.core.words import (
    AT_WORK,
    CLOSED,
    LIVE,
    SATISFIED,
    AttemptKind,
    BreakerState,
    PlanState,
    TaskState,
)
from orchestrator.errors import InvariantViolation

#: What a task in one of these wants next follows from its state.
_GOING = frozenset({TaskState.READY, TaskState.RUNNING, TaskState.VERIFYING})


def check_invariants(s: State) -> None:
    """Raise InvariantViolation naming the first broken invariant and the thing that breaks it."""
    for invariant in INVARIANTS:
        for broken in invariant(s):
            raise InvariantViolation(f"{invariant.__name__}: {broken}")


def at_most_one_live_attempt_a_task(s: State) -> Iterator[str]:
    per_task = Counter(a.task_id for a in s.attempts.values())
    for task_id, count in per_task.items():
        if count > 1:
            yield f"task {task_id} has {count} live attempts"


def live_attempts_are_live_and_known(s: State) -> Iterator[str]:
    for token, attempt in s.attempts.items():
        if attempt.state not in LIVE:
            yield f"attempt {token} is {attempt.state} and still counted live"
        if s.tasks[attempt.task_id].token != token:
            yield f"task {attempt.task_id} does not know its attempt {token}"
    for task in s.tasks.values():
        if task.token and task.token not in s.attempts:
            yield f"task {task.task_id} holds the dead token {task.token}"


def states_fit_attempts(s: State) -> Iterator[str]:
    for task in s.tasks.values():
        if not s.plans[task.plan_id].is_loaded:
            continue
        attempt = s.attempts.get(task.token)
        if attempt is not None and attempt.kind is not task.wants:
            yield f"task {task.task_id} wants {task.wants}, its live attempt is {attempt.kind}"
        if task.state in _GOING and (task.state is TaskState.VERIFYING) is (task.wants is AttemptKind.WORK):
            yield f"task {task.task_id} is {task.state} and wants {task.wants}"
        if task.state is TaskState.RUNNING and (attempt is None or attempt.kind is not AttemptKind.WORK):
            yield f"task {task.task_id} is running without a live work attempt"
        if attempt is not None and task.state not in {TaskState.RUNNING, TaskState.VERIFYING}:
            yield f"task {task.task_id} is {task.state} with the live attempt {attempt.token}"


def only_satisfied_releases(s: State) -> Iterator[str]:
    unmet: Counter[int] = Counter()
    for plan in s.plans.values():
        if plan.is_loaded:
            for task_id in plan.task_ids:
                if s.tasks[task_id].state not in SATISFIED:
                    unmet.update(s.tasks[task_id].dependents)
    for task in s.tasks.values():
        if not s.plans[task.plan_id].is_loaded:
            continue
        if task.unmet != unmet[task.task_id]:
            yield f"task {task.task_id} counts {task.unmet} unmet, there are {unmet[task.task_id]}"
        if task.unmet and (
            task.state is TaskState.READY or (task.state in AT_WORK and not task.is_overtaken)
        ):
            yield f"task {task.task_id} is {task.state} with {task.unmet} unmet dependencies"


def containers_roll_up(s: State) -> Iterator[str]:
    open_children: Counter[int] = Counter()
    for task in s.tasks.values():
        if task.parent_id and task.state not in CLOSED:
            open_children[task.parent_id] += 1
    for task in s.tasks.values():
        if task.is_container and s.plans[task.plan_id].is_loaded:
            if task.open_children != open_children[task.task_id]:
                yield f"container {task.task_id} counts {task.open_children} open children"
            if (task.state in CLOSED) is not (task.open_children == 0):
                yield f"container {task.task_id} is {task.state} with {task.open_children} open children"


def startable_tasks_are_queued_once(s: State) -> Iterator[str]:
    backing_off = {task_id for at, task_id in s.timers if at}
    for plan in s.plans.values():
        if not plan.is_loaded:
            continue
        for task_id in plan.task_ids:
            task = s.tasks[task_id]
            startable = task.state in {TaskState.READY, TaskState.VERIFYING} and not task.token
            startable = startable and is_in_scope(plan, task)
            is_queued = task.ticket != 0
            if startable and not is_queued and not (task.not_before_ms and task_id in backing_off):
                yield f"task {task_id} is {task.state} and neither queued nor in back-off"
            if is_queued and not startable:
                yield f"task {task_id} is {task.state} and still queued"
        queued = Counter(s.tasks[i].pool for i in plan.task_ids if s.tasks[i].ticket)
        if dict(queued) != plan.queue.sizes:
            yield f"plan {plan.plan_id} counts {plan.queue.sizes} queued, there are {dict(queued)}"


def whoever_can_start_has_a_turn(s: State) -> Iterator[str]:
    for plan in s.plans.values():
        if plan.state is not PlanState.ACTIVE or not plan.is_loaded or plan.is_parked:
            continue
        for name in plan.queue.sizes:
            entries = s.pools[name].plans.get(plan.tenant_id, [])
            if name not in plan.offered or not any(plan_id == plan.plan_id for _, plan_id in entries):
                yield f"plan {plan.plan_id} has tasks for pool {name} and no turn there"
            is_parked = s.tenants[plan.tenant_id].is_parked
            if plan.tenant_id not in s.pools[name].present and not is_parked:
                yield f"tenant {plan.tenant_id} has tasks for pool {name} and no turn there"


def counts_are_true(s: State) -> Iterator[str]:
    live = Counter(a.agent_type for a in s.attempts.values())
    counted = {name: pool.live for name, pool in s.pools.items() if pool.live}
    if dict(live) != counted:
        yield f"live by pool is {dict(live)}, counted {counted}"
    by_tenant = Counter(s.plans[a.plan_id].tenant_id for a in s.attempts.values())
    tenants = {tenant_id: tenant.live for tenant_id, tenant in s.tenants.items() if tenant.live}
    if dict(by_tenant) != tenants:
        yield f"live by tenant is {dict(by_tenant)}, counted {tenants}"
    for plan in s.plans.values():
        if not plan.is_loaded:
            continue
        leaves = [s.tasks[i] for i in plan.task_ids if not s.tasks[i].is_container]
        counts = Counter(leaf.state for leaf in leaves if is_in_scope(plan, leaf))
        if +counts != +plan.counts:
            yield f"plan {plan.plan_id} counts {dict(plan.counts)}, there are {dict(counts)}"
        if plan.is_idle is not (not plan.live and not plan.queue.sizes):
            yield f"plan {plan.plan_id} is {'idle' if plan.is_idle else 'at work'} with {plan.queue.sizes}"
        if plan.live != sum(a.plan_id == plan.plan_id for a in s.attempts.values()):
            yield f"plan {plan.plan_id} counts {plan.live} live attempts"


def reservations_are_true(s: State) -> Iterator[str]:
    by_plan: Counter[int] = Counter()
    by_tenant: Counter[str] = Counter()
    for attempt in s.attempts.values():
        by_plan[attempt.plan_id] += attempt.reserved_micros
        by_tenant[s.plans[attempt.plan_id].tenant_id] += attempt.reserved_micros
    for plan in s.plans.values():
        if plan.purse.reserved != by_plan[plan.plan_id]:
            yield f"plan {plan.plan_id} counts {plan.purse.reserved} reserved, it is {by_plan[plan.plan_id]}"
    for tenant_id, tenant in s.tenants.items():
        if tenant.purse.reserved != by_tenant[tenant_id]:
            yield f"tenant {tenant_id} counts {tenant.purse.reserved} reserved, it is {by_tenant[tenant_id]}"
    if s.today.reserved != sum(by_plan.values()):
        yield f"today counts {s.today.reserved} reserved, it is {sum(by_plan.values())}"


def executors_hold_what_they_run(s: State) -> Iterator[str]:
    for executor in s.executors.values():
        tokens = {a.token for a in s.attempts.values() if a.executor == executor.name}
        if tokens != executor.tokens:
            yield f"executor {executor.name} counts {sorted(executor.tokens)}, runs {sorted(tokens)}"
        if len(tokens) > executor.slots:
            yield f"executor {executor.name} runs {len(tokens)} on {executor.slots} slots"


def free_slots_are_listed(s: State) -> Iterator[str]:
    for executor in s.executors.values():
        listed = s.pools[executor.pool].listed
        if executor.free > 0 and (-executor.free, executor.name) not in listed:
            yield f"executor {executor.name} has {executor.free} free slots that nobody will find"
    for name, pool in s.pools.items():
        if set(pool.idle) != pool.listed or len(pool.idle) != len(pool.listed):
            yield f"pool {name} lists {len(pool.listed)} idle entries and has {len(pool.idle)}"


def half_open_breakers_have_one_probe(s: State) -> Iterator[str]:
    for agent_type, breaker in s.breakers.items():
        if breaker.probe and breaker.probe not in s.attempts:
            yield f"breaker {agent_type} waits for the dead probe {breaker.probe}"
        if breaker.probe and breaker.state is not BreakerState.HALF_OPEN:
            yield f"breaker {agent_type} is {breaker.state} with the probe {breaker.probe}"


def done_plans_run_nothing(s: State) -> Iterator[str]:
    for attempt in s.attempts.values():
        plan = s.plans[attempt.plan_id]
        if plan.state is PlanState.DONE:
            yield f"plan {plan.plan_id} is done with the live attempt {attempt.token}"


INVARIANTS: tuple[Callable[[State], Iterator[str]], ...] = (
    at_most_one_live_attempt_a_task,
    live_attempts_are_live_and_known,
    states_fit_attempts,
    only_satisfied_releases,
    containers_roll_up,
    startable_tasks_are_queued_once,
    whoever_can_start_has_a_turn,
    counts_are_true,
    reservations_are_true,
    executors_hold_what_they_run,
    free_slots_are_listed,
    half_open_breakers_have_one_probe,
    done_plans_run_nothing,
)
