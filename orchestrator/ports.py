"""What the rings of the orchestrator know of each other: shapes and Protocols, no behaviour.

The runtime is written against these; `store`, `sessions` and `workspace` implement them, and `actors`
wires the implementations together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from orchestrator.agent_types import TOOLS, AgentLimits
from orchestrator.core.commands import RowCommand
from orchestrator.core.events import (
    AffinityRow,
    AttemptEnded,
    AttemptStarted,
    ControlsRead,
    LiveAttempt,
    NotesWritten,
    PlanSpec,
    ProposalsPaid,
)
from orchestrator.core.task import Task
from orchestrator.core.values import value
from orchestrator.core.words import AttemptKind, AttemptState, FailureClass, Proof
from orchestrator.surroundings import Recalled, Surroundings
from orchestrator.views import NoteKind, NoteView


@value
class Usage:
    """What an attempt consumed. Tokens are counts; money is in millionths of a US dollar."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_micros: int = 0
    requests: int = 0


@value
class SessionLimits:
    """Hard limits of one attempt. All are upper bounds; 0 means the backend's own default.

    Attributes:
        wait_max_s: how long it may wait for leave to ask its model, in all; this counts against no timeout.
    """

    total_timeout_s: float = 7200.0
    idle_timeout_s: float = 900.0
    wait_max_s: float = 900.0
    grace_s: float = 5.0
    turns_max: int = 50
    cost_micros_max: int = 5_000_000
    output_bytes_max: int = 10_000_000
    context_tokens_max: int = 3_000

    def narrowed(self, own: AgentLimits) -> SessionLimits:
        """Return these with those of an agent type, which never are wider."""
        given: dict[str, Any] = {
            "total_timeout_s": own.timeout_s,
            "idle_timeout_s": own.idle_timeout_s,
            "turns_max": own.turns,
            "cost_micros_max": own.cost_micros,
        }
        narrower = {name: most for name, most in given.items() if most and most < getattr(self, name)}
        return replace(self, **narrower) if narrower else self


@value
class Repository:
    """The repository of a plan, in whose clones its attempts work.

    Attributes:
        url: absolute folder of this machine, or an address that git knows.
        branch: what attempts begin with; empty = its HEAD.
        include: patterns of git for ignored files of the folder, of which each clone gets a copy.
        setup: shell lines that are run in each clone before its session.
    """

    url: str
    branch: str = ""
    include: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()


@value
class Assignment:
    """Everything an executor needs for one attempt; read from the tables in the start transaction.

    Attributes:
        token: fencing token of the attempt.
        number: 1 for the first work attempt of the task, then 2, ...
        backend: a name of orchestrator/backends.py; already resolved from `auto`.
        prompt: who the agent type is and how it works, for the model.
        tools: those of TOOLS that the agent type may use.
        run: shell lines of the plan for the command backend, in order.
        verify: shell lines of the gate, in order.
        workdir: absolute folder of the plan's work; empty if the plan has none.
        repository: of the plan; None = it works in `workdir`.
        feedback: what the failed gate, the refusing review or the failed attempt before said; empty at first.
            Of a review: what the work that it judges reported.
        surroundings: what its context pack tells beside its own words; empty where no model is asked.
        options: field lines of the task as written, such as `simulate` for the simulated backend.
    """

    token: int
    number: int
    kind: AttemptKind
    tenant_id: str
    plan_id: int
    plan_name: str
    task_id: int
    key: str
    title: str
    body: str
    acceptance: tuple[str, ...]
    agent_type: str
    backend: str
    model: str
    prompt: str = ""
    tools: tuple[str, ...] = TOOLS
    run: tuple[str, ...]
    verify: tuple[str, ...]
    workdir: str
    feedback: str
    limits: SessionLimits
    repository: Repository | None = None
    surroundings: Surroundings = field(default_factory=Surroundings)
    options: Mapping[str, object] = field(default_factory=dict)


@value
class Outcome:
    """How an attempt ended, in the words of the executor that ran it.

    Attributes:
        state: `succeeded`, `failed`, `timed_out` or `cancelled`.
        failure_class: set unless succeeded or cancelled.
        summary: one line for people.
        detail: the end of the output, or the model's report; feeds the next attempt. At most 20,000 chars.
        report: the structured report of a model session, if it gave one.
    """

    state: AttemptState
    failure_class: FailureClass | None = None
    summary: str = ""
    detail: str = ""
    exit_code: int | None = None
    report: Mapping[str, object] | None = None
    usage: Usage = field(default_factory=Usage)


