"""Executors with the shipped runtime inside, their nodes, and what their sessions do in the world.

A session is a process tree that lives by itself: it may end, be killed with its executor, be proven gone by
its node, or outlive them all. Its beginning and its end are the side effects that the verdict looks at.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.core.events import AttemptEnded
from orchestrator.core.words import LIVE, AttemptState, FailureClass
from orchestrator.errors import DatabaseUnavailable
from orchestrator.ports import Assignment, Outcome, Transcript, Usage, Workspace
from orchestrator.runtime.executing import _NOWHERE, Executing
from orchestrator.runtime.renewal import LeaseSettings, Renewal
from orchestrator.runtime.scheduling import ExecutorInfo
from tests.simulation.database import SimulatedLine
from tests.simulation.loop import Process
from tests.support.history_rows import Effect
from tests.support.memory import MemoryAttempts, MemoryBeats

if TYPE_CHECKING:
    from tests.simulation.world import World

LEASES = LeaseSettings(ttl_s=10.0, beat_s=1.5, margin_s=2.0)

#: Longest life of a session that begins when its attempt is lost already: its executor was out of its mind
#: (frozen, or stuck) between the start and the session, and ends it as soon as it looks at its leases.
ZOMBIE_S = 1.5

_OUTCOMES: tuple[tuple[int, AttemptState, FailureClass | None], ...] = (
    (70, AttemptState.SUCCEEDED, None),
    (10, AttemptState.FAILED, FailureClass.AGENT),
    (5, AttemptState.FAILED, FailureClass.INFRASTRUCTURE),
    (5, AttemptState.FAILED, FailureClass.RATE_LIMITED),
    (3, AttemptState.FAILED, FailureClass.WORKSPACE),
    (3, AttemptState.TIMED_OUT, FailureClass.TIMEOUT),
    (2, AttemptState.FAILED, FailureClass.PLAN_DEFECT),
    (1, AttemptState.FAILED, FailureClass.BUDGET),
    (1, AttemptState.FAILED, FailureClass.GATE),
)


@dataclass(slots=True, kw_only=True)
class Tree:
    """The process tree of a session."""

    assignment: Assignment
    executor: str
    is_zombie: bool
    gone: asyncio.Future[bool]  #: True when it ended by itself

    @property
    def is_alive(self) -> bool:
        """Whether any process of it is left."""
        return not self.gone.done()


class Trees:
    """Every process tree there ever was, by token; and the log of side effects."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.of: dict[int, Tree] = {}
        self.effects: list[Effect] = []

    def begin(self, assignment: Assignment, executor: str, *, lasts_s: float) -> Tree:
        """Let a session's tree come to life."""
        world, token = self._world, assignment.token
        if token in self.of:
            world.violation(f"the session of token {token} began twice")
        row = world.database.tables.attempts[token]
        tree = Tree(
            assignment=assignment,
            executor=executor,
            is_zombie=row.state not in LIVE,
            gone=world.loop.create_future(),
        )
        for other in self.of.values():
            if other.is_alive and other.assignment.task_id == assignment.task_id:
                self._meet(tree, other)
        self.of[token] = tree
        self._tell("start", tree)
        world.loop.later(lasts_s, self.end, token)
        if tree.is_zombie:
            self._world.dice.counts["session of a lost attempt"] += 1
            world.loop.later(ZOMBIE_S, self._must_be_gone, token)
        return tree

    def _meet(self, tree: Tree, other: Tree) -> None:
        """Two sessions of one task at once: only one of them may hold a valid token."""
        if not tree.is_zombie and not other.is_zombie:
            tokens = f"{other.assignment.token} and {tree.assignment.token}"
            self._world.violation(f"task {tree.assignment.task_id} has the sessions {tokens} at once")

    def _must_be_gone(self, token: int) -> None:
        if self.of[token].is_alive and self._world.is_frozen(self.of[token].executor):
            self._world.loop.later(ZOMBIE_S, self._must_be_gone, token)
        elif self.of[token].is_alive:
            self._world.violation(f"the session of the lost token {token} outlived its fence")

    def _tell(self, edge: str, tree: Tree) -> None:
        one = tree.assignment
        self._world.note(f"session {edge}", token=one.token, task=one.task_id, zombie=tree.is_zombie)
        if not tree.is_zombie:
            effect = Effect(edge=edge, token=one.token, key=one.key, attempt=one.number, pid=one.token)
            self.effects.append(effect)

    def end(self, token: int) -> None:
        """Let a tree end by itself; without effect on one that is gone."""
        tree = self.of[token]
        if tree.is_alive:
            self._tell("end", tree)
            tree.gone.set_result(True)

    def kill(self, token: int) -> None:
        """Kill a tree, if there is one."""
        tree = self.of.get(token)
        if tree is not None and tree.is_alive:
            self._world.note("session killed", token=token)
            tree.gone.set_result(False)


