"""Everything that can happen to one task between schedulers, tables and executors, in the smallest steps.

The shipped core decides and the tables of `tests/support/memory_tables.py` keep; schedulers and executors are
reduced to what of their memory matters. A scheduler handles an event, commits, and acts on what it committed
in three steps; between any two of them anything else may happen, its death and the next scheduler included.

Time is not counted: a timeout may come at any moment, but for what the durations promise. A lease expires
only after its start was heard of and its executor has stopped trusting it; and a session that may still be
opened has not run out of its time.

What was sent may arrive late, never, or twice: it stays in flight for ever. What was stored may be heard at
any moment, any number of times.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from orchestrator.core import events as e
from orchestrator.core import leases
from orchestrator.core.commands import (
    Answer,
    CancelAttempt,
    Command,
    FenceAttempt,
    LeaseAttempt,
    ProveGone,
    RecordEvent,
    RowCommand,
    StartAttempt,
)
from orchestrator.core.invariants import check_invariants
from orchestrator.core.limits import Limits
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.state import Policy
from orchestrator.core.words import LIVE, AttemptState, FailureClass, TaskState
from orchestrator.errors import Fenced, InvariantViolation
from orchestrator.ports import Fate, Outcome
from tests.model.interning import Interned
from tests.model.search import Violation
from tests.support.core import PLAN, spec
from tests.support.memory_tables import MemoryTables

TASK, PLAN_ID = 1, PLAN.plan_id
NOW_MS = 1
LATE_MS = 1_000_000  #: after every timeout but the one of a running session
AGES_MS = 1_000_000_000  #: after that too
POLICY = Policy(backoff_ms=(0,), losses_max=2, tokens_low=0)
REST = {TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED, TaskState.HELD}

#: How a session may end by itself.
OUTCOMES = {
    "succeeds": Outcome(state=AttemptState.SUCCEEDED),
    "fails": Outcome(state=AttemptState.FAILED, failure_class=FailureClass.AGENT),
    "stops": Outcome(state=AttemptState.CANCELLED),
}


class Proof(NamedTuple):
    """An attempt that a scheduler looks into. `next`: what it does next: `ask`, `kill` or `fence`."""

    token: int
    executor: str
    reason: str
    next: str = "ask"


class Scheduler(NamedTuple):
    """A scheduler that lives. `core` and `batch` are numbers of Interned things; -1 = none.

    The batch has been decided; `is_written` tells whether it is committed too.
    """

    epoch: int
    core: int = -1
    batch: int = -1
    is_written: bool = False
    proofs: frozenset[Proof] = frozenset()
    inbox: frozenset[AnyEvent] = frozenset()  #: what its proofs have found out
    is_fenced: bool = False  #: it waits for the answer to a commit that is refused; its proofs go on


class Session(NamedTuple):
    """What an executor has in hand for a token.

    Attributes:
        phase: `received`, `accepted` (its start is stored), `running`, or how it has ended.
        is_trusted: the executor may believe in the lease, from before it asks to start; if not, it opens no
            session, or is ending it.
        wish: to be cancelled as soon as it is open.
    """

    token: int
    phase: str = "received"
    is_trusted: bool = True
    wish: bool = False


class Executor(NamedTuple):
    """A process of an executor. One that crashes is replaced by another of a new name."""

    name: str
    seen: frozenset[int] = frozenset()
    sessions: frozenset[Session] = frozenset()


class World(NamedTuple):
    """One state of everything.

    Attributes:
        sent: (kind, executor, token) of all that schedulers have ever told executors.
        orphans: sessions that run on though their executor is gone.
        cancel: `` (not asked), `asked`, `answered` (whoever asked knows that it was committed).
        crashes: of executors so far.
    """

    tables: int
    schedulers: tuple[Scheduler, ...]
    executors: tuple[Executor, ...]
    sent: frozenset[tuple[str, str, int]] = frozenset()
    orphans: frozenset[int] = frozenset()
    cancel: str = ""
    crashes: int = 0

    def running(self) -> list[int]:
        """The tokens whose sessions run now."""
        of_executors = [s.token for x in self.executors for s in x.sessions if s.phase == "running"]
        return [*of_executors, *self.orphans]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much may happen; `epochs` - 1 is the number of takeovers, `crashes` are of executors."""

    attempts: int = 2
    epochs: int = 2
    crashes: int = 1
    cancels: int = 1
    unproven: int = 0