class NoteBook(Protocol):
    """Where sessions leave word for each other. Raises DatabaseUnavailable while the server is away."""

    async def write(self, token: int, *, kind: NoteKind, text: str) -> bool:
        """Leave a note on the task of a live attempt; False: it is over. The same text is kept once."""

    async def read(self, token: int) -> tuple[NoteView, ...]:
        """Return the newest notes and decisions of the plan, the newest first."""

    async def recall(self, token: int, key: str) -> Recalled | None:
        """Return what is known of a task of the plan; None if it has none of that key."""


class Transcript(Protocol):
    """Where a session tells what it does, while it does it. Never blocks and never raises."""

    def write(self, stream: str, text: str) -> None:
        """Add text. `stream` is `stdout`, `stderr`, `model`, `tool` or `note`."""


#: Milliseconds since the start of the attempt, the stream, the text.
TranscriptLine: TypeAlias = tuple[int, str, str]


@value
class TranscriptChunk:
    """A piece of a transcript, to be stored as one row. `seq` counts the pieces of the token from 1."""

    token: int
    seq: int
    lines: Sequence[TranscriptLine]


class Process(Protocol):
    """A child process tree under the launcher."""

    @property
    def pid(self) -> int:
        """The pid of the launcher that holds the tree."""

    def output(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield `(stream, chunk)` until both of stdout and stderr have ended."""

    async def write(self, data: bytes) -> None:
        """Give `data` to the stdin of a command that has one. Raises ConnectionError: it reads no more."""

    def end_input(self) -> None:
        """End the stdin of a command that has one; harmless to repeat."""

    async def wait(self) -> int:
        """Return the exit code of the command; negative means the number of the signal that ended it."""

    async def kill(self, *, grace_s: float) -> None:
        """End every descendant: SIGTERM, then SIGKILL after `grace_s`; returns when none is left."""


class Launcher(Protocol):
    """Starts children that cannot outlive us."""

    async def start(
        self,
        argv: Sequence[str],
        *,
        workspace: Workspace,
        token: int,
        has_input: bool = False,
        needs_network: bool = False,
    ) -> Process:
        """Start `argv` in a workspace; every descendant dies when this process does.

        Its stdin is what `Process.write` gives it if it `has_input`, else empty. One that `needs_network`
        has it even where sessions have none.
        """


@value
class Owner:
    """A user of this machine, to whom files belong and as whom programs run."""

    uid: int
    gid: int


@value
class Workspace:
    """A place where a session works, and what its programs may reach.

    Attributes:
        path: where they start; theirs to write.
        env: what they get, and nothing else.
        writable: other folders that are theirs to write, such as those of HOME and TMPDIR.
        readable: what they may read besides the system, such as the objects that a clone borrows.
        owner: as whom they run; None = as whoever runs the orchestrator.
    """

    path: Path
    env: Mapping[str, str]
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    owner: Owner | None = None


class WorkspaceProvider(Protocol):
    """Gives each attempt its workspace."""

    def open(self, assignment: Assignment, transcript: Transcript) -> AbstractAsyncContextManager[Workspace]:
        """Prepare the workspace; leaving the context keeps its work, and releases it.

        Raises:
            EnvironmentFault: it cannot be prepared, or its work cannot be kept; then it stays as it is.
        """


class SessionCancelled(asyncio.CancelledError):
    """The CancelledError of a session, with what it had used up to then.

    Attributes:
        usage: of all its requests, the one that was cut off included.
    """

    def __init__(self, usage: Usage) -> None:
        super().__init__()
        self.usage = usage


class Backend(Protocol):
    """One way to run a session. A new backend is one file in `sessions/`."""

    name: str

    async def run(self, assignment: Assignment, workspace: Workspace, transcript: Transcript) -> Outcome:
        """Run one attempt to its end.

        Being cancelled means: end every child, then let CancelledError through, as SessionCancelled if
        anything was used. What goes wrong inside the session is an Outcome with its failure class; any
        other exception is a defect of the backend.
        """


@value
class Term:
    """The scheduler's right to write. `now_ms` is the database's clock when it was granted."""

    epoch: int
    now_ms: int


@value
class Fate:
    """What the tables say of an attempt that did not report.

    Attributes:
        verdict: `result` (a result is stored and wins), `started` (it started and may still run),
            `fenced` (marked lost: it can store nothing any more),
            `over` (it had ended already).
        result: the report of the stored result.
        node_id: where it started; empty if that is not known.
        reason: why it was fenced, by this call or an earlier one.
    """

    verdict: str
    result: AttemptEnded | None = None
    node_id: str = ""
    reason: str = ""


@value
class StoredAnswer:
    """The answer of an earlier request. `digest` tells what was asked; `error` is empty if it was done."""

    digest: str
    result: Mapping[str, object]
    error: str
    remedy: str


@value
class Revision:
    """A new text of a plan, of which the scheduler has not heard or that it does not run by yet."""

    id: int
    plan_id: int


class SchedulerStore(Protocol):
    """What the scheduler reads and writes. All of it raises DatabaseUnavailable while the server is away."""

    async def take_term(self, *, incarnation: str, is_starting: bool, patience_s: float) -> Term:
        """Wait until the term may be taken, and take it.

        At once when it was released, when this incarnation holds it, or, for one that is starting, when an
        earlier incarnation of our own cluster does. Otherwise only after the term's row has stood still for
        `patience_s` of our own monotonic clock, so that two schedulers never seize it from each other.
        """

    async def release_term(self) -> None:
        """Give the term back, so that the next scheduler need not wait."""

    async def commit(self, batch: int, rows: Sequence[RowCommand]) -> None:
        """Write everything or nothing, as batch number `batch`.

        Raises:
            Fenced: another scheduler holds the term.
            InvariantViolation: a guarded row is not as memory has it; memory must be loaded again.
            DatabaseUnavailable: the outcome is unknown; ask `last_batch` and send the same batch again.
        """

    async def last_batch(self) -> int:
        """Return the number of the last committed batch. Reconnects. Raises Fenced."""

    async def reserve_tokens(self) -> tuple[int, int]:
        """Return the first token and the number of tokens of a new block."""

    async def unfinished_plans(self) -> list[int]:
        """Return the plans that are neither done nor cancelled, oldest first."""

    async def submitted_plans(self) -> list[int]:
        """Return the plans that no scheduler has taken yet, oldest first."""

    async def open_revisions(self) -> list[Revision]:
        """Return the revisions that no scheduler runs by yet, oldest first."""

    async def store_revision(self, revision_id: int) -> bool:
        """Make the rows of a plan those of a revision, states left alone; False if it was refused.

        Once is enough: one that is stored already stays so. Raises Fenced.
        """

    def load_plan(self, plan_id: int) -> AsyncIterator[PlanSlice]:
        """Yield a plan in slices of at most 1,000 tasks, the last with its attempts that have not ended."""

    async def reports(self) -> Sequence[AttemptStarted | AttemptEnded | ProposalsPaid | NotesWritten]:
        """Return what others have stored: starts and results of attempts with a lease, what new proposals
        have cost, and notes of which no event tells.
        """

    async def beats(self) -> dict[int, int]:
        """Return the beats of all leases, by token."""

    async def fate(self, token: int, *, may_fence: bool, reason: str) -> Fate:
        """Lock the attempt and settle what becomes of it; see Fate.

        One that has started is marked lost only if `may_fence`; one that has not always is.
        """

    async def controls(self) -> ControlsRead:
        """Return what people have set for everything, and the circuit breakers."""

    async def stored_answer(self, *, tenant_id: str, key: str) -> StoredAnswer | None:
        """Return the answer that was written under the key, or None."""

    async def agent_sessions(self) -> Mapping[str, int | None]:
        """Return how many sessions of each agent type its file allows at once; None = it says nothing."""

    async def changed_affinity(self) -> tuple[AffinityRow, ...]:
        """Return the affinity rows that changed since the last call."""

    async def save_state(self, key: str, value: Mapping[str, object]) -> None:
        """Write a row of `orchestrator_state`."""


@value
class PlanSlice:
    """A part of a plan as the tables have it, made for one taker.

    `edges` are (task, on) and end at `tasks`; `attempts` are those whose end is not written yet.
    """

    plan: PlanSpec
    tasks: tuple[Task, ...]
    edges: tuple[tuple[int, int], ...]
    attempts: tuple[LiveAttempt, ...] = ()


class ExecutorGateway(Protocol):
    """How the scheduler reaches executors, pools and nodes. Calls are hints: the token decides."""

    async def start(self, executor: str, tokens: Sequence[int]) -> None:
        """Ask the executor to start leased attempts. An executor that is gone is reported by the pools."""

    async def cancel(self, executor: str, token: int, reason: str) -> None:
        """Ask the executor to stop an attempt."""

    async def kill_tree(self, node_id: str, token: int) -> Proof:
        """Have the attempt's process tree ended on the node where it started, and say what is known then."""

    async def want(self, sessions: Mapping[str, int]) -> None:
        """Tell the pools how many sessions each of them could run now."""


class SchedulerPort(Protocol):
    """How front ends reach the scheduler."""

    async def nudge(self) -> None:
        """Say that there is a new plan. Best effort; never raises."""

    async def request(
        self, kind: str, args: Mapping[str, object], idempotency_key: str
    ) -> Mapping[str, object]:
        """Ask for one change; returns after its commit. Raises Conflict, NotFound, Overloaded."""

    async def status(self) -> Mapping[str, object]:
        """Return what only the scheduler's memory knows. Raises Overloaded while it is starting."""
