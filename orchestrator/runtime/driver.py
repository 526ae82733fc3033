"""The scheduler's loop: take what is queued, let the core decide, commit, and only then act.

There is no timer on the path: a batch is whatever arrived while the batch before was being committed. Memory
changes first; the batch is kept until its commit is known. Only a guard that hit another number of rows, or
a lost term, ends the loop by itself: its caller drops memory and starts again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, get_args

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
from orchestrator.core.leases import START_TIMEOUT
from orchestrator.core.limits import Overrides
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.requests import REQUEST_KINDS
from orchestrator.core.state import EVERYBODY
from orchestrator.core.words import Proof
from orchestrator.errors import Conflict, DatabaseUnavailable, NotFound, Overloaded, QueueFull
from orchestrator.ports import ExecutorGateway, Fate, PlanSlice, SchedulerStore
from orchestrator.runtime.clock import Clock
from orchestrator.text import storable, storable_json

log = structlog.get_logger(__name__)

#: Events in one batch: above that only latency grows.
BATCH_MAX = 200

#: Longest pause between two commits: an empty one renews the term.
RENEW_S = 2.0

#: Pause before the database is asked again.
RECONNECT_S = 0.5

#: A slice of so many tasks is put out of the garbage collector's sight: tasks stay and form no cycles, and a
#: collection that visits a hundred thousand of them holds up every dispatch. Small plans are left in sight,
#: because whatever garbage is frozen with a slice is never collected.
FROZEN_FROM = 1_000

_ROWS = get_args(RowCommand)
_EFFECTS = get_args(Effect)

T = TypeVar("T")


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
        self._turn = asyncio.Event()  #: of the batch being worked on; set at its end, then replaced
        self._writing = asyncio.Lock()
        self._batch = 0
        self._renew_at_s = 0.0
        self._loading: dict[int, asyncio.Task[None]] = {}
        self._answers: dict[int, asyncio.Future[Mapping[str, object]]] = {}
        self._asked = 0
        self._background: set[asyncio.Task[Any]] = set()
        self._wanted: dict[str, int] = {}
        self._told: dict[str, int] | None = {}
        self._is_telling = False
        self._is_finishing = False
        self._is_stopped = False
        self.is_database_away = False
        self.unknown_commits = 0  #: whose answer was lost and whose outcome was then looked up

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
        if self._is_stopped:
            raise _starting_again()
        if len(self._inbox) >= self._inbox_max:
            raise QueueFull(f"{self._inbox_max} messages wait already.", remedy="Try again in a moment.")
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
        while True:
            if request.plan_id:
                await self.load_plan(request.plan_id)
            try:
                return await self.ask(lambda request_id: replace(request, request_id=request_id))
            except Conflict:
                if not request.plan_id or request.plan_id in self.state.plans:
                    raise
                # A plan that is over left memory again before it was asked; read it once more.

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
        async with self._writing:
            pass  # a plan that left memory a moment ago stands in the tables now
        attempts: tuple[e.LiveAttempt, ...] = ()
        for part in await self._patiently(lambda: self._read(plan_id)):
            await self._hand_in(
                e.PlanSliceLoaded(at_ms=0, plan=part.plan, tasks=part.tasks, edges=part.edges)
            )
            attempts = part.attempts
        await self._hand_in(e.PlanLoaded(at_ms=0, plan_id=plan_id, attempts=attempts))

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
            while not self._is_finishing or self._inbox:
                await self._wait()
                batch, self._inbox = self._inbox[:BATCH_MAX], self._inbox[BATCH_MAX:]
                if not self._inbox:
                    self._arrived.clear()
                async with self._writing:
                    commands = self._decide(batch)
                    await self._commit([c for c in commands if isinstance(c, _ROWS)])
                await self._act([c for c in commands if isinstance(c, _EFFECTS)])
                self._end_turn()
        finally:
            self.stop()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(RENEW_S):
                await self._arrived.wait()
        except TimeoutError:
            self.post(e.Tick(at_ms=0))

    def _end_turn(self) -> None:
        ended, self._turn = self._turn, asyncio.Event()
        ended.set()

    def _decide(self, batch: Sequence[AnyEvent]) -> list[Command]:
        now_ms = self._clock.now_ms()
        commands: list[Command] = []
        for event in batch:
            commands += self.state.handle(replace(event, at_ms=now_ms))
        return commands

    async def _commit(self, rows: list[RowCommand]) -> None:
        now_s = self._clock.monotonic_s()
        if not rows and not self.is_database_away and now_s < self._renew_at_s:
            return
        self._renew_at_s = now_s + RENEW_S
        self._batch += 1
        while True:
            try:
                await self._store.commit(self._batch, rows)
            except DatabaseUnavailable as error:
                if await self._was_committed(error):
                    break
            else:
                break
        if self.is_database_away:
            self.is_database_away = False
            self._inbox.insert(0, e.DatabaseReturned(at_ms=0))  # before the ticks that came meanwhile
            self._arrived.set()
            log.info("database is back", batch=self._batch)

    async def _was_committed(self, error: DatabaseUnavailable) -> bool:
        """The connection broke during a commit: wait for the database and ask how it ended."""
        self._note_away(error)
        while True:
            await asyncio.sleep(RECONNECT_S)
            try:
                is_committed = await self._store.last_batch() >= self._batch
            except DatabaseUnavailable:
                continue
            self.unknown_commits += 1
            return is_committed

    def _note_away(self, error: DatabaseUnavailable) -> None:
        if not self.is_database_away:
            self.is_database_away = True
            log.warning("database is away", batch=self._batch, reason=str(error))

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
                    self._spawn(self._look(token, partial(self._settle, token, effect.reason)))
            case FenceAttempt():
                self._spawn(self._look(effect.token, partial(self._fence, effect.token, effect.reason)))
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
            answer.set_exception(Conflict(effect.error))
        else:
            answer.set_result(effect.result)

    async def _reserve(self) -> None:
        first, count = await self._patiently(self._store.reserve_tokens)
        self.post(e.TokensReserved(at_ms=0, first=first, count=count))

    async def _look(self, token: int, look: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Whatever goes wrong while an end is looked into, it is looked into again."""
        try:
            await look()
        except Exception:
            log.exception("the end of an attempt could not be looked into", token=token)
            self.post(e.AttemptUnproven(at_ms=0, token=token, is_node_dead=False))

    async def _settle(self, token: int, reason: str) -> None:
        """Find out what became of an attempt that does not report, and tell the core."""
        fate = await self._fate(token, may_fence=False, reason=reason)
        if fate.verdict != "started":
            self._tell_fate(fate, token, reason)
            return
        self.post(e.AttemptStarted(at_ms=0, token=token))  # perhaps news: a loss is judged by it
        if reason == START_TIMEOUT:
            return
        if (proof := await self._executors.kill_tree(fate.node_id, token)) is Proof.GONE:
            await self._fence(token, reason)
        else:
            self.post(e.AttemptUnproven(at_ms=0, token=token, is_node_dead=proof is Proof.NODE_DEAD))

    async def _fence(self, token: int, reason: str) -> None:
        self._tell_fate(await self._fate(token, may_fence=True, reason=reason), token, reason)

    def _tell_fate(self, fate: Fate, token: int, reason: str) -> None:
        if fate.result is not None:
            self.post(fate.result)
        else:
            self.post(e.AttemptLost(at_ms=0, token=token, reason=fate.reason or reason))

    async def _fate(self, token: int, *, may_fence: bool, reason: str) -> Fate:
        return await self._patiently(lambda: self._store.fate(token, may_fence=may_fence, reason=reason))

    async def _patiently(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        while True:
            try:
                return await call()
            except DatabaseUnavailable as error:
                self._note_away(error)
                await asyncio.sleep(RECONNECT_S)

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
            at_ms=0,
            request_id=0,
            kind=kind,
            plan_id=int(args.get("plan_id", 0)),
            task_id=int(args.get("task_id", 0)),
            reason=storable(str(args.get("reason", ""))),
            until_task=int(args.get("until_task", 0)),
            budget_micros=int(args.get("budget_micros", 0)),
            overrides=overrides,
            tenant_id=str(args.get("tenant_id", EVERYBODY)),
            key=key,
            digest=digest,
        )
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Conflict(f"The request {kind!r} has an argument that is no number: {error}.") from error
