"""The scheduler's loop: take what is queued, let the core decide, commit, and only then act.

There is no timer on the path: a batch is whatever arrived while the one before was being committed, and it is
decided meanwhile. Memory changes first; the batch is kept until its commit is known. Only a guard that hit
another number of rows, or a lost term, ends the loop by itself: its caller drops memory and starts again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast, get_args
from weakref import WeakValueDictionary

import structlog

from orchestrator.core import events as e
from orchestrator.core.commands import (
    Answer,
    CancelAttempt,
    Command,
    Effect,
    FenceAttempt,
    ProveGone,
    ReserveTokens,
    RowCommand,
    StartAttempt,
)
from orchestrator.core.limits import Overrides
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.requests import DEPENDENCY_REQUESTS, REQUEST_KINDS
from orchestrator.core.state import EVERYBODY
from orchestrator.errors import Conflict, NotFound, Overloaded, QueueFull
from orchestrator.ports import ExecutorGateway, PlanSlice, Revision, SchedulerStore
from orchestrator.runtime.clock import Clock
from orchestrator.runtime.commits import RENEW_S, Commits
from orchestrator.runtime.ends import Ends
from orchestrator.text import storable, storable_json

log = structlog.get_logger(__name__)

#: Events in one batch: above that only latency grows.
BATCH_MAX = 200

#: Nothing is decided ahead of a commit that takes longer: the database may be away, and the time that passes
#: then counts for nobody.
AHEAD_S = 0.5

#: A slice of so many tasks is put out of the garbage collector's sight: tasks stay and form no cycles, and a
#: collection that visits a hundred thousand of them holds up every dispatch. Small plans are left in sight,
#: because whatever garbage is frozen with a slice is never collected.
FROZEN_FROM = 1_000

#: Looked up by type, for every command: `isinstance` of a dozen classes takes ten times as long.
_ROWS = frozenset(get_args(RowCommand))
_EFFECTS = frozenset(get_args(Effect))


class Driver:
    """Runs one term of the scheduler.

    Args:
        state: the core, empty; recovery fills it through `post`.
        inbox_max: events that may wait; requests beyond are refused with QueueFull.
    """

    def __init__(
        self,
        *,
        state: SchedulerState,
        store: SchedulerStore,
        executors: ExecutorGateway,
        clock: Clock,
        inbox_max: int = 10_000,
    ) -> None:
        self.state = state
        self._store = store
        self._executors = executors
        self._clock = clock
        self._inbox_max = inbox_max
        self._inbox: list[AnyEvent] = []
        self._arrived = asyncio.Event()
        self._turn = asyncio.Event()  #: of the batch being written; set at its end, then replaced
        self._commits = Commits(store, clock, on_return=self._database_returned)
        self._ends = Ends(store, executors, self._commits, post=self.post)
        self._decided: list[Command] = []  #: and not yet on its way into the tables
        self._ahead = 0  #: events that it came from
        self._writing: asyncio.Task[None] | None = None
        self._writing_since_s = 0.0
        self._decisions = 0  #: events decided so far, and ...
        self._written = 0  #: ... how many of them stand in the tables
        self._loading: dict[int, asyncio.Task[None]] = {}
        self._linking: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._answers: dict[int, asyncio.Future[Mapping[str, object]]] = {}
        self._asked = 0
        self._background: set[asyncio.Task[Any]] = set()
        self._wanted: dict[str, int] = {}
        self._told: dict[str, int] | None = {}
        self._is_telling = False
        self._is_finishing = False
        self._is_stopped = False

    @property
    def is_database_away(self) -> bool:
        """Whether the database does not answer."""
        return self._commits.is_away

    @property
    def unknown_commits(self) -> int:
        """Commits whose answer was lost and whose outcome was then looked up."""
        return self._commits.unknown_commits

    def post(self, event: AnyEvent) -> None:
        """Queue an event, stamped with the time at which it is taken."""
        self._inbox.append(event)
        self._arrived.set()

    async def ask(self, make: Callable[[int], AnyEvent]) -> Mapping[str, object]:
        """Queue an event that is answered, and return its answer once it is committed.

        Args:
            make: gives the event for a request id.

        Raises:
            Conflict: the state does not allow it.
            QueueFull: too much waits already.
            Overloaded: the database is away.
        """
        self._refuse_if_away()
        if len(self._inbox) >= self._inbox_max:
            raise QueueFull(f"{self._inbox_max} messages wait already.", remedy="Try again in a moment.")
        return await self._ask(make)

    async def _ask(self, make: Callable[[int], AnyEvent]) -> Mapping[str, object]:
        """Do the same however much waits, and however long."""
        if self._is_stopped:
            raise _starting_again()
        self._asked += 1
        answer: asyncio.Future[Mapping[str, object]] = asyncio.get_running_loop().create_future()
        self._answers[self._asked] = answer
        self.post(make(self._asked))
        return await answer

    def _refuse_if_away(self) -> None:
        if self.is_database_away:
            raise database_is_away()

    async def request(
        self, kind: str, args: Mapping[str, Any], *, key: str = "", digest: str = ""
    ) -> Mapping[str, object]:
        """Carry out one request of a person or program; see core/requests.py.

        A plan that has left memory is loaded first. The answer is written under a key that is not empty.

        Raises:
            NotFound: there is no such kind or plan.
            Conflict: the state does not allow it, or an argument is no number.
        """
        self._refuse_if_away()
        request = _requested(kind, args, key=key, digest=digest)

        def ask() -> Awaitable[Mapping[str, object]]:
            return self.ask(lambda request_id: replace(request, request_id=request_id))

        if not request.plan_id:
            return await ask()
        if kind not in DEPENDENCY_REQUESTS:
            return await self._with_plan(request.plan_id, ask)
        async with self._links_of(request.plan_id):
            return await self._with_plan(request.plan_id, ask)

    def _links_of(self, plan_id: int) -> asyncio.Lock:
        """What decisions on a plan's dependencies hold, and a revision until memory has it.

        So every decision is checked against the text by which the plan runs.
        """
        return self._linking.setdefault(plan_id, asyncio.Lock())

    async def _with_plan(
        self, plan_id: int, ask: Callable[[], Awaitable[Mapping[str, object]]]
    ) -> Mapping[str, object]:
        """Ask once a plan is in memory; one that is over may leave it again before it is asked."""
        while True:
            await self.load_plan(plan_id)
            with contextlib.suppress(_Absent):
                return await ask()

    async def load_plan(self, plan_id: int) -> None:
        """Have a plan in memory: read it unless it is there; several callers share one reading.

        Raises:
            NotFound: there is no such plan.
            Overloaded: the term ended meanwhile.
        """
        if self._is_stopped:
            raise _starting_again()
        loading = self._loading.get(plan_id)
        if loading is None:
            if plan_id in self.state.plans:
                return
            loading = self._loading[plan_id] = asyncio.create_task(self._load(plan_id))
            loading.add_done_callback(lambda _: self._loading.pop(plan_id))
        await asyncio.wait({loading})
        if loading.cancelled():
            raise _starting_again()
        loading.result()

    async def _load(self, plan_id: int) -> None:
        """Read a plan whole, then queue it slice by slice, so that other events pass between the slices."""
        await self._all_written()  # a plan that left memory a moment ago stands in the tables then
        attempts: tuple[e.LiveAttempt, ...] = ()
        for part in await self._commits.patiently(lambda: self._read(plan_id)):
            await self._hand_in(e.PlanSliceLoaded(plan=part.plan, tasks=part.tasks, edges=part.edges))
            attempts = part.attempts
        await self._hand_in(e.PlanLoaded(plan_id=plan_id, attempts=attempts))

    async def take_revision(self, revision: Revision) -> None:
        """Have a plan run by a new text; nothing that is live notices.

        Raises:
            NotFound: there is no such plan.
            Overloaded: the term ended meanwhile.
            Fenced: another scheduler holds the term.
        """
        async with self._links_of(revision.plan_id):
            await self._hand_in(e.Tick())  # decisions whose askers have gone are taken before it ...
            await self._all_written()  # ... and stand in the tables now
            if not await self._commits.patiently(lambda: self._store.store_revision(revision.id)):
                return
            parts = await self._commits.patiently(lambda: self._read(revision.plan_id))
            event = e.PlanRevised(
                request_id=0,
                revision_id=revision.id,
                plan_id=revision.plan_id,
                tasks=tuple(task for part in parts for task in part.tasks),
                edges=tuple(edge for part in parts for edge in part.edges),
            )
            await self._with_plan(
                revision.plan_id,
                lambda: self._ask(lambda request_id: replace(event, request_id=request_id)),
            )

    async def _hand_in(self, event: AnyEvent) -> None:
        """Queue an event and wait until it is taken."""
        self.post(event)
        while any(event is waiting for waiting in self._inbox):
            await self._turn.wait()

    async def _read(self, plan_id: int) -> list[PlanSlice]:
        parts = []
        async for part in self._store.load_plan(plan_id):
            parts.append(part)
            if len(part.tasks) >= FROZEN_FROM:
                gc.freeze()
        return parts

    async def taken(self) -> None:
        """Wait until what is queued now stands in the tables, or it is not known when it will."""
        decisions = self._decisions + len(self._inbox)
        while self._written < decisions and not self.is_database_away and not self._is_stopped:
            await self._turn.wait()

    def repeat_demand(self) -> None:
        """Tell the pools again how many sessions they could run, for the case that they have forgotten."""
        self._told = None
        self._tell_pools()

    async def finish(self, *, timeout_s: float) -> None:
        """Wait until nothing is live or the time is up, then let `run` end after what is queued."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.state.attempts and not self._is_stopped:
                    await self._turn.wait()
        self._is_finishing = True
        self._arrived.set()

    async def run(self) -> None:
        """Work until cancelled or finished.

        Raises:
            Fenced: another scheduler holds the term.
            InvariantViolation: memory and tables disagree; memory must be dropped.
        """
        try:
            while self._writing or self._inbox or not self._is_finishing:
                await self._wait()
                self._end_write()
                self._decide()
                self._begin_write()
        finally:
            self.stop()
            if self._writing is not None:  # it may have been committed or not; whoever comes next will see
                self._writing.cancel()
                await asyncio.gather(self._writing, return_exceptions=True)

    async def _wait(self) -> None:
        """Wait until something arrives, or what is being written stands in the tables."""
        try:
            async with asyncio.timeout(RENEW_S):
                await self._arrived.wait()
        except TimeoutError:
            self.post(e.Tick())
        self._arrived.clear()

    def _decide(self) -> None:
        """Let the core take what has arrived, at most a batch ahead of the one that is being written."""
        if self._writing is not None and self._is_slow():
            return
        room = BATCH_MAX - self._ahead
        batch, self._inbox = self._inbox[:room], self._inbox[room:]
        now_ms = self._clock.now_ms()
        for event in batch:
            self._decided += self.state.handle(event, at_ms=now_ms)
        self._ahead += len(batch)
        self._decisions += len(batch)

    def _is_slow(self) -> bool:
        return self._commits.is_away or self._clock.monotonic_s() - self._writing_since_s > AHEAD_S

    def _begin_write(self) -> None:
        if self._writing is not None or not self._ahead:
            return
        commands, self._decided, self._ahead = self._decided, [], 0
        self._writing = asyncio.create_task(self._write(commands, self._decisions))
        self._writing.add_done_callback(lambda _: self._arrived.set())
        self._writing_since_s = self._clock.monotonic_s()
        if self._inbox:
            self._arrived.set()

    async def _write(self, commands: Sequence[Command], decisions: int) -> None:
        await self._commits.commit(rows_in(commands))
        await self._act([c for c in commands if type(c) in _EFFECTS])
        self._written = decisions
        self._end_turn()

    def _end_write(self) -> None:
        if self._writing is not None and self._writing.done():
            done, self._writing = self._writing, None
            done.result()
            late_s = self._clock.monotonic_s() - self._writing_since_s - AHEAD_S
            if late_s > 0:
                self._inbox.insert(0, e.DatabaseHung(for_ms=round(late_s * 1000)))

    def _end_turn(self) -> None:
        ended, self._turn = self._turn, asyncio.Event()
        ended.set()

    async def _all_written(self) -> None:
        """Wait until all that is decided now stands in the tables."""
        decisions = self._decisions
        while self._written < decisions:
            await self._turn.wait()

    def _database_returned(self) -> None:
        self._inbox.insert(0, e.DatabaseReturned())  # before the ticks that came meanwhile
        self._arrived.set()

    async def _act(self, effects: Sequence[Command]) -> None:
        starts: dict[str, list[int]] = defaultdict(list)
        for effect in effects:
            if isinstance(effect, StartAttempt):
                starts[effect.executor].append(effect.token)
        for executor, tokens in starts.items():
            self._spawn(self._executors.start(executor, tokens))
        for effect in effects:
            self._carry_out(effect)
        self._tell_pools()
        if any(isinstance(effect, ReserveTokens) for effect in effects):
            await self._reserve()  # last, and not beside a commit: they share a connection

    def _carry_out(self, effect: Command) -> None:
        match effect:
            case CancelAttempt():
                self._spawn(self._executors.cancel(effect.executor, effect.token, effect.reason))
            case ProveGone():
                for token in effect.tokens:
                    self._spawn(self._ends.settle(token, effect.reason))
            case FenceAttempt():
                self._spawn(self._ends.fence(effect.token, effect.reason))
            case Answer():
                self._answer(effect)

    def _tell_pools(self) -> None:
        self._wanted = self.state.demand()
        if self._told != self._wanted and not self._is_telling:
            self._is_telling = True
            self._spawn(self._tell())

    async def _tell(self) -> None:
        """Tell the pools the newest demand, one call at a time."""
        try:
            while self._told != self._wanted:
                told = self._wanted
                await self._executors.want(told)
                self._told = told
        finally:
            self._is_telling = False

    def _answer(self, effect: Answer) -> None:
        answer = self._answers.pop(effect.request_id, None)
        if answer is None or answer.done():
            return
        if effect.error:
            kind = _Absent if effect.is_absent else Conflict
            answer.set_exception(kind(effect.error, remedy=effect.remedy))
        else:
            answer.set_result(effect.result)

    async def _reserve(self) -> None:
        first, count = await self._commits.patiently(self._store.reserve_tokens)
        self.post(e.TokensReserved(first=first, count=count))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background work failed", error=str(error), kind=type(error).__name__)

    def stop(self) -> None:
        """End what goes on in the background, and refuse who waits and whoever asks from now on."""
        self._is_stopped = True
        for task in (*self._background, *self._loading.values()):
            task.cancel()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(_starting_again())
        self._answers.clear()
        self._end_turn()