Steps = Iterator[tuple[str, World]]


class LeaseProtocol:
    """What may happen next in a World, and what must hold in each."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self.cores = Interned(copy=copy.deepcopy, key=repr, check=_check_core)
        self.tables = Interned(copy=MemoryTables.copy, key=_tables_key, check=_check_tables)
        self.batches: Interned[tuple[Command, ...]] = Interned(copy=tuple, key=repr, check=lambda _: None)
        self._recovered: dict[Hashable, tuple[int, int]] = {}

    def first(self) -> World:
        """A plan of one task is stored, executors wait, and there is no scheduler yet."""
        tables = MemoryTables(clock_ms=_now_ms)
        tables.add_plan(PLAN, [spec(TASK, attempts_max=2)])
        return World(tables=self.tables.put(tables), schedulers=(), executors=(Executor("a"), Executor("b")))

    def steps(self, world: World) -> Steps:
        """Yield everything that can happen next. A scheduler of which no step is taken any more has died."""
        yield from self._take_over(world)
        for scheduler in world.schedulers:
            yield from self._prove(world, scheduler)
            if scheduler.is_fenced:
                continue
            if scheduler.core == -1:
                yield self._recover(world, scheduler)
            elif scheduler.batch == -1:
                yield from self._decide(world, scheduler)
            elif not scheduler.is_written:
                yield self._commit(world, scheduler)
            else:
                yield self._act(world, scheduler)
        for place, executor in enumerate(world.executors):
            yield from self._live(world, place, executor)
        for token in world.orphans:
            yield f"orphan-ends {token}", world._replace(orphans=world.orphans - {token})

    def is_rest(self, world: World) -> bool:
        """Nothing runs, nothing is leased, and the task waits for nothing but a person or another attempt."""
        tables = self.tables[world.tables]
        is_out = len(tables.attempts) >= self._bounds.attempts
        is_over = tables.tasks[TASK].state in REST or is_out
        return is_over and not tables.leases and not world.running()

    def check(self, world: World) -> None:
        """Raise Violation if something is so that must never be."""
        tables = self.tables[world.tables]
        if len(world.running()) > 1:
            raise Violation(f"sessions {world.running()} of one task run at once")
        if not set(world.running()) <= set(tables.starts):
            raise Violation("a session runs whose start is not stored")
        for scheduler in world.schedulers:
            is_current = tables.term is not None and tables.term.epoch == scheduler.epoch
            if is_current and scheduler.core != -1 and (scheduler.batch == -1 or scheduler.is_written):
                self._check_memory(self.cores[scheduler.core], tables)

    @staticmethod
    def _check_memory(core: SchedulerState, tables: MemoryTables) -> None:
        task, row = core.tasks.get(TASK), tables.tasks[TASK]
        if set(core.attempts) != set(tables.leases):
            raise Violation(f"memory has attempts {list(core.attempts)}, leases are {list(tables.leases)}")
        if task is not None and (task.state, task.version) != (row.state, row.version):
            raise Violation(f"memory has the task {task.state}, its row {row.state}")

    # The tables.

    def _write(self, world: World, name: Hashable, change: Callable[[MemoryTables], Any]) -> tuple[int, Any]:
        """Do one transaction; return the tables after it and its answer. What has ended stays as it is."""
        number, answer = self.tables.step(world.tables, name, partial(_settled, change=change))
        before, after = self.tables[world.tables], self.tables[number]
        for token, row in before.attempts.items():
            new = after.attempts[token].state
            is_settled = token in before.leases and (row.state, new) == (
                AttemptState.LOST,
                AttemptState.TIMED_OUT,
            )
            if row.state not in LIVE and new is not row.state and not is_settled:
                raise Violation(f"attempt {token} went from {row.state} to {new}")
        was, is_now = before.tasks[TASK].state, after.tasks[TASK].state
        if was in {TaskState.DONE, TaskState.CANCELLED} and is_now is not was:
            raise Violation(f"the task went from {was} to {is_now}")
        return number, answer

    # Schedulers.

    def _take_over(self, world: World) -> Steps:
        term = self.tables[world.tables].term
        seen = term.epoch if term else 0
        if seen < self._bounds.epochs:

            def take(tables: MemoryTables) -> object:
                tables.reserve_tokens(self._bounds.attempts)
                return tables.take_term(seen_epoch=seen, cluster_id="c", incarnation=str(seen + 1))

            tables, epoch = self._write(world, "take", take)
            assert epoch == seen + 1
            schedulers = (*world.schedulers, Scheduler(epoch=seen + 1))
            after = world._replace(tables=tables, schedulers=schedulers)
            yield f"take-term {epoch}", self._fenced(after)

    def _recover(self, world: World, scheduler: Scheduler) -> tuple[str, World]:
        alive = [executor.name for executor in world.executors]
        key = (world.tables, scheduler.epoch, *alive)
        if key not in self._recovered:
            core = SchedulerState(policy=POLICY)
            events = self._rows_as_events(self.tables[world.tables], scheduler.epoch, alive)
            commands = [command for event in events for command in core.handle(event)]
            _normalise(core)
            self._recovered[key] = self.cores.put(core), self._batch(commands)
        number, batch = self._recovered[key]
        return f"recover {scheduler.epoch}", self._next(world, scheduler, core=number, batch=batch)

    def _rows_as_events(self, tables: MemoryTables, epoch: int, alive: list[str]) -> Iterator[AnyEvent]:
        left = self._bounds.attempts - len(tables.attempts)
        if left:
            first = 1 + (epoch - 1) * self._bounds.attempts
            yield e.TokensReserved(at_ms=NOW_MS, first=first, count=left)
        yield e.LimitsSet(at_ms=NOW_MS, limits=Limits(), has_credentials=True)
        attempts: tuple[e.LiveAttempt, ...] = ()
        for part in tables.load_plan(PLAN_ID):
            yield e.PlanSliceLoaded(at_ms=NOW_MS, plan=part.plan, tasks=part.tasks, edges=part.edges)
            attempts = part.attempts
        yield e.PlanLoaded(at_ms=NOW_MS, plan_id=PLAN_ID, attempts=attempts)
        for name in alive:
            yield _joined(name)

    def _batch(self, commands: list[Command]) -> int:
        wanted = tuple(c for c in commands if not isinstance(c, RecordEvent))
        return self.batches.put(wanted) if wanted else -1

    def _decide(self, world: World, scheduler: Scheduler) -> Steps:
        for name, event in self._events(world, scheduler):
            key: Hashable = name if isinstance(event, e.BeatsRead) else event
            number, batch = self.cores.step(scheduler.core, key, partial(self._handle, event=event))
            inbox = frozenset(told for told in scheduler.inbox if told != replace(event, at_ms=NOW_MS))
            if (number, batch, inbox) != (scheduler.core, -1, scheduler.inbox):
                after = self._next(world, scheduler, core=number, batch=batch, inbox=inbox)
                is_cancel = isinstance(event, e.Requested)
                yield f"{name} by {scheduler.epoch}", after._replace(cancel="asked") if is_cancel else after

    def _handle(self, core: SchedulerState, *, event: AnyEvent) -> int:
        commands = core.handle(event)
        _normalise(core)
        return self._batch(commands)

    def _events(self, world: World, scheduler: Scheduler) -> Iterator[tuple[str, AnyEvent]]:
        """What a scheduler may hear now, whoever tells it or whatever poll finds it."""
        core, tables = self.cores[scheduler.core], self.tables[world.tables]
        for told in scheduler.inbox:
            yield "hear-verdict", told
            if isinstance(told, e.AttemptUnproven):
                yield "lose-patience", replace(told, at_ms=LATE_MS)
        for token in tables.starts:
            yield f"hear-start {token}", e.AttemptStarted(at_ms=NOW_MS, token=token)
        for token in tables.results:
            yield f"hear-result {token}", replace(tables._ended(token), at_ms=NOW_MS)
        yield "tick", e.Tick(at_ms=NOW_MS)
        yield from self._timeouts(world, scheduler, core)
        alive = {executor.name for executor in world.executors}
        known = set(core.executors) | {attempt.executor for attempt in core.attempts.values()}
        for name in sorted(known - alive):
            yield f"hear-loss {name}", e.ExecutorLost(at_ms=NOW_MS, executor=name)
        for name in sorted(alive - set(core.executors)):
            yield f"hear-join {name}", _joined(name)
        if world.cancel == "" and self._bounds.cancels and TASK in core.tasks:
            yield (
                "cancel",
                e.Requested(
                    at_ms=NOW_MS,
                    request_id=1,
                    kind="cancel_task",
                    tenant_id=PLAN.tenant_id,
                    plan_id=PLAN_ID,
                    task_id=TASK,
                ),
            )

    @staticmethod
    def _timeouts(world: World, scheduler: Scheduler, core: SchedulerState) -> Iterator[tuple[str, AnyEvent]]:
        """Time passes; none is waited for while the answer to an earlier one is on its way."""
        if scheduler.proofs or scheduler.inbox:
            return
        yield "time-out", e.Tick(at_ms=LATE_MS)
        trusted = {s.token: s.phase for x in world.executors for s in x.sessions if s.is_trusted}
        if not {"received", "accepted"} & set(trusted.values()):
            yield "run-out", e.Tick(at_ms=AGES_MS)
        started = {token: a.beat for token, a in core.attempts.items() if a.state is AttemptState.STARTED}
        still = {token: beat for token, beat in started.items() if token not in trusted}
        if still:
            yield f"expire {sorted(still)}", e.BeatsRead(at_ms=LATE_MS, beats=still)

    def _next(self, world: World, scheduler: Scheduler, **changes: Any) -> World:
        """The world with a scheduler changed; a batch that writes nothing needs no commit."""
        after = scheduler._replace(**changes)
        if "batch" in changes and after.batch != -1:
            rows = [c for c in self.batches[after.batch] if isinstance(c, RowCommand)]
            after = after._replace(is_written=not rows)
        schedulers = tuple(after if s is scheduler else s for s in world.schedulers)
        return self._fenced(world._replace(schedulers=schedulers))

    def _fenced(self, world: World) -> World:
        """What a scheduler without the term would commit is refused, whenever that is: so let it be now."""
        term = self.tables[world.tables].term
        left: list[Scheduler] = []
        for scheduler in world.schedulers:
            is_refused = scheduler.batch != -1 and not scheduler.is_written
            if term is None or scheduler.epoch == term.epoch or not (is_refused or scheduler.is_fenced):
                left.append(scheduler)
                continue
            if is_refused and self._try_commit(world, scheduler)[1] != "fenced":
                raise Violation(f"epoch {scheduler.epoch} writes in epoch {term.epoch}")
            if scheduler.proofs:
                left.append(Scheduler(epoch=scheduler.epoch, proofs=scheduler.proofs, is_fenced=True))
        return world._replace(schedulers=tuple(left))

    def _try_commit(self, world: World, scheduler: Scheduler) -> tuple[int, Any]:
        rows = [c for c in self.batches[scheduler.batch] if isinstance(c, RowCommand)]

        def commit(tables: MemoryTables) -> str:
            try:
                tables.commit(scheduler.epoch, 0, rows)
            except Fenced:
                return "fenced"
            except InvariantViolation as error:
                raise Violation(f"the tables refuse a batch of the scheduler in office: {error}") from error
            return "commit"

        return self._write(world, ("commit", scheduler.epoch, scheduler.batch), commit)

    def _commit(self, world: World, scheduler: Scheduler) -> tuple[str, World]:
        tables, _ = self._try_commit(world, scheduler)
        is_lease = any(isinstance(row, LeaseAttempt) for row in self.batches[scheduler.batch])
        if world.cancel == "answered" and is_lease:
            raise Violation("a task is leased whose cancel was granted")
        return f"commit {scheduler.epoch}", self._next(world, scheduler, is_written=True)._replace(
            tables=tables
        )

    def _act(self, world: World, scheduler: Scheduler) -> tuple[str, World]:
        sent, proofs, cancel = set(world.sent), set(scheduler.proofs), world.cancel
        for command in self.batches[scheduler.batch]:
            match command:
                case StartAttempt():
                    sent.add(("start", command.executor, command.token))
                case CancelAttempt():
                    sent.add(("cancel", command.executor, command.token))
                case ProveGone():
                    proofs |= {Proof(t, command.executor, command.reason) for t in command.tokens}
                case FenceAttempt():
                    proofs.add(Proof(command.token, "", command.reason, "fence"))
                case Answer() if not command.error:
                    cancel = "answered"
        after = self._next(world, scheduler, batch=-1, is_written=False, proofs=frozenset(proofs))
        return f"act {scheduler.epoch}", after._replace(sent=frozenset(sent), cancel=cancel)

    def _prove(self, world: World, scheduler: Scheduler) -> Steps:
        """The driver's looks into attempts that do not report, step by step."""
        for proof in scheduler.proofs:
            left = scheduler.proofs - {proof}
            name = f"{proof.next} {proof.token} by {scheduler.epoch}"
            if proof.next == "kill":
                fence = left | {proof._replace(next="fence")}
                yield name, self._next(_killed(world, proof.token), scheduler, proofs=fence)
                if not self._bounds.unproven:
                    continue
                told = e.AttemptUnproven(at_ms=NOW_MS, token=proof.token, is_node_dead=False)
                inbox = scheduler.inbox | {told}
                yield f"not-proven {proof.token}", self._next(world, scheduler, proofs=left, inbox=inbox)
                continue
            ask = partial(_fate, token=proof.token, may_fence=proof.next == "fence", reason=proof.reason)
            tables, fate = self._write(world, ("fate", proof.token, proof.next, proof.reason), ask)
            after = world._replace(tables=tables)
            if fate.verdict == "started" and proof.reason != leases.START_TIMEOUT:
                kill = left | {proof._replace(next="kill")}
                yield name, self._next(after, scheduler, proofs=kill)
            else:
                inbox = scheduler.inbox | {_verdict(proof, fate)}
                yield name, self._next(after, scheduler, proofs=left, inbox=inbox)

    # Executors.

    def _live(self, world: World, place: int, executor: Executor) -> Steps:
        name = executor.name
        if world.crashes < self._bounds.crashes:
            running = {s.token for s in executor.sessions if s.phase == "running"}
            crashed = _with(world, place, Executor(name + name))
            yield (
                f"crash {name}",
                crashed._replace(orphans=world.orphans | running, crashes=world.crashes + 1),
            )
        for kind, to, token in world.sent:
            if (kind, to) == ("start", name) and token not in executor.seen:
                sessions = executor.sessions | {Session(token)}
                received = Executor(name, executor.seen | {token}, sessions)
                yield f"receive-start {token}", _with(world, place, received)
        for session in executor.sessions:
            for step, after in self._go_on(world, place, session):
                yield f"{step} {session.token} at {name}", after

    def _go_on(self, world: World, place: int, session: Session) -> Steps:
        """What may happen to one session; without trust it only ends."""
        put = partial(_put, world, place, session)
        if session.phase == "received":
            yield from self._store_start(world, place, session)
        elif session.phase in OUTCOMES:
            outcome = OUTCOMES[session.phase]
            tables, _ = self._write(
                world,
                ("result", session.token, session.phase),
                lambda tables: tables.save_results([(session.token, outcome)]),
            )
            yield "store-result", put(None)._replace(tables=tables)
        elif not session.is_trusted:
            yield "end-untrusted", put(None)
        elif session.phase == "accepted":
            yield "launch", put(session._replace(phase="stops" if session.wish else "running"))
        else:
            for phase in OUTCOMES:
                if phase != "stops":
                    yield f"session-{phase}", put(session._replace(phase=phase))
        if session.is_trusted:
            yield "lose-trust", put(session._replace(is_trusted=False))
            yield from self._renew(world, place, session)
        if ("cancel", world.executors[place].name, session.token) in world.sent:
            yield "receive-cancel", put(_cancelled(session))

    def _store_start(self, world: World, place: int, session: Session) -> Steps:
        token, name = session.token, world.executors[place].name
        tables, accepted = self._write(
            world,
            ("start", token, name),
            lambda t: bool(t.start([token], executor=name, incarnation=name)),
        )
        if tables != world.tables:
            yield "store-start-unanswered", world._replace(tables=tables)
        is_open = accepted and session.is_trusted
        opened = session._replace(phase="accepted") if is_open else None
        step = "store-start" if is_open else "start-too-late" if accepted else "start-refused"
        yield step, _put(world, place, session, opened)._replace(tables=tables)

    def _renew(self, world: World, place: int, session: Session) -> Steps:
        lease = self.tables[world.tables].leases.get(session.token)
        if lease is None:
            yield "renewal-refused", _put(world, place, session, session._replace(is_trusted=False))
        elif lease.cancel_reason is not None:
            yield "renewal-cancels", _put(world, place, session, _cancelled(session))