class SessionBackend:
    """Implements ports.Backend: a tree that does its work for a while, and an outcome by the dice."""

    name = "command"

    def __init__(self, world: World, executor: str) -> None:
        self._world = world
        self._executor = executor

    async def run(self, assignment: Assignment, workspace: Workspace, transcript: Transcript) -> Outcome:
        del workspace
        world, throw = self._world, self._world.dice.throw
        lasts_s = throw.choice([throw.uniform(0.01, 0.5), throw.uniform(0.5, 12.0)])
        tree = world.trees.begin(assignment, self._executor, lasts_s=lasts_s)
        transcript.write("note", "at work\n")
        try:
            is_whole = await asyncio.shield(tree.gone)
        except asyncio.CancelledError:
            await asyncio.sleep(throw.uniform(0.0, 0.3))  # its grace
            world.trees.kill(assignment.token)
            raise
        if not is_whole:
            return Outcome(
                state=AttemptState.FAILED, failure_class=FailureClass.AGENT, summary="ended by SIGTERM"
            )
        return self._outcome()

    def _outcome(self) -> Outcome:
        weights = [weight for weight, _, _ in _OUTCOMES]
        throw = self._world.dice.throw
        _, state, failure = (
            _OUTCOMES[0] if self._world.dice.is_peace else throw.choices(_OUTCOMES, weights)[0]
        )
        cost = Usage(cost_micros=throw.randrange(1000))
        return Outcome(state=state, failure_class=failure, summary=f"it {state.value}", usage=cost)


class _Workspaces:
    """Implements ports.WorkspaceProvider: preparing one takes a moment."""

    def __init__(self, world: World) -> None:
        self._world = world

    @asynccontextmanager
    async def open(self, assignment: Assignment, transcript: Transcript) -> AsyncIterator[Workspace]:
        del assignment, transcript
        await asyncio.sleep(self._world.dice.throw.uniform(0.0, 0.05))
        yield _NOWHERE


class SimulatedExecutor:
    """An executor's process, wired as actors/executor.py wires it; its thread of leases is one beside."""

    def __init__(self, world: World, info: ExecutorInfo) -> None:
        self._world = world
        self.info = info
        self.main, self.thread = Process(info.executor), Process(f"{info.executor}'s leases")
        self.line = SimulatedLine(world.loop, world.database, self.main)
        tables = world.database.tables
        self._renewal = Renewal(
            renewer=MemoryBeats(tables, check=self._check_line),
            settings=LEASES,
            on_cancel=self._on_cancel,
            on_fenced=self._on_fenced,
            clock_s=world.loop.time,
        )
        self.executing = Executing(
            store=MemoryAttempts(tables, executor=info.executor, incarnation=info.executor, line=self.line),
            leases=self._renewal,
            backends={"command": SessionBackend(world, info.executor)},
            workspaces=_Workspaces(world),
            report=self._report,
        )
        world.loop.spawn(self.executing.run(), self.main).add_done_callback(self._ended)
        world.loop.spawn(self._repeat(LEASES.beat_s, self._renewal.beat), self.thread)
        world.loop.spawn(self._repeat(1.0, self._renewal.fence_overdue), self.thread)

    @property
    def processes(self) -> tuple[Process, Process]:
        """What a signal to its process reaches."""
        return self.main, self.thread

    @staticmethod
    async def _repeat(every_s: float, work: object) -> None:
        assert callable(work)
        while True:
            await asyncio.sleep(every_s)
            work()

    def _check_line(self) -> None:
        if self.line.is_cut or self._world.database.is_hung or self._world.dice.befalls("renewal lost"):
            raise DatabaseUnavailable("The connection broke.")

    def _on_cancel(self, token: int, reason: str) -> None:
        self._world.loop.call(self.main, self.executing.cancel, token, reason)

    def _on_fenced(self, token: int) -> None:
        self._world.note("fenced", executor=self.info.executor, token=token)
        self._world.loop.later(self._world.dice.throw.uniform(0.0, 0.3), self._world.trees.kill, token)
        self._world.loop.call(self.main, self.executing.fence, token)

    async def _report(self, *, started: Sequence[int], ended: Sequence[AttemptEnded]) -> None:
        for scheduler in self._world.reachable_schedulers():
            self._world.send("report", scheduler.process, scheduler.report, list(started), list(ended))

    def _ended(self, running: asyncio.Task[None]) -> None:
        if not self._world.is_over and not running.cancelled() and running.exception() is not None:
            self._world.violation(f"{self.info.executor} failed: {running.exception()!r}")

    def kill(self) -> None:
        """End its process, and with it, but for bad luck, the trees of its sessions."""
        for process in self.processes:
            process.is_dead = True
        dice, trees = self._world.dice, self._world.trees
        for token, tree in trees.of.items():
            if (
                tree.is_alive
                and tree.executor == self.info.executor
                and not dice.befalls("process tree survived")
            ):
                self._world.loop.later(dice.throw.uniform(0.0, 0.3), trees.kill, token)
