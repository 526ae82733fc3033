"""What strikes by itself: one task for each kind of fault that the seed has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.simulation.schedulers import SimulatedScheduler
from tests.simulation.world import World


class Trouble:
    """Strikes until peace is made."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._throw = world.dice.throw
        self._strikes: dict[str, Callable[[], bool]] = {
            "scheduler killed": self._kill_scheduler,
            "scheduler frozen": self._freeze_scheduler,
            "scheduler drained": self._drain_scheduler,
            "second scheduler": self._second_scheduler,
            "executor killed": self._kill_executor,
            "executor frozen": lambda: self._freeze_executor(with_leases=True),
            "executor's loop stuck": lambda: self._freeze_executor(with_leases=False),
            "executor frozen at a start": self._freeze_at_start,
            "executor cut off from the database": self._cut_executor_off,
            "database outage": self._database_outage,
            "database hung": self._database_hung,
            "clock jump": self._clock_jump,
        }
        for point in ("before a commit", "after a commit", "while it recovers", "at a dispatch"):
            self._strikes[f"scheduler killed {point}"] = lambda point=point: self._arm(point)  # type: ignore[misc]
        for name, mean_s in world.dice.strikes.items():
            world.loop.spawn(self._strike(name, mean_s))

    async def _strike(self, name: str, mean_s: float) -> None:
        world = self._world
        while True:
            await asyncio.sleep(world.dice.pause_s(mean_s))
            if world.dice.is_peace:
                return
            if self._strikes[name]():
                world.dice.counts[name] += 1
                world.note(f"TROUBLE: {name}")

    def _arm(self, point: str) -> bool:
        """Have the next scheduler that comes to this point die there; counted when it does."""
        self._world.crash_at = point
        return False

    def _scheduler(self) -> SimulatedScheduler | None:
        found = self._world.reachable_schedulers()
        return found[0] if found else None

    def _kill_scheduler(self) -> bool:
        found = self._scheduler()
        if found is not None:
            self._world.kill_scheduler(found, "by trouble")
        return found is not None

    def _freeze_scheduler(self) -> bool:
        found = self._scheduler()
        if found is not None:
            self._world.freeze(self._throw.uniform(0.5, 15.0), found.process)
            if self._throw.random() < 0.5:  # whoever watches it takes it for dead
                self._world.start_scheduler()
        return found is not None

    def _drain_scheduler(self) -> bool:
        found = self._scheduler()
        if found is None:
            return False
        timeout_s = self._throw.uniform(0.0, 5.0)
        self._world.loop.spawn(found.scheduling.drain(timeout_s=timeout_s), found.process)
        return True

    def _second_scheduler(self) -> bool:
        if len(self._world.schedulers) > 2:
            return False
        self._world.start_scheduler(cluster_id=self._throw.choice(["c1", "c2"]))
        return True

    def _freeze_at_start(self) -> bool:
        """Have the next executor that stores a start freeze before it hears the answer; counted then."""
        self._world.freeze_s = self._throw.uniform(1.0, 25.0)
        return False

    def _kill_executor(self) -> bool:
        names = list(self._world.executors)
        if names:
            self._world.kill_executor(self._throw.choice(names))
        return bool(names)

    def _freeze_executor(self, *, with_leases: bool) -> bool:
        if not self._world.executors:
            return False
        executor = self._world.executors[self._throw.choice(list(self._world.executors))]
        chosen = executor.processes if with_leases else (executor.main,)
        self._world.freeze(self._throw.uniform(0.5, 25.0), *chosen)
        return True

    def _cut_executor_off(self) -> bool:
        if not self._world.executors:
            return False
        executor = self._world.executors[self._throw.choice(list(self._world.executors))]
        executor.line.cut_until_s = self._world.loop.time() + self._throw.uniform(0.5, 25.0)
        return True

    def _database_outage(self) -> bool:
        lasts_s = self._throw.choice([self._throw.uniform(0.05, 2.0), self._throw.uniform(2.0, 20.0)])
        self._world.database.away_until_s = self._world.loop.time() + lasts_s
        return True

    def _database_hung(self) -> bool:
        lasts_s = self._throw.choice([self._throw.uniform(0.5, 2.0), self._throw.uniform(2.0, 12.0)])
        self._world.database.hung_until_s = self._world.loop.time() + lasts_s
        return True

    def _clock_jump(self) -> bool:
        self._world.database.clock_offset_ms += int(self._throw.uniform(-60_000, 60_000))
        return True


def make_peace(world: World) -> None:
    """End every fault: from now on everything works, and stays."""
    world.dice.is_peace = True
    world.crash_at, world.freeze_s = "", 0.0
    world.database.away_until_s = world.database.hung_until_s = 0.0
    for executor in world.executors.values():
        executor.line.cut_until_s = 0.0
    for process in world.processes:
        if process.is_frozen:
            world.loop.thaw(process)
    world.note("PEACE")
