"""An executor's side of the governor, on a virtual clock: whoever waits is served in order, by few calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from orchestrator.errors import Overloaded
from orchestrator.grant_ports import GovernorGateway, Grant, GrantDemand
from orchestrator.ports import SessionLimits
from orchestrator.sessions.grants import ExecutorGrants, GrantSettings
from orchestrator.sessions.watch import TimedOut, watched
from tests.simulation.loop import VirtualLoop

SETTINGS = GrantSettings(wait_max_s=100.0, alone_per_s=0.5)


class Answers:
    """A governor that answers as it is told, and remembers what it heard."""

    def __init__(self, answer: Callable[[GrantDemand], Grant]) -> None:
        self.answer = answer
        self.heard: list[tuple[float, GrantDemand]] = []

    async def grant(self, demand: GrantDemand) -> Grant:
        self.heard.append((asyncio.get_running_loop().time(), demand))
        await asyncio.sleep(0.001)
        return self.answer(demand)


def grant(requests: int = 0, *, again_s: float = 0.1, pause_s: float = 0.0, good_s: float = 5.0) -> Grant:
    return Grant(requests=requests, good_s=good_s, again_s=again_s, pause_s=pause_s)


def grants(governor: GovernorGateway) -> ExecutorGrants:
    return ExecutorGrants(executor="e1", governor=governor, settings=SETTINGS)


def run(work: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(loop.spawn(work))
    finally:
        loop.bury([])


def now_s() -> float:
    return asyncio.get_running_loop().time()


def test_those_who_wait_are_served_in_order_and_asked_for_at_once():
    governor = Answers(lambda demand: grant(2 if demand.waiting else 0))
    served: list[int] = []

    async def session(asks: ExecutorGrants, number: int) -> None:
        with await asks.ask("m") as request:
            served.append(number)
            request.heard(200, {})

    async def scene() -> None:
        asks = grants(governor)
        async with asyncio.TaskGroup() as group:
            for number in range(6):
                group.create_task(session(asks, number))

    run(scene())
    assert served == [0, 1, 2, 3, 4, 5]
    assert governor.heard[0][1].waiting == 6
    assert len(governor.heard) <= 4


def test_a_thousand_requests_cost_about_a_call_a_second():
    governor = Answers(lambda demand: grant(demand.waiting + demand.spare * 4))

    async def session(asks: ExecutorGrants) -> None:
        for _ in range(100):
            with await asks.ask("m") as request:
                await asyncio.sleep(0.5)
                request.heard(200, {})
                request.used(input_tokens=10, output_tokens=2)

    async def scene() -> None:
        asks = grants(governor)
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(session(asks))
        await asyncio.sleep(10)

    run(scene())
    assert sum(demand.finished for _, demand in governor.heard) == 1000
    assert sum(demand.accepted for _, demand in governor.heard) == 1000
    assert sum(demand.input_tokens for _, demand in governor.heard) == 10_000
    assert len(governor.heard) <= 80  # in 50 s
    assert governor.heard[-1][0] < 55  # then there is nothing to tell any more


def test_a_refusal_is_told_at_once_and_nobody_here_sends_meanwhile():
    governor = Answers(lambda demand: grant(10, pause_s=3.0 if demand.refused else 0.0))
    begun: list[float] = []

    async def scene() -> None:
        asks = grants(governor)
        with await asks.ask("m") as request:
            await asyncio.sleep(0.25)
            request.heard(429, {"retry-after": "3"})
        refused_s = now_s()
        governor.answer = lambda demand: grant(
            0 if now_s() < refused_s + 3 else 1, pause_s=max(0, refused_s + 3 - now_s())
        )
        for _ in range(3):
            with await asks.ask("m") as request:
                begun.append(now_s() - refused_s)

    run(scene())
    told_s = next(at_s for at_s, demand in governor.heard if demand.refused)
    assert told_s == pytest.approx(0.251, abs=0.01)
    assert begun[0] >= 3.0


def test_without_a_governor_a_grant_stays_good_then_one_follows_the_other_slowly():
    governor = Answers(lambda _: grant(3, good_s=5.0))
    begun: list[float] = []

    def away(_: GrantDemand) -> Grant:
        raise Overloaded("The governor does not answer.")

    async def scene() -> None:
        asks = grants(governor)
        for _ in range(11):
            with await asks.ask("m"):
                begun.append(now_s())
            governor.answer = away
        governor.answer = lambda demand: grant(demand.waiting)
        with await asks.ask("m"):
            begun.append(now_s())

    run(scene())
    assert begun[6] < 0.1  # what was granted, and four
    assert begun[10] == pytest.approx(8.0, abs=1.1)
    assert sum(demand.finished for _, demand in governor.heard[-1:]) == 11  # nothing that it did is lost


def test_leave_that_comes_as_its_session_is_cancelled_is_the_next_one_s():
    governor = Answers(lambda _: grant(1, again_s=50.0))

    async def scene() -> None:
        asks = grants(governor)
        first = asyncio.create_task(asks.ask("m"))
        second = asyncio.create_task(asks.ask("m"))
        await asyncio.sleep(0.0009)
        asyncio.get_running_loop().call_at(0.001, first.cancel)
        request = await second
        assert now_s() < 60
        with request:
            pass
        with pytest.raises(asyncio.CancelledError):
            await first

    run(scene())


def test_a_wait_that_is_too_long_is_refused_and_says_how_long():
    governor = Answers(lambda _: grant(0, pause_s=4000.0))

    async def scene() -> None:
        asks = grants(governor)
        with pytest.raises(Overloaded, match="4000 s") as refused:
            await asks.ask("m")
        assert refused.value.retry_after_s == 4000.0
        governor.answer = lambda _: grant(0)
        since_s = now_s()
        with pytest.raises(Overloaded, match="100 s"):
            await asks.ask("m")
        assert now_s() - since_s == pytest.approx(100)

    run(scene())


def test_a_wait_counts_neither_as_silence_nor_as_time_of_the_session():
    limits = SessionLimits(total_timeout_s=10.0, idle_timeout_s=4.0, wait_max_s=2000.0)

    async def patient() -> None:
        async with watched(limits) as clocks:
            await asyncio.sleep(3)
            await clocks.stand_still(asyncio.sleep(1000))
            await asyncio.sleep(3)
            clocks()
            await asyncio.sleep(3)
            assert clocks.waited_s == pytest.approx(1000)

    async def slow() -> None:
        async with watched(limits) as clocks:
            for _ in range(4):
                await asyncio.sleep(3)
                await clocks.stand_still(asyncio.sleep(100))

    async def silent() -> None:
        async with watched(limits) as clocks:
            await clocks.stand_still(asyncio.sleep(100))
            await asyncio.sleep(5)

    async def for_ever() -> None:
        async with watched(limits) as clocks:
            await clocks.stand_still(asyncio.sleep(1500))
            await clocks.stand_still(asyncio.sleep(501))

    async def scene() -> None:
        await patient()
        with pytest.raises(Overloaded, match="2000 s in all"):
            await for_ever()
        with pytest.raises(TimedOut, match="longer than 10 s"):
            await slow()
        with pytest.raises(TimedOut, match="silent for 4 s"):
            await silent()

    run(scene())


def test_a_pause_is_told_to_a_governor_that_may_have_started_anew():
    governor = Answers(lambda _: grant(0, pause_s=30.0))

    async def scene() -> None:
        asks = grants(governor)
        waiting = asyncio.create_task(asks.ask("m"))
        await asyncio.sleep(10)
        governor.answer = lambda demand: grant(demand.waiting)
        with await waiting:
            pass

    run(scene())
    [first, *later] = governor.heard
    assert first[1].pause_s == 0.0
    assert all(demand.pause_s == pytest.approx(30.0, abs=1.1) for at_s, demand in later if at_s < 10)
