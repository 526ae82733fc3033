"""Pings the scheduler of a home until stdin ends, then tells the round trips: how late its loop answers.

    python -m tests.support.scheduler_pings HOME

It prints `ready` at first, and at the end one line of JSON with the count, the median and the longest, in ms.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from actors.joining import join_ray
from orchestrator.stack import read_stack

PERIOD_S = 0.02


async def _ping_until(end: asyncio.Task[str], scheduler: Any) -> list[float]:
    trips_ms = []
    while not end.done():
        start_s = time.monotonic()
        await scheduler.ping.remote()
        trips_ms.append((time.monotonic() - start_s) * 1000)
        await asyncio.sleep(PERIOD_S)
    return trips_ms


async def _main() -> None:
    from actors.factory import find
    from actors.options import SCHEDULER

    scheduler = find(SCHEDULER)
    await scheduler.ping.remote()  # the first one connects
    print("ready", flush=True)
    end = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    trips_ms = await _ping_until(end, scheduler)
    told = {"count": len(trips_ms), "median_ms": statistics.median(trips_ms), "longest_ms": max(trips_ms)}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    home = Path(sys.argv[1])
    stack = read_stack(home)
    assert stack is not None
    join_ray(stack.ray_address, home=home)
    asyncio.run(_main())
