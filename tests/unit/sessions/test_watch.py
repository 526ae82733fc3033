"""The clocks of a session: what sets them back, what stops them, and that they go off."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.ports import SessionLimits
from orchestrator.sessions.watch import Clocks, TimedOut, effective_limits, watched


async def idle(limits: SessionLimits, *, is_lively: bool = False) -> None:
    """Run a session that never ends by itself."""
    async with watched(limits) as clocks:
        while True:
            await asyncio.sleep(0.01)
            if is_lively:
                clocks()


def silent_from_s(clocks: Clocks) -> float:
    """Return when the session counts as silent if nothing comes any more."""
    found_s = clocks.silence.when()
    assert found_s is not None
    return found_s


async def test_silence_ends_a_session_and_the_total_a_lively_one() -> None:
    with pytest.raises(TimedOut, match=r"silent for 0\.2 s"):
        await idle(SessionLimits(idle_timeout_s=0.2, total_timeout_s=600))
    with pytest.raises(TimedOut, match=r"longer than 0\.2 s in total"):
        await idle(SessionLimits(idle_timeout_s=600, total_timeout_s=0.2), is_lively=True)


async def test_every_sign_of_life_counts_and_few_of_them_set_the_clock() -> None:
    loop = asyncio.get_running_loop()
    async with watched(SessionLimits(idle_timeout_s=1.0, total_timeout_s=600)) as clocks:
        settings = set()
        for _ in range(1_000):
            clocks()
            assert silent_from_s(clocks) >= loop.time() + 0.999, "it may be late, never early"
            settings.add(silent_from_s(clocks))
        assert len(settings) < 500
        await asyncio.sleep(0.02)
        clocks()
        assert silent_from_s(clocks) > max(settings)


async def test_no_time_passes_while_the_clocks_stand_still() -> None:
    async with watched(SessionLimits(idle_timeout_s=600, total_timeout_s=900)) as clocks:
        clocks()
        total_s, silent_s = clocks.total.when(), silent_from_s(clocks)
        assert total_s is not None
        for _ in range(3):
            await clocks.stand_still(asyncio.sleep(0.1))
        assert clocks.waited_s >= 0.3
        assert clocks.total.when() == pytest.approx(total_s + clocks.waited_s)
        assert silent_from_s(clocks) > silent_s


def test_zero_takes_the_default_but_no_grace_is_a_grace() -> None:
    given = effective_limits(SessionLimits(total_timeout_s=0, turns_max=0, grace_s=0, idle_timeout_s=7))
    assert given == SessionLimits(grace_s=0, idle_timeout_s=7)
