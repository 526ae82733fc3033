"""The real actors with sessions that do nothing, and the same without a database: the reference.

What is measured is what ships: scheduler, executors and their loops are the product's own classes. Replaced
are the sessions, the pools (a fixed number of executors) and, in the reference, the two stores.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

from actors.executor import Executor, session_limits
from actors.options import ActorConfig
from actors.scheduler import Scheduler
from orchestrator.core.commands import RowCommand, TakeResult
from orchestrator.core.events import AffinityRow, AttemptEnded, AttemptStarted, ControlsRead, PlanSpec
from orchestrator.core.limits import Overrides
from orchestrator.core.task import Task
from orchestrator.core.words import AttemptKind, AttemptState, PlanState, TaskState
from orchestrator.ports import (
    Assignment,
    Fate,
    Outcome,
    PlanSlice,
    Revision,
    SessionLimits,
    StoredAnswer,
    Term,
    Transcript,
    TranscriptChunk,
    Workspace,
)
from orchestrator.runtime.scheduling import ExecutorInfo

#: Tokens in a block of the reference, as many as the tables grant.
TOKEN_BLOCK = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A plan of equal tasks: task n waits for task n - 1, except the first of each chain, which is ready."""

    tasks: int
    chain: int = 5
    agent_type: str = "general-purpose"

    def is_first(self, number: int) -> bool:
        """Tell whether a task, counted from 0, is the first of its chain."""
        return number % self.chain == 0


class NoSession:
    """Implements ports.Backend: it does nothing, at once."""

    name = "simulated"  # the one backend for which no workspace is opened

    async def run(self, assignment: Assignment, workspace: Workspace, transcript: Transcript) -> Outcome:
        """Succeed."""
        return Outcome(state=AttemptState.SUCCEEDED)


class IdleExecutor(Executor):
    """The product's executor, whose sessions do nothing."""

    def __init__(self, config: ActorConfig, name: str, agent_type: str) -> None:
        super().__init__(config, name, agent_type)
        self._executing._backends = {NoSession.name: NoSession()}


class FixedPools:
    """Stands where the pools stand, with executors that were made before."""

    def __init__(self, present: Sequence[tuple[ExecutorInfo, Any]]) -> None:
        self._present = list(present)

    async def executors(self) -> list[tuple[ExecutorInfo, Any]]:
        """Return every executor, with its node and its handle."""
        return self._present

    async def want(self, sessions: Mapping[str, int]) -> None:
        """Hear the demand; nothing follows from it."""


class ReferenceExecutor(IdleExecutor):
    """The same without tables: every start and every result is accepted at once."""

    def __init__(self, config: ActorConfig, name: str, agent_type: str) -> None:
        super().__init__(config, name, agent_type)
        self._executing._store = _NoAttempts(agent_type, session_limits(config.settings))
        self._renewal.stop()


class ReferenceScheduler(Scheduler):
    """The same without tables: commits are accepted at once, and the plan comes from its shape."""

    def __init__(self, config: ActorConfig, shapes: Sequence[Shape]) -> None:
        super().__init__(config)
        self._store = _NoTables(shapes)
        self._scheduling._store = self._store

    async def ends(self) -> list[float]:
        """Return when each attempt was committed as ended, in seconds of the monotonic clock."""
        return self._store.ends


class _NoAttempts:
    """Implements runtime.executing.AttemptStore."""

    def __init__(self, agent_type: str, limits: SessionLimits) -> None:
        self._agent_type = agent_type
        self._limits = limits

    async def start(self, tokens: Sequence[int]) -> list[Assignment]:
        return [self._assignment(token) for token in tokens]

    def _assignment(self, token: int) -> Assignment:
        return Assignment(
            token=token,
            number=1,
            kind=AttemptKind.WORK,
            tenant_id="local",
            plan_id=1,
            plan_name="reference",
            task_id=token,
            key=f"T{token}",
            title=f"Task {token}",
            body="",
            acceptance=(),
            agent_type=self._agent_type,
            backend=NoSession.name,
            model="",
            run=(),
            verify=(),
            workdir="",
            feedback="",
            limits=self._limits,
        )

    async def save_results(self, results: Sequence[tuple[int, Outcome]]) -> set[int]:
        return {token for token, _ in results}

    async def save_chunks(self, chunks: Sequence[TranscriptChunk]) -> None:
        del chunks


