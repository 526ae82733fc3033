"""What Claude sessions cost their executor: 100 at the same time, ten turns each, with real tools.

One executor without Ray runs them; the Messages API is the local one, in a process of its own, and answers at
once. Processor time and memory are those of the executor's process; the shells of the sessions are children.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks import Figure
from orchestrator.core.events import AttemptEnded
from orchestrator.ports import Assignment, Outcome, TranscriptChunk
from orchestrator.runtime.executing import Executing
from orchestrator.sessions.config import SessionConfig
from orchestrator.sessions.models import messages
from orchestrator.sessions.models.backend import ModelBackend
from orchestrator.workspace.launcher import ProcessLauncher
from orchestrator.workspace.shared import SharedWorkspaces
from tests.support.journals import MemoryJournals
from tests.support.messages_api import API_KEY, MessagesApi, Reply, Request, call, done, text
from tests.support.notes import MemoryNoteBook
from tests.support.sessions import MODEL, PRICES, assignment

SESSIONS = 100
TURNS = 10
FIRST_TOKENS = 20
PULSE_S = 0.01
PATIENCE_S = 3_600.0
WORDS = "I look at what is there, change what the task needs, and run what shows whether it holds. " * 3

CPU_AT_MOST_MS = 15.0
MEMORY_AT_MOST_MB = 8.0
STALL_AT_MOST_MS = 250.0
FIRST_TOKEN_AT_MOST_MS = 50.0


def work(request: Request) -> Reply:
    """Ten turns: look, write and run in each but the last, which reports."""
    turn = request.turn
    if turn == TURNS - 1:
        return Reply([text(WORDS), done()])
    name = f"notes-{turn}.md"
    return Reply(
        [
            text(WORDS),
            call("write_file", path=name, content=WORDS),
            call("read_file", path=name),
            call("bash", command=f"wc -c {name}; cd ."),
        ]
    )


def serve(connection: Connection) -> None:
    """Serve the Messages API in this process until the other end of the connection is closed."""
    with MessagesApi(work) as api, contextlib.suppress(EOFError):
        connection.send(api.base_url)
        connection.recv()


@contextlib.contextmanager
def messages_api() -> Iterator[str]:
    """Give the address of the Messages API."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=serve, args=(theirs,))
    process.start()
    theirs.close()
    yield ours.recv()
    ours.close()
    process.join()


@dataclass(slots=True)
class MemoryAttempts:
    """The executor's tables, in memory."""

    results: dict[int, Outcome] = field(default_factory=dict)
    first_ms: dict[int, int] = field(default_factory=dict)
    stored: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, tokens: Sequence[int]) -> list[Assignment]:
        """Let every token start."""
        limits = {"total_timeout_s": PATIENCE_S, "idle_timeout_s": PATIENCE_S}
        return [
            assignment(token=token, plan_id=token, backend="anthropic", limits=limits) for token in tokens
        ]

    async def save_results(self, results: Sequence[tuple[int, Outcome]]) -> set[int]:
        """Keep the results."""
        self.results.update(results)
        self.stored.set()
        return {token for token, _ in results}

    async def save_chunks(self, chunks: Sequence[TranscriptChunk]) -> None:
        """Note when the model said its first words, in ms since the start of the attempt."""
        for chunk in chunks:
            if chunk.token not in self.first_ms:
                spoken = [offset_ms for offset_ms, stream, _ in chunk.lines if stream == "model"]
                self.first_ms.update({chunk.token: spoken[0]} if spoken else {})


class HeldLeases:
    """Leases that never end."""

    def hold(self, token: int) -> None:
        """Nothing to do."""

    def holds(self, token: int) -> bool:
        """Always."""
        return True

    def release(self, token: int) -> None:
        """Nothing to do."""


async def report(*, started: Sequence[int], ended: Sequence[AttemptEnded]) -> None:
    """There is no scheduler to tell."""