def _with(world: World, place: int, executor: Executor) -> World:
    executors = tuple(executor if n == place else x for n, x in enumerate(world.executors))
    return world._replace(executors=executors)


def _put(world: World, place: int, session: Session, after: Session | None) -> World:
    """The world with a session changed, or gone."""
    executor = world.executors[place]
    sessions = (executor.sessions - {session}) | ({after} if after is not None else set())
    return _with(world, place, executor._replace(sessions=sessions))


def _cancelled(session: Session) -> Session:
    if session.phase == "running" and session.is_trusted:
        return session._replace(phase="stops")
    is_open = session.phase in {"received", "accepted"}
    return session._replace(wish=True) if is_open else session


def _killed(world: World, token: int) -> World:
    """The process tree of a token is ended; an executor that still trusts its lease sees a session fail."""
    for place, executor in enumerate(world.executors):
        for session in executor.sessions:
            if session.token == token and session.phase == "running":
                after = session._replace(phase="fails") if session.is_trusted else None
                world = _put(world, place, session, after)
    return world._replace(orphans=world.orphans - {token})


def _joined(name: str) -> e.ExecutorJoined:
    return e.ExecutorJoined(at_ms=NOW_MS, executor=name, agent_type="coder", slots=1)


def _fate(tables: MemoryTables, *, token: int, may_fence: bool, reason: str) -> Fate:
    return tables.fate(token, may_fence=may_fence, reason=reason)