class _NoTables:
    """Implements ports.SchedulerStore."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self.ends: list[float] = []
        self._shapes = shapes
        self._next_plan = 0
        self._next_token = 1

    async def take_term(self, *, incarnation: str, is_starting: bool, patience_s: float) -> Term:
        del incarnation, is_starting, patience_s
        return Term(epoch=1, now_ms=1)

    async def release_term(self) -> None:
        return None

    async def commit(self, batch: int, rows: Sequence[RowCommand]) -> None:
        del batch
        now_s = time.monotonic()
        self.ends += [now_s for row in rows if isinstance(row, TakeResult)]

    async def last_batch(self) -> int:
        return 0

    async def reserve_tokens(self) -> tuple[int, int]:
        first, self._next_token = self._next_token, self._next_token + TOKEN_BLOCK
        return first, TOKEN_BLOCK

    async def unfinished_plans(self) -> list[int]:
        return []

    async def submitted_plans(self) -> list[int]:
        """Return the next plan once all tasks of the plans before it have ended."""
        before = sum(shape.tasks for shape in self._shapes[: self._next_plan])
        if self._next_plan == len(self._shapes) or len(self.ends) < before:
            return []
        self._next_plan += 1
        return [self._next_plan]

    async def open_revisions(self) -> list[Revision]:
        return []

    async def store_revision(self, revision_id: int) -> bool:
        del revision_id
        return False

    async def load_plan(self, plan_id: int) -> AsyncIterator[PlanSlice]:
        shape = self._shapes[plan_id - 1]
        first = 1 + sum(before.tasks for before in self._shapes[: plan_id - 1])
        plan = PlanSpec(
            plan_id=plan_id,
            tenant_id="local",
            state=PlanState.SUBMITTED,
            budget_micros=0,
            spent_micros=0,
            until_task=0,
        )
        ids = range(first, first + shape.tasks)
        tasks = tuple(new_task(task_id, shape, number) for number, task_id in enumerate(ids))
        edges = tuple((i, i - 1) for number, i in enumerate(ids) if not shape.is_first(number))
        yield PlanSlice(plan=plan, tasks=tasks, edges=edges)

    async def reports(self) -> list[AttemptStarted | AttemptEnded]:
        return []

    async def beats(self) -> dict[int, int]:
        return {}

    async def fate(self, token: int, *, may_fence: bool, reason: str) -> Fate:
        del token, may_fence, reason
        return Fate(verdict="over")

    async def controls(self) -> ControlsRead:
        return ControlsRead(is_paused=False, overrides=Overrides())

    async def stored_answer(self, *, tenant_id: str, key: str) -> StoredAnswer | None:
        del tenant_id, key
        return None

    async def agent_sessions(self) -> dict[str, int | None]:
        return {}

    async def changed_affinity(self) -> tuple[AffinityRow, ...]:
        return ()

    async def save_state(self, key: str, value: Mapping[str, object]) -> None:
        del key, value


def new_task(task_id: int, shape: Shape, number: int) -> Task:
    """Return a task that nothing has happened to yet, the one of that number in its plan, from 0."""
    return Task(
        task_id=task_id,
        parent_id=0,
        is_container=False,
        state=TaskState.READY if shape.is_first(number) else TaskState.WAITING,
        reason="",
        agent_type=shape.agent_type,
        backend=NoSession.name,
        task_type="",
        domain="",
        priority=2,
        rank=0,
        not_before_ms=0,
        attempts_used=0,
        losses=0,
        has_gate=False,
        hold_when_ready=None,
        work_number=0,
        gate_number=0,
        review_number=0,
        version=0,
    )


def node_id() -> str:
    """Return Ray's id of this node."""
    return str(ray.get_runtime_context().get_node_id())