class Pulse:
    """Looks at the loop and the memory all the time.

    Attributes:
        stall_s: longest time in which the loop did not get round, a pulse excluded; `busy_s`: the longest
            processor time between two pulses, which other processes cannot lengthen.
        rss_mb: most memory that was the process's own.
    """

    def __init__(self) -> None:
        self.stall_s = self.busy_s = 0.0
        self.rss_mb = rss_mb()

    async def beat(self) -> None:
        """Look until cancelled."""
        while True:
            before_s, busy_before_s = time.perf_counter(), time.thread_time()
            await asyncio.sleep(PULSE_S)
            self.stall_s = max(self.stall_s, time.perf_counter() - before_s - PULSE_S)
            self.busy_s = max(self.busy_s, time.thread_time() - busy_before_s)
            self.rss_mb = max(self.rss_mb, rss_mb())


def rss_mb() -> float:
    """Return the memory that is this process's own, in MB."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(slots=True)
class Bench:
    """An executor with everything around it."""

    url: str
    folder: Path
    attempts: MemoryAttempts = field(default_factory=MemoryAttempts)

    async def run(self, batches: Sequence[Sequence[int]]) -> None:
        """Run sessions, one batch after the other, each to its end."""
        config = SessionConfig(api_key=API_KEY, base_url=self.url, model=MODEL, prices=PRICES)
        launcher = ProcessLauncher(records=self.folder / "records")
        backend = ModelBackend(
            messages.MessagesApi(config), launcher, notes=MemoryNoteBook(), journals=MemoryJournals()
        )
        gc.freeze()  # as the Executor actor does once it has its backends
        executing = Executing(
            store=self.attempts,
            leases=HeldLeases(),
            backends={backend.name: backend},
            workspaces=SharedWorkspaces(root=self.folder),
            report=report,
        )
        running = asyncio.create_task(executing.run())
        for tokens in batches:
            executing.start(tokens)
            while not set(tokens) <= set(self.attempts.results):
                self.attempts.stored.clear()
                await self.attempts.stored.wait()
        running.cancel()
        await asyncio.wait([running])
        failed = {outcome.summary for outcome in self.attempts.results.values() if outcome.failure_class}
        assert not failed, failed


async def _all_at_once(bench: Bench) -> tuple[Figure, ...]:
    await bench.run([[SESSIONS + 1]])  # what is done once in a process is not a session's
    pulse, before_mb = Pulse(), rss_mb()
    beating = asyncio.create_task(pulse.beat())
    children_s, before_s = _children_s(), time.process_time()
    await bench.run([range(1, SESSIONS + 1)])
    cpu_s, children_s = time.process_time() - before_s, _children_s() - children_s
    beating.cancel()
    name = f"{SESSIONS} sessions of {TURNS} turns"
    per_turn_ms = 1000 / (SESSIONS * TURNS)
    return (
        _figure(f"{name}: processor time per turn", cpu_s * per_turn_ms, "ms", CPU_AT_MOST_MS),
        _figure(f"{name}: the same, of their shells", children_s * per_turn_ms, "ms"),
        _figure(f"{name}: memory each", (pulse.rss_mb - before_mb) / SESSIONS, "MB", MEMORY_AT_MOST_MB),
        _figure(f"{name}: longest stall of the loop", pulse.stall_s * 1000, "ms", STALL_AT_MOST_MS),
        _figure(f"{name}: most work between two pulses", pulse.busy_s * 1000, "ms"),
    )


def _figure(name: str, value: float, unit: str, at_most: float | None = None) -> Figure:
    return Figure(name=name, values=(value,), unit=unit, at_most=at_most)


async def _first_tokens(bench: Bench) -> Figure:
    """One session after the other, none of them on a warm connection."""
    await bench.run([[token] for token in range(FIRST_TOKENS + 1)])
    values = tuple(float(bench.attempts.first_ms[token]) for token in range(1, FIRST_TOKENS + 1))
    return Figure(
        name="start of an attempt to its first words",
        values=values,
        unit="ms",
        at_most=FIRST_TOKEN_AT_MOST_MS,
    )


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure() -> Iterator[Figure]:
    """Yield what a turn and a session cost, and how soon the first words come."""
    with messages_api() as url, tempfile.TemporaryDirectory() as folder:
        yield asyncio.run(_first_tokens(Bench(url, Path(folder))))
        yield from asyncio.run(_all_at_once(Bench(url, Path(folder))))