def _now_ms() -> int:
    return NOW_MS


def _verdict(proof: Proof, fate: Fate) -> AnyEvent:
    if fate.result is not None:
        return replace(fate.result, at_ms=NOW_MS)
    if fate.verdict == "started":
        return e.AttemptStarted(at_ms=NOW_MS, token=proof.token)
    return e.AttemptLost(at_ms=NOW_MS, token=proof.token, reason=proof.reason)


def _settled(tables: MemoryTables, change: Callable[[MemoryTables], Any]) -> Any:
    """Do a transaction; then forget what only counts: events, batches."""
    answer = change(tables)
    tables.events.clear()
    if tables.term is not None:
        tables.term = replace(tables.term, batch=0)
    return answer


def _tables_key(tables: MemoryTables) -> Hashable:
    return repr(tables)


def _check_tables(tables: MemoryTables) -> None:
    live = [row for row in tables.attempts.values() if row.state in LIVE]
    if len(live) > 1:
        raise Violation(f"attempts {[row.token for row in live]} of one task are live at once")
    for token, row in tables.attempts.items():
        if row.state is AttemptState.LOST and token in tables.results:
            raise Violation(f"attempt {token} is lost, and its result is stored")
        if row.state not in LIVE and not row.end_reason:
            raise Violation(f"attempt {token} ended for no reason")
    if not set(tables.results) <= set(tables.starts) <= set(tables.attempts):
        raise Violation("a result without a start, or a start without an attempt")
    successes = [row for row in tables.attempts.values() if row.state is AttemptState.SUCCEEDED]
    if (tables.tasks[TASK].state is TaskState.DONE) != bool(successes) or len(successes) > 1:
        raise Violation(f"the task is {tables.tasks[TASK].state}, {len(successes)} attempts succeeded")


