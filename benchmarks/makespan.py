"""How close 1,000 simulated tasks of one second come to the ideal, handed in over HTTP to warm pools."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import Figure
from orchestrator.client import Client
from orchestrator.core.words import AT_REST, PlanState
from orchestrator.views import SubmitRequest
from tests.support.command_line import own_command_line

TASKS = 1_000
CONCURRENCY = 100
RUNS = 3
IDEAL_S = TASKS / CONCURRENCY
MAKESPAN_AT_MOST_S = 1.15 * IDEAL_S
STORED_AT_MOST_S = 2.0
POLL_S = 0.5

ENVIRONMENT = {
    "ORCHESTRATOR_LIMITS__SESSIONS_MAX": str(CONCURRENCY),
    "ORCHESTRATOR_LIMITS__AGENT_DEFAULT_MAX": str(CONCURRENCY),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One plan: seconds until it was stored and answered, and from there to its end."""

    stored_s: float
    makespan_s: float


def plan_text(tasks: int) -> str:
    """Independent tasks that pretend to work for one second."""
    lines = ["# Makespan", ""]
    for number in range(tasks):
        lines += [f"- [ ] **A.{number + 1}** Do piece {number + 1}", "  - simulate: 1s"]
    return "\n".join(lines) + "\n"


def run_plan(client: Client, *, name: str, tasks: int) -> Measured:
    """Hand in a plan and wait for its end; the makespan is by the times of the database."""
    request = SubmitRequest(text=plan_text(tasks), name=name, backend="simulated")
    started_s = time.perf_counter()
    plan_id = client.submit(request).plan_id
    stored_s = time.perf_counter() - started_s
    while (plan := client.plan(str(plan_id))).state not in AT_REST:
        time.sleep(POLL_S)
    if plan.state != PlanState.DONE or plan.attempts != tasks:
        raise RuntimeError(f"the plan is {plan.state} after {plan.attempts} attempts")
    assert plan.ended_at is not None
    return Measured(stored_s=stored_s, makespan_s=(plan.ended_at - plan.created_at).total_seconds())


def measure() -> Iterator[Figure]:
    """Yield the figures; a small plan starts the executors before anything counts."""
    with own_command_line() as base:
        cli = base.with_environment(**ENVIRONMENT)
        cli.run("up")
        with Client.of_home(cli.home) as client:
            run_plan(client, name="warm-up", tasks=2 * CONCURRENCY)
            runs = [run_plan(client, name=f"makespan-{number}", tasks=TASKS) for number in range(RUNS)]
        cli.run("down")
    size = f"{TASKS:,} tasks"
    stored_s = tuple(run.stored_s for run in runs)
    yield Figure(
        name=f"{size} parsed and stored over HTTP", values=stored_s, unit="s", at_most=STORED_AT_MOST_S
    )
    yield Figure(
        name=f"{size} of 1 s, {CONCURRENCY} at once, ideal {IDEAL_S:g} s",
        values=tuple(run.makespan_s for run in runs),
        unit="s",
        at_most=MAKESPAN_AT_MOST_S,
    )
