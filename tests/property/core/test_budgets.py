"""Whatever happens, no budget is exceeded by more than the last answer of each session.

Sessions spend answer by answer until their reservation is used up, end as they like or are lost, or because a
budget was lowered; schedulers die and come back; days pass. What is really spent is counted beside.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core import events as e
from orchestrator.core.limits import Limits
from orchestrator.core.state import Policy
from orchestrator.core.task import TaskRules
from orchestrator.core.words import AttemptState, FailureClass
from tests.support.core import PLAN, World, spec

M = 1_000_000
DAY_MS = 86_400_000
ANSWER_MAX = 2 * M

BUDGETS = (0, 3 * M, 7 * M, 20 * M)
WHAT = {"answer": 12, "done": 1, "fail": 2, "lose": 1, "start": 2, "day": 1, "restart": 1, "set": 1}


@dataclass
class Sessions:
    """What really happens: each session stops at its reservation, and what it spent is known in the end."""

    world: World
    spent: dict[str, Counter[Any]] = field(default_factory=lambda: defaultdict(Counter))
    last: dict[str, Counter[Any]] = field(default_factory=lambda: defaultdict(Counter))
    of_token: Counter[int] = field(default_factory=Counter)
    reserved: dict[int, int] = field(default_factory=dict)
    excess: Counter[int] = field(default_factory=Counter)
    before: Counter[int] = field(default_factory=Counter)  #: by plan: spent when its budget was last set

    def purses(self, token: int) -> list[tuple[str, Any]]:
        attempt = self.world.state.attempts[token]
        plan = self.world.state.plans[attempt.plan_id]
        return [
            ("task", attempt.task_id),
            ("plan", plan.plan_id),
            ("tenant", plan.tenant_id),
            ("day", self.world.now_ms // DAY_MS),
        ]

    def answer(self, token: int, micros: int) -> None:
        cap = self.world.state.attempts[token].reserved_micros
        before = self.of_token[token]
        if cap and before >= cap:
            self.end(token, AttemptState.FAILED, FailureClass.BUDGET)
            return
        self.of_token[token] += micros
        beyond = max(0, before + micros - cap) if cap else 0
        for kind, name in self.purses(token):
            self.spent[kind][name] += micros
            self.last[kind][name] += beyond

    def set_budget(self, plan_id: int, micros: int, dice: random.Random) -> None:
        """A person sets the budget of a plan; who is asked to end for that gets the answer it waits for."""
        self.before[plan_id] = self.spent["plan"][plan_id]
        self.world.request("set_budget", plan_id=plan_id, budget_micros=micros)
        while asked := [each for each in self.world.state.attempts.values() if each.cancel_reason]:
            token, in_flight = asked[0].token, dice.randint(0, ANSWER_MAX)
            self.of_token[token] += in_flight
            for kind, name in self.purses(token):
                self.spent[kind][name] += in_flight
                self.last[kind][name] += in_flight
            self.end(token, AttemptState.INTERRUPTED)

    def end(self, token: int, state: AttemptState, failure: FailureClass | None = None) -> None:
        self.world.handle(e.AttemptStarted(token=token))
        self.world.handle(
            e.AttemptEnded(
                token=token,
                state=state,
                failure_class=failure,
                summary="",
                cost_micros=self.of_token[token],
            )
        )


def restarted(world: World, policy: Policy, limits: Limits, sessions: Sessions) -> World:
    """Return a world that was rebuilt from what stands in the tables."""
    old = world.state
    new = World(policy=policy)
    new.now_ms = world.now_ms
    new.handle(e.LimitsSet(limits=limits))
    new.handle(
        e.ControlsRead(
            is_paused=False,
            overrides=old.bounds.overrides,
            spent={name: tenant.purse.spent for name, tenant in old.tenants.items()},
            spent_today=old.today.spent,
        )
    )
    new.state.tokens = old.tokens
    for plan in old.plans.values():
        tasks = [replace(old.tasks[i], token=0, ticket=0, unmet=0, dependents=()) for i in plan.task_ids]
        live = tuple(
            e.LiveAttempt(
                token=a.token, task_id=a.task_id, kind=a.kind, number=a.number, agent_type=a.agent_type,
                backend=a.backend, executor=a.executor, state=a.state, cancel_reason=a.cancel_reason,
                reserved_micros=a.reserved_micros,
            )
            for a in old.attempts.values() if a.plan_id == plan.plan_id
        )  # fmt: skip
        loaded = e.PlanSpec(
            plan_id=plan.plan_id, tenant_id=plan.tenant_id, state=plan.state,
            budget_micros=plan.budget_micros, spent_micros=plan.purse.spent, until_task=0,
            fruitless_micros=plan.fruitless_micros,
        )  # fmt: skip
        new.load(tasks, plan=loaded, attempts=live)
    new.join("a", slots=6)
    sessions.world = new
    return new


@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 2**32))
def test_no_budget_is_exceeded_by_more_than_the_last_answers(seed: int) -> None:
    dice = random.Random(seed)
    budgets, own, tenant, day = dice.choices(BUDGETS, k=2), *dice.choices(BUDGETS, k=3)
    policy = Policy(backoff_ms=(0,), attempt_cost_micros=dice.choice([0, 2 * M, 5 * M]), losses_max=9)
    limits = Limits(tenant_budget_micros=tenant, day_budget_micros=day)
    sessions = Sessions(begun(policy, limits, budgets, TaskRules(attempts_max=20, budget_micros=own)))
    for what in dice.choices(list(WHAT), list(WHAT.values()), k=120):
        if what == "day":
            sessions.world.wait(DAY_MS)
        elif what == "restart":
            restarted(sessions.world, policy, limits, sessions)
        elif what == "set" and sessions.world.state.plans:
            plan_id = dice.choice(sorted(sessions.world.state.plans))
            budgets[plan_id - 1] = dice.choice(BUDGETS)
            sessions.set_budget(plan_id, budgets[plan_id - 1], dice)
        elif live := sorted(sessions.world.state.attempts):
            befall(sessions, what, dice.choice(live), dice.randint(1, ANSWER_MAX))
        sessions.world.wait(1)
        for kind, most in (("task", own), ("tenant", tenant)):
            for name, spent in sessions.spent[kind].items():
                assert not most or spent <= most + sessions.last[kind][name], f"{kind} {name}"
        for number, budget in enumerate(budgets, start=1):
            borne = max(budget, sessions.before[number]) + sessions.last["plan"][number]
            assert not budget or sessions.spent["plan"][number] <= borne
        check_days(sessions, day)


def begun(policy: Policy, limits: Limits, budgets: list[int], rules: TaskRules) -> World:
    """Return a world with a plan of six paid tasks for each budget."""
    world = World(policy=policy)
    world.now_ms = 20_000 * DAY_MS
    world.handle(e.LimitsSet(limits=limits))
    world.wait(0)
    world.join("a", slots=6)
    for number, budget in enumerate(budgets, start=1):
        tasks = [spec(10 * number + n, backend="anthropic", rules=rules) for n in range(6)]
        world.load(
            tasks, plan=replace(PLAN, plan_id=number, budget_micros=budget, tenant_id="xy"[number % 2])
        )
    return world


def befall(sessions: Sessions, what: str, token: int, micros: int) -> None:
    """Let something happen to a session."""
    match what:
        case "answer":
            sessions.world.handle(e.AttemptStarted(token=token))
            sessions.answer(token, micros)
        case "done":
            sessions.end(token, AttemptState.SUCCEEDED)
        case "fail":
            sessions.end(token, AttemptState.FAILED, FailureClass.RATE_LIMITED)
        case "start":
            sessions.world.handle(e.AttemptStarted(token=token))
        case "lose":
            sessions.world.handle(e.AttemptLost(token=token, reason="executor lost"))


def check_days(sessions: Sessions, most: int) -> None:
    """A session that runs over midnight spends of both days, so only the sum of the days is bounded."""
    days = sessions.world.now_ms // DAY_MS - 20_000 + 1
    spent, beyond = sessions.spent["day"].total(), sessions.last["day"].total()
    assert not most or spent <= most * days + beyond
