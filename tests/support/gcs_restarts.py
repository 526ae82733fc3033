"""Kills the GCS of our own Ray, asks for an actor, and has Ray mended meanwhile; in a process of its own.

    python -m tests.support.gcs_restarts HOME

It prints how long it was to the GCS and to the actor, in seconds.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from cluster.home import HostHome
from cluster.ray_cluster import OwnRay
from orchestrator.settings import load_settings

#: An actor is asked for so long before Ray is mended.
ASKED_BEFORE_S = 3.0


class Thing:
    """Becomes an actor."""

    def ping(self) -> int:
        """Return the process."""
        return os.getpid()


def _make() -> int:
    import ray

    made: Any = ray.remote(Thing).options(name="thing", get_if_exists=True, num_cpus=0).remote()
    pid: int = ray.get(made.ping.remote())
    return pid


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - the end of a process tells nobody here
        await asyncio.sleep(0.05)


async def main(home: Path) -> None:
    """Start, kill, mend, end."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    cluster = OwnRay(load_settings(home), home=HostHome(home))
    await cluster.load()
    await cluster.start()
    from cluster.ray_head import GCS

    head = cluster._head
    assert head is not None
    assert head._node is not None
    os.kill(head._node.process(GCS).pid, signal.SIGKILL)
    await _until(lambda: head.is_dead(GCS))
    start_s = time.monotonic()
    asked = asyncio.create_task(cluster.call(_make))
    await asyncio.sleep(ASKED_BEFORE_S)
    assert not asked.done(), "it was made without a GCS"
    await cluster.repair()
    mended_s = time.monotonic() - start_s
    await asked
    print(f"{mended_s:.1f} {time.monotonic() - start_s:.1f}", flush=True)
    await cluster.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
