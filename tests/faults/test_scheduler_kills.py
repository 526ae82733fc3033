"""SIGKILL of the scheduler at named points of its work: it is back, and nothing is lost or done twice.

The actors, Ray and PostgreSQL are real. Every task keeps a log of side effects, so a session that ran twice
would show, whatever the tables say.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

import pytest

from tests.support.actor_stack import ActorStack
from tests.support.crashing_scheduler import BEFORE_DISPATCH, IN_RECOVERY, POINTS, Death, Deaths
from tests.support.crashing_stack import crashing_stack
from tests.support.extent import EXTENT, IS_FULL, seed
from tests.support.history import Acknowledged, EffectLog, check_history
from tests.support.host import wait_until
from tests.support.plans import threes
from tests.support.rebuilding import differences, picture, rebuild
from tests.support.rows import Rows

#: Bounded, each point once.
KILLS = 200 if IS_FULL else len(POINTS)

pytestmark = [
    pytest.mark.ray,
    pytest.mark.postgres,
    pytest.mark.faults,
    pytest.mark.timeout(4000 if IS_FULL else 600),
]

#: Longest from a death to the next committed lease, without other load. How many kept to it is told.
BACK_S = 5.0

#: Most that the median may be, in full: other load can make a single one take any time.
BACK_MEDIAN_S = 3 * BACK_S

#: Longest wait for a death: the scheduler must be back and come to the point.
DEATH_MAX_S = 120.0

#: Tasks of one plan, and how few may be open before there is another: no incarnation gets through so many.
PLAN_TASKS = 60
OPEN_MIN = 40

#: Stays as it is for the whole run, so that memory has something to be compared by.
WAITING_PLAN = """\
# Waiting

- [ ] **W.1** Ask
  - approve: the owner
  - run: `true`
- [ ] **W.2** Go on
  - depends: W.1
  - run: `true`
"""


class Work:
    """Plans handed in as fast as they are done."""

    def __init__(self, stack: ActorStack, effects: EffectLog) -> None:
        self._stack = stack
        self._effects = effects
        self._numbers = count(1)
        self.rows = Rows(stack.urls)
        self.acknowledged: list[Acknowledged] = []
        self.waiting = self._submit(WAITING_PLAN)

    def _submit(self, text: str) -> int:
        folder = str(self._effects.path.parent)
        plan_id: int = self._stack.do("submit", text, f"plan {next(self._numbers)}", folder, "auto")
        self.acknowledged.append(Acknowledged(plan_id))
        return plan_id

    def open_tasks(self) -> int:
        """Count the tasks that are not done, the waiting plan's left out."""
        query = "SELECT count(*) FROM task_states WHERE state <> 'done' AND plan_id <> %s"
        return int(self.rows.column(query, self.waiting)[0])

    def refill(self) -> None:
        """See to it that there is something to lease."""
        if self.open_tasks() < OPEN_MIN:
            self._submit(threes(self._effects.line(), tasks=PLAN_TASKS))


def _have_died(deaths: Deaths, count: int) -> bool:
    return len(deaths.so_far()) >= count


def returns(rows: Rows, deaths: list[Death]) -> list[tuple[str, float]]:
    """Return the point of each death and the seconds to the next committed lease.

    Left out are deaths that were followed by another before there was a lease.
    """
    query = "SELECT extract(epoch FROM min(leased_at))::float8 FROM attempts WHERE epoch > %s"
    next_deaths_s = [*(death.at_s for death in deaths[1:]), float("inf")]
    found = []
    for death, next_death_s in zip(deaths, next_deaths_s, strict=True):
        leased_s = float(rows.column(query, death.epoch)[0])
        if leased_s < next_death_s:
            found.append((death.point, leased_s - death.at_s))
    return found


def tell(returned: list[tuple[str, float]]) -> None:
    """Print how long it took from a death to the next committed lease: after any, and by its point."""
    groups = {"any point": [took_s for _, took_s in returned]}
    groups |= {point: [took_s for died_at, took_s in returned if died_at == point] for point in POINTS}
    for words, took_s in groups.items():
        if took_s:
            times_s = sorted(took_s)
            p50_s, p90_s, p99_s = (times_s[int(share * (len(times_s) - 1))] for share in (0.5, 0.9, 0.99))
            in_time = sum(time_s < BACK_S for time_s in times_s)
            print(
                f"  {in_time:3} of {len(times_s):3} within {BACK_S:.0f} s: p50 {p50_s:.2f}, p90 {p90_s:.2f}, "
                f"p99 {p99_s:.2f}, max {times_s[-1]:.2f} s: {words}"
            )


async def test_a_scheduler_that_dies_at_any_point_loses_nothing(home: Path) -> None:
    number = seed()
    dice = random.Random(number)
    points = [POINTS[n % len(POINTS)] for n in range(KILLS)]
    dice.shuffle(points)
    deaths, effects = Deaths(home), EffectLog(home)
    deaths.plan([(point, 1 if point == IN_RECOVERY else dice.randint(1, 3)) for point in points])
    with crashing_stack(home) as stack:
        work = Work(stack, effects)
        for kill, point in enumerate(points, 1):
            work.refill()
            wait_until(
                partial(_have_died, deaths, kill),
                timeout_s=DEATH_MAX_S,
                what=f"kill {kill}, {point}",
            )
        wait_until(lambda: work.open_tasks() == 0, timeout_s=120.0, what="every task is done")
        history = check_history(stack.urls.service, effects=effects, acknowledged=work.acknowledged)
        live = stack.do("call", "scheduler", "memory")
        assert differences(picture(await rebuild(stack.urls.service)), live) == []
        died = deaths.so_far()
        returned = returns(work.rows, died)
    print(f"{EXTENT}: seed {number}, {len(died)} kills, {history.summary}")
    tell(returned)
    assert Counter(death.point for death in died) == Counter(points)
    unsent = {token for death in died if death.point == BEFORE_DISPATCH for token in death.tokens}
    assert {history.attempts[token].state for token in unsent} == {"succeeded"}  # with the same token
    assert {attempt.state for attempt in history.attempts.values()} == {"succeeded"}
    assert not IS_FULL or median(took_s for _, took_s in returned) < BACK_MEDIAN_S