def _check_core(core: SchedulerState) -> None:
    try:
        check_invariants(core)
    except InvariantViolation as error:
        raise Violation(str(error)) from error


def _normalise(core: SchedulerState) -> None:
    """Forget what only counts, tells the time or is stale: any timeout may come at any moment."""
    core.late_reports = 0
    core.ended.clear()
    core.timers = [(at, task_id) for at, task_id in core.timers if _backs_off(core, at, task_id)]
    core.executors = dict(sorted(core.executors.items()))
    for pool in core.pools.values():
        pool.executors = dict(sorted(pool.executors.items()))
        pool.idle = sorted((-x.free, x.name) for x in pool.executors.values() if x.free)
        pool.listed = set(pool.idle)
    if not any(task.ticket for task in core.tasks.values()):
        core.ticket = 0
    for attempt in core.attempts.values():
        attempt.leased_at_ms = attempt.beat_at_ms = NOW_MS
        attempt.started_at_ms = min(attempt.started_at_ms, NOW_MS)
        attempt.prove_since_ms = min(attempt.prove_since_ms, NOW_MS)
        attempt.prove_at_ms = min(attempt.prove_at_ms, NOW_MS)
        attempt.is_resent = False


def _backs_off(core: SchedulerState, at_ms: int, task_id: int) -> bool:
    task = core.tasks.get(task_id)
    return task is not None and task.not_before_ms == at_ms
