"""Storms of refusals in virtual time: sessions on several executors, a governor, a provider with limits."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from orchestrator.sessions.grants import ExecutorGrants, GrantSettings
from tests.simulation.loop import VirtualLoop
from tests.support.governor import NearGovernor

SESSIONS, EXECUTORS, TURNS = 50, 4, 10
STORM_S = (5.0, 35.0)


def now_s() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Provider:
    """Refuses everything during the storm, and at any time what is beyond its limit a minute.

    Attributes:
        headers: of a refusal in the storm.
        tells: responses say what is left of the limit.
    """

    headers: Mapping[str, str]
    per_minute: int
    burst: int
    tells: bool
    storm_s: tuple[float, float] = STORM_S
    refused: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    level: float = 0.0
    at_s: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.burst

    def answer(self) -> tuple[int, Mapping[str, str]]:
        self.level = min(self.burst, self.level + (now_s() - self.at_s) * self.per_minute / 60)
        self.at_s = now_s()
        if self.storm_s[0] <= now_s() < self.storm_s[1]:
            self.refused.append(now_s())
            return 429, self.headers
        if self.level < 1:
            self.refused.append(now_s())
            return 429, {"retry-after": "1"}
        self.level -= 1
        self.accepted.append(now_s())
        told = {
            "anthropic-ratelimit-requests-limit": str(self.per_minute),
            "anthropic-ratelimit-requests-remaining": str(int(self.level)),
        }
        return 200, told if self.tells else {}


async def session(grants: ExecutorGrants, provider: Provider, dice: random.Random) -> None:
    for _ in range(TURNS):
        status = 0
        while status != 200:
            with await grants.ask("m") as request:
                await asyncio.sleep(dice.uniform(0.05, 0.3))
                status, headers = provider.answer()
                request.heard(status, headers)
                if status == 200:
                    await asyncio.sleep(dice.uniform(0.5, 3.0))
                    request.used(input_tokens=1000, output_tokens=100)
        await asyncio.sleep(dice.uniform(0.0, 1.0))


async def all_sessions(provider: Provider, governor: NearGovernor, seed: int) -> None:
    dice = random.Random(seed)
    settings = GrantSettings(wait_max_s=900.0)
    executors = [
        ExecutorGrants(executor=f"e{n}", governor=governor, settings=settings) for n in range(EXECUTORS)
    ]
    async with asyncio.TaskGroup() as group:
        for number in range(SESSIONS):
            group.create_task(session(executors[number % EXECUTORS], provider, dice))


def run(work: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(loop.spawn(work))
    finally:
        loop.bury([])


def by_second(moments: list[float], since_s: float) -> list[int]:
    counts = Counter(int(moment - since_s) for moment in moments if moment >= since_s)
    return [counts[second] for second in range(max(counts, default=0) + 1)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "headers", [{}, {"retry-after": "1"}, {"retry-after": "30"}], ids=["silent", "often", "once"]
)
def test_a_storm_of_30_s_is_waited_out_by_all_and_no_second_one_follows(
    headers: Mapping[str, str], seed: int
) -> None:
    provider = Provider(headers=headers, per_minute=3000, burst=1000, tells=False)
    run(all_sessions(provider, NearGovernor(), seed))

    assert len(provider.accepted) == SESSIONS * TURNS
    assert len(provider.refused) <= SESSIONS + 30  # what was under way, then one at a time
    assert max(provider.refused) < STORM_S[1]
    starts = by_second(provider.accepted, min(t for t in provider.accepted if t >= STORM_S[1]))
    print(f"seed {seed}: {len(provider.refused)} refused, then a second {starts[:12]}")
    assert starts[0] <= 11  # the one that tried, what a second of the ramp holds, and what it fills
    windows = [sum(starts[n : n + 5]) for n in range(0, len(starts), 5)]
    assert all(after <= 2 * before + 10 for before, after in pairwise(windows))


@pytest.mark.parametrize("tells", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("seed", range(3))
def test_a_limit_is_learned_and_kept(tells: bool, seed: int) -> None:
    provider = Provider(headers={}, per_minute=240, burst=20, tells=tells, storm_s=(0, 0))
    run(all_sessions(provider, NearGovernor(), seed))

    took_s = max(provider.accepted)
    print(f"seed {seed}: {len(provider.refused)} refused, {took_s:.0f} s")
    assert len(provider.accepted) == SESSIONS * TURNS
    assert len(provider.refused) <= (SESSIONS * TURNS * (0.02 if tells else 0.2))
    assert took_s <= 2 * 60 * SESSIONS * TURNS / provider.per_minute


@pytest.mark.parametrize("seed", range(3))
def test_a_governor_that_starts_again_or_is_away_stops_nobody(seed: int) -> None:
    provider = Provider(headers={"retry-after": "2"}, per_minute=3000, burst=1000, tells=True)
    governor = NearGovernor()

    async def scene() -> None:
        work = asyncio.create_task(all_sessions(provider, governor, seed))
        await asyncio.sleep(3)
        governor.restart()
        await asyncio.sleep(17)  # in the storm
        governor.restart()
        await asyncio.sleep(20)
        governor.is_away = True
        before = len(provider.accepted)
        await asyncio.sleep(20)
        alone = len(provider.accepted) - before
        assert EXECUTORS * 6 <= alone <= EXECUTORS * 30  # grants that are good, then one in 2 s
        governor.is_away = False
        governor.restart()
        await work

    run(scene())
    assert len(provider.accepted) == SESSIONS * TURNS
    assert len(provider.refused) <= SESSIONS + 30  # the new one is told of the pause
    assert max(provider.refused) < STORM_S[1]
