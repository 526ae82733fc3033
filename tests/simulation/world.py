"""One simulated installation: database, network, schedulers, executors, nodes and pools, on one loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.core.words import Proof
from orchestrator.runtime.scheduling import ExecutorInfo
from tests.simulation.database import Database
from tests.simulation.executors import SimulatedExecutor, Trees
from tests.simulation.faults import Dice
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.schedulers import SimulatedScheduler, settings

#: Pools: agent type, executors, slots of each.
POOLS = (("coder", 2, 2), ("tester", 1, 2), ("gate", 1, 2))


class World:
    """Everything there is, and what is wrong with it.

    Attributes:
        trace: what happened, line by line; `digest` is over the same lines.
        violations: what must not have happened.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.loop = VirtualLoop()
        self.dice = Dice(seed)
        self.database = Database(self.loop, self.dice)
        self.database.on_sent = self._sending
        self.database.on_committed = self._committed
        self.trees = Trees(self)
        self.schedulers: list[SimulatedScheduler] = []
        self.executors: dict[str, SimulatedExecutor] = {}
        self.processes: list[Process] = []
        self.crash_at = ""  #: the point at which the next scheduler that comes by dies
        self.freeze_s = 0.0  #: how long the next executor that stores a start freezes then; 0 = not at all
        self.trace: list[str] = []
        self.digest = hashlib.sha256()
        self.violations: list[str] = []
        self.is_over = False
        self._settings = settings(sessions_max=self.dice.throw.randint(2, 7), seed=seed)
        self._made = 0
        self.loop.set_exception_handler(self._on_error)

    def note(self, what: str, /, **details: object) -> None:
        """Write a line of the trace."""
        told = " ".join(f"{name}={value}" for name, value in details.items())
        line = f"{self.loop.time():9.4f} {what} {told}"
        self.trace.append(line)
        self.digest.update(line.encode())

    def violation(self, what: str) -> None:
        """Something happened that must not."""
        if not self.is_over:
            self.note(f"VIOLATION: {what}")
            self.violations.append(f"{self.loop.time():.3f} s: {what}")

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        self.violation(f"{context['message']}: {context.get('exception')!r}")

    # --- the network

    def send(self, what: str, to: Process | None, deliver: Callable[..., object], *args: Any) -> None:
        """Send a message: it arrives once, later, twice or never. `to` None: a node or the pools."""
        if self.is_over or self.dice.befalls("message lost"):
            self.note(f"lost: {what}")
            return
        for _ in range(1 + self.dice.befalls("message duplicated")):
            delay_s = self.dice.throw.uniform(0.0005, 0.01)
            if self.dice.befalls("message delayed"):
                delay_s += self.dice.throw.choice([0.1, 1.0, 10.0]) * self.dice.throw.random()
            self.loop.later(delay_s, self._arrive, what, to, deliver, args)

    def _arrive(self, what: str, to: Process | None, deliver: Callable[..., object], args: Any) -> None:
        if self.is_over:
            return
        self.note(f"{what} → {to.name if to else 'node'}", args=_words(args))
        if to is None:
            deliver(*args)
        else:
            self.loop.call(to, deliver, *args)

    # --- schedulers

    def start_scheduler(self, *, cluster_id: str = "c1") -> SimulatedScheduler:
        """Start another scheduler."""
        self._made += 1
        made = SimulatedScheduler(self, f"s{self._made}", cluster_id=cluster_id, settings=self._settings)
        self.note("scheduler starts", name=made.process.name, cluster=cluster_id)
        self.schedulers.append(made)
        self.processes.append(made.process)
        return made

    def reachable_schedulers(self) -> list[SimulatedScheduler]:
        """Return the scheduler that messages find, if there is one: of several any of them."""
        alive = [s for s in self.schedulers if not s.process.is_dead and not s.running.done()]
        return [self.dice.throw.choice(alive)] if alive else []

    def kill_scheduler(self, scheduler: SimulatedScheduler, why: str) -> None:
        """Kill a scheduler; the host starts another after a while."""
        if scheduler.process.is_dead:
            return
        self.note("scheduler dies", name=scheduler.process.name, why=why)
        scheduler.process.is_dead = True
        self.schedulers.remove(scheduler)

    async def keep_a_scheduler(self) -> None:
        """Start a scheduler whenever none lives, as the host does."""
        while True:
            self.schedulers = [s for s in self.schedulers if not s.running.done()]
            if not self.schedulers:
                self.start_scheduler()
            await asyncio.sleep(self.dice.throw.uniform(0.05, 3.0))

    def _crash(self, process: Process, point: str) -> None:
        """Let the scheduler die here, if this is where it is to die."""
        found = next((s for s in self.schedulers if s.process is process), None)
        if self.crash_at == point and found is not None:
            self.crash_at = ""
            self.dice.counts[f"scheduler killed {point}"] += 1
            self.kill_scheduler(found, point)

    def _sending(self, process: Process, what: str) -> None:
        if what == "commit":
            self._crash(process, "before a commit")
        elif what == "start" and self.freeze_s:
            executor = next(x for x in self.executors.values() if x.main is process)
            self.dice.counts["executor frozen at a start"] += 1
            self.note("executor freezes at a start", name=process.name, seconds=self.freeze_s)
            self.freeze(self.freeze_s, *executor.processes)
            self.freeze_s = 0.0

    def freeze(self, for_s: float, *processes: Process) -> None:
        """Stop processes for a while."""
        for process in processes:
            process.is_frozen = True
            self.loop.later(for_s, self.loop.thaw, process)

    def _committed(self, process: Process) -> None:
        found = next((s for s in self.schedulers if s.process is process), None)
        if found is not None and not found.scheduling.is_ready:
            self._crash(process, "while it recovers")
        self._crash(process, "after a commit")

    def dispatching(self, process: Process, tokens: Sequence[int]) -> None:
        """Hear that a scheduler is about to send starts."""
        for token in tokens:
            if token not in self.database.tables.attempts:
                self.violation(f"token {token} is sent before it is committed")
        self._crash(process, "at a dispatch")

    # --- executors, pools, nodes

    def start_executors(self) -> None:
        """Fill every pool."""
        for agent_type, count, slots in POOLS:
            for _ in range(count):
                self.start_executor(agent_type, slots)

    def start_executor(self, agent_type: str, slots: int) -> None:
        """Start an executor and let the scheduler know."""
        if self.is_over:
            return
        self._made += 1
        info = ExecutorInfo(executor=f"{agent_type}-{self._made}", agent_type=agent_type, slots=slots)
        made = self.executors[info.executor] = SimulatedExecutor(self, info)
        self.processes += made.processes
        for scheduler in self.reachable_schedulers():
            self.send("joined", scheduler.process, scheduler.scheduling.executor_joined, info)

    def kill_executor(self, name: str) -> None:
        """Kill an executor; the pools notice, tell of it and make another."""
        executor = self.executors.pop(name)
        self.note("executor dies", name=name)
        executor.kill()
        for scheduler in self.reachable_schedulers():
            self.send("lost", scheduler.process, scheduler.scheduling.executor_lost, name)
        pause_s = self.dice.throw.uniform(0.2, 4.0)
        self.loop.later(pause_s, self.start_executor, executor.info.agent_type, executor.info.slots)

    def is_frozen(self, executor: str) -> bool:
        """Tell whether an executor can do nothing at all just now."""
        found = self.executors.get(executor)
        return found is not None and found.thread.is_frozen

    def answer_pools(self, answer: asyncio.Future[list[ExecutorInfo]]) -> None:
        """The pools tell which executors live; the answer travels back."""
        alive = [executor.info for executor in self.executors.values()]
        self.send("pools answer", None, _resolve, answer, alive)

    def kill_tree(self, token: int, answer: asyncio.Future[Proof]) -> None:
        """The node ends a session's tree and says when it is gone; or it is away itself."""
        if self.dice.befalls("node away"):
            self.send("node answers", None, _resolve, answer, Proof.UNPROVEN)
        else:
            self.loop.later(self.dice.throw.uniform(0.0, 1.0), self._kill_tree, token, answer)

    def _kill_tree(self, token: int, answer: asyncio.Future[Proof]) -> None:
        self.trees.kill(token)
        self.send("node answers", None, _resolve, answer, Proof.GONE)


def _resolve(answer: asyncio.Future[Any], value: object) -> None:
    if not answer.done():
        answer.set_result(value)


def _words(args: tuple[Any, ...]) -> str:
    """Return what a message says, without what differs from run to run."""
    said = [arg for arg in args if not isinstance(arg, asyncio.Future)]
    return ", ".join(str(arg) for arg in said)
