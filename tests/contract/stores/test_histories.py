"""Long seeded histories must go the same way on PostgreSQL and in memory: every answer and every refusal.

Two schedulers take the term from each other, two executors and a twin of one start, end and beat, and most of
what they ask is wrong: old epochs, ended tokens, taken numbers, stale versions.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from orchestrator.core.commands import AskCancel, RowCommand, SavePlan, TakeResult
from orchestrator.core.words import AttemptState, PlanState
from orchestrator.errors import Fenced, InvariantViolation
from orchestrator.ports import Outcome
from orchestrator.store.urls import DatabaseUrls
from tests.support.rows import end, lease, record, save
from tests.support.stores import MemoryStores, PostgresStores, Stores

SEEDS = range(3)
STEPS = 120
TOKENS = range(1, 8)
REFUSED = "refused"
STATES = [AttemptState.LOST, AttemptState.TIMED_OUT]

#: One thing that somebody asks of the stores.
Step = Callable[["Side"], Awaitable[object]]


class Side:
    """Everybody on one of the two databases, and what was found there in the end."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores
        self.plan_id, self.task_ids = stores.plan(3, edges=[(1, 0)])
        self.schedulers = [stores.scheduler(), stores.scheduler(cluster="c2")]
        self.executors = [
            stores.executor("x1"),
            stores.executor("x1", incarnation="i2"),
            stores.executor("x2"),
        ]
        self.beats = stores.beats()

    async def take(self, step: Step) -> object:
        """Take one step; return its answer or REFUSED.

        Of a batch that is wrong in two ways each side may name another one first.
        """
        try:
            return await step(self)
        except (Fenced, InvariantViolation):
            return REFUSED

    async def found(self) -> list[object]:
        """Return what the tables hold, as far as anybody can see it."""
        scheduler = self.schedulers[0]
        seen = self.stores.attempts(), self.stores.starts(), self.stores.events(), self.stores.versions()
        plans = [part async for part in scheduler.load_plan(self.plan_id)]
        return [*seen, plans, await scheduler.beats(), await scheduler.reports()]


def _rows(dice: random.Random, side: Side, versions: list[int]) -> list[RowCommand]:
    """Return a batch; mostly one that could be right."""
    place, token, plan_id = dice.randrange(3), dice.choice(TOKENS), side.plan_id
    task_id, version = side.task_ids[place], versions[place] + (dice.random() < 0.1)
    state = dice.choice(STATES)
    made = lease(
        token, plan_id=plan_id, task_id=task_id, number=dice.randint(1, 4), executor=dice.choice(["x1", "x2"])
    )
    return dice.sample(
        [
            save(task_id, expected=version, version=version + 1, losses=dice.randint(0, 2)),
            made,
            end(dice.choice(TOKENS), state, end_reason="told"),
            TakeResult(token=dice.choice(TOKENS)),
            AskCancel(token=dice.choice(TOKENS), reason="by request"),
            SavePlan(
                plan_id=plan_id,
                state=dice.choice([PlanState.ACTIVE, PlanState.PAUSED]),
                until_task=0,
                budget_micros=0,
            ),
            record("noted", plan_id=plan_id),
        ],
        k=dice.choice([0, 1, 1, 2, 3]),
    )


def _step(seed: str) -> Step:
    """Return a step that throws the same dice on both sides."""

    async def step(side: Side) -> object:
        dice = random.Random(seed)
        scheduler, executor = dice.choice(side.schedulers), dice.choice(side.executors)
        tokens = dice.sample(TOKENS, k=dice.randint(1, 3))
        match dice.choices(
            ["commit", "term", "fate", "start", "result", "beat", "batch"], [8, 1, 2, 4, 3, 1, 1]
        )[0]:
            case "commit":
                await scheduler.commit(dice.randint(1, 99), _rows(dice, side, side.stores.versions()))
                return "committed"
            case "term":
                if dice.random() < 0.3:
                    await scheduler.release_term()
                    return "released"
                taken = await scheduler.take_term(
                    incarnation=dice.choice(["s1", "s2"]), is_starting=dice.random() < 0.5, patience_s=0.0
                )
                return taken.epoch
            case "fate":
                return await scheduler.fate(tokens[0], may_fence=dice.random() < 0.5, reason="why")
            case "start":
                return sorted(a.token for a in await executor.start(tokens))
            case "result":
                said = Outcome(state=dice.choice([AttemptState.SUCCEEDED, AttemptState.CANCELLED]))
                return await executor.save_results([(token, said) for token in tokens])
            case "beat":
                return side.beats.renew(tokens)
        return await scheduler.last_batch()

    return step


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_same_history_goes_the_same_way_on_both(seed: int, database: DatabaseUrls) -> None:
    sides = [Side(PostgresStores(database)), Side(MemoryStores())]
    answers: Counter[str] = Counter()
    for n in range(STEPS):
        step = _step(f"{seed}/{n}")
        real, memory = [await side.take(step) for side in sides]
        assert real == memory, f"seed {seed}, step {n}"
        answers["refused" if real == REFUSED else "done"] += 1
    assert await sides[0].found() == await sides[1].found(), f"seed {seed}"
    for side in sides:
        await side.stores.close()
    print(f"seed {seed}: {dict(answers)}")
    assert min(answers.values()) > STEPS // 20