def rows_in(commands: Iterable[Command]) -> list[RowCommand]:
    """Return what of commands is written."""
    return cast("list[RowCommand]", [c for c in commands if type(c) in _ROWS])


class _Absent(Conflict):
    """What was asked is about a plan that is not in memory."""


def database_is_away() -> Overloaded:
    """Return what a caller hears who needs the tables now."""
    return Overloaded("The database is away.", remedy="Try again in a moment.", retry_after_s=2)


def _starting_again() -> Overloaded:
    return Overloaded("The scheduler is starting again.", remedy="Try again in a moment.")


def _requested(kind: str, args: Mapping[str, Any], *, key: str, digest: str) -> e.Requested:
    if kind not in REQUEST_KINDS:
        raise NotFound(f"There is no request {kind!r}.", remedy=f"Use one of {sorted(REQUEST_KINDS)}.")
    limits: Any = storable_json(args.get("limits"))
    try:
        overrides = None if limits is None else Overrides.from_json(limits)
        return e.Requested(
            request_id=0,
            kind=kind,
            plan_id=int(args.get("plan_id", 0)),
            task_id=int(args.get("task_id", 0)),
            reason=storable(str(args.get("reason", ""))),
            on_task=int(args.get("on_task", 0)),
            until_task=int(args.get("until_task", 0)),
            budget_micros=int(args.get("budget_micros", 0)),
            overrides=overrides,
            tenant_id=str(args.get("tenant_id", EVERYBODY)),
            key=key,
            digest=digest,
        )
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Conflict(
            f"The request {kind!r} has an argument that is no number: {error}.", remedy="Give a number."
        ) from error
