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
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from functools import partial
from typing import Any

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
from orchestrator.core.limits import Limits
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.state import Policy
from orchestrator.core.words import LIVE, AttemptState, TaskState
from orchestrator.errors import Fenced, InvariantViolation
from orchestrator.ports import Fate
from tests.model.interning import Interned
from tests.model.parts import NOW_MS, TASK, check_core, check_tables, list_idle, normalise, settled
from tests.model.search import Violation
from tests.model.world import (
    OUTCOMES,
    Bounds,
    Executor,
    Known,
    Proof,
    Scheduler,
    Session,
    World,
    cancelled,
    killed,
    put_session,
    with_executor,
)
from tests.support.core import PLAN, spec
from tests.support.memory_tables import MemoryTables

PLAN_ID = PLAN.plan_id
LATE_MS = 1_000_000  #: after every timeout but the one of a running session
AGES_MS = 1_000_000_000  #: after that too
POLICY = Policy(backoff_ms=(0,), losses_max=2, tokens_low=0)
REST = {TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED, TaskState.HELD}


Steps = Iterator[tuple[str, World]]


class LeaseProtocol:
    """What may happen next in a World, and what must hold in each.

    Args:
        is_whole: leave nothing out, also not what nothing can come of.

    Attributes:
        left_out: how often what was left out, which each time was seen to change nothing.
    """

    def __init__(self, bounds: Bounds, *, is_whole: bool = False) -> None:
        assert not bounds.unproven or bounds.epochs == 1, (
            "nobody follows what is not proven to one without a term"
        )
        self._bounds = bounds
        self._is_whole = is_whole
        self.left_out: Counter[str] = Counter()
        self.cores = Interned(copy=copy.deepcopy, key=repr, check=check_core)
        self.tables = Interned(copy=MemoryTables.copy, key=repr, check=check_tables)
        self.batches: Interned[tuple[Command, ...]] = Interned(copy=tuple, key=repr, check=lambda _: None)
        self._recovered: dict[Hashable, tuple[int, int]] = {}

    def first(self) -> World:
        """A plan of one task is stored, executors wait, and there is no scheduler yet."""
        tables = MemoryTables(clock_ms=_now_ms)
        tables.add_plan(PLAN, [spec(TASK, attempts_max=2)])
        return World(tables=self.tables.put(tables), schedulers=(), executors=(Executor("a"), Executor("b")))

    def steps(self, world: World) -> Steps:
        """Yield everything that can happen next. A scheduler of which no step is taken any more has died."""
        for name, after in self._steps(world):
            yield name, after if self._is_whole else self._reduced(after)

    def _steps(self, world: World) -> Steps:
        yield from self._take_over(world)
        for scheduler in world.schedulers:
            yield from self._prove(world, scheduler)
            if scheduler.is_deposed:
                yield from self._look_once_more(world, scheduler)
            elif scheduler.core == -1:
                yield from self._recover(world, scheduler)
            elif scheduler.batch == -1:
                yield from self._decide(world, scheduler)
            else:
                yield from self._commit(world, scheduler)
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
        if not all(tables.attempts[token].incarnation for token in world.running()):
            raise Violation("a session runs whose start is not stored")
        for scheduler in world.schedulers:
            is_in_office = tables.term is not None and tables.term.epoch == scheduler.epoch
            if is_in_office and scheduler.core != -1 and scheduler.batch == -1:
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
        number, answer = self.tables.step(world.tables, name, partial(settled, change=change))
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
            yield f"take-term {epoch}", world._replace(tables=tables, schedulers=schedulers)

    def _recover(self, world: World, scheduler: Scheduler) -> Steps:
        alive = {executor.name for executor in world.executors}
        for first in self._candidates(world, alive):
            order = (first, *sorted(alive - {first}))
            key = (world.tables, scheduler.epoch, *order)
            if key not in self._recovered:
                core = SchedulerState(policy=POLICY)
                events = self._rows_as_events(self.tables[world.tables], scheduler.epoch, order)
                commands = [command for event in events for command in core.handle(event, at_ms=NOW_MS)]
                normalise(core)
                self._recovered[key] = self.cores.put(core), self._batch(commands)
            number, batch = self._recovered[key]
            yield f"recover {scheduler.epoch}", self._decided(world, scheduler, batch, core=number)

    def _candidates(self, world: World, names: Collection[str]) -> list[str]:
        """The executors that may be preferred where several have room; of those that nothing ran on, one."""
        rows = self.tables[world.tables].attempts.values()
        used = {row.executor for row in rows}
        new = sorted(name for name in names if name not in used)
        return [*sorted(used & set(names)), *(new if self._is_whole else new[:1])]

    def _rows_as_events(self, tables: MemoryTables, epoch: int, alive: Iterable[str]) -> Iterator[AnyEvent]:
        left = self._bounds.attempts - len(tables.attempts)
        if left:
            first = 1 + (epoch - 1) * self._bounds.attempts
            yield e.TokensReserved(first=first, count=left)
        yield e.LimitsSet(limits=Limits())
        attempts: tuple[e.LiveAttempt, ...] = ()
        for part in tables.load_plan(PLAN_ID):
            yield e.PlanSliceLoaded(plan=part.plan, tasks=part.tasks, edges=part.edges)
            attempts = part.attempts
        yield e.PlanLoaded(plan_id=PLAN_ID, attempts=attempts)
        for name in alive:
            yield _joined(name)

    def _batch(self, commands: list[Command]) -> int:
        """Keep a batch; of its events only what makes it one that is written, as a lost term refuses it."""
        events = [c for c in commands if isinstance(c, RecordEvent)]
        wanted = [c for c in commands if not isinstance(c, RecordEvent)]
        if not any(isinstance(c, RowCommand) for c in wanted):
            wanted += events[:1]
        return self.batches.put(tuple(wanted)) if wanted else -1

    def _decide(self, world: World, scheduler: Scheduler) -> Steps:
        for name, event, at_ms in self._events(world, scheduler):
            key: Hashable = name if isinstance(event, e.BeatsRead) else (event, at_ms)
            inbox = frozenset(told for told in scheduler.inbox if told != event)
            favourites = self._candidates(world, self.cores[scheduler.core].executors) or [""]
            for number, batch in {
                self._take(scheduler.core, key, event, favourite, at_ms=at_ms) for favourite in favourites
            }:
                if (number, batch, inbox) == (scheduler.core, -1, scheduler.inbox):
                    continue
                after = self._decided(world, scheduler, batch, core=number, inbox=inbox)
                is_cancel = isinstance(event, e.Requested)
                yield f"{name} by {scheduler.epoch}", after._replace(cancel="asked") if is_cancel else after

    def _take(
        self, core: int, key: Hashable, event: AnyEvent, favourite: str, *, at_ms: int
    ) -> tuple[int, Any]:
        handle = partial(self._handle, event=event, favourite=favourite, at_ms=at_ms)
        return self.cores.step(core, (key, favourite), handle)

    def _handle(self, core: SchedulerState, *, event: AnyEvent, favourite: str, at_ms: int) -> int:
        """Let the core take an event while the favourite, if it has room, has the most."""
        executor = core.executors.get(favourite)
        if executor is not None:
            executor.slots += 1
            list_idle(core)
        commands = core.handle(event, at_ms=at_ms)
        if executor is not None:
            executor.slots -= 1
        normalise(core)
        return self._batch(commands)

    def _events(self, world: World, scheduler: Scheduler) -> Iterator[tuple[str, AnyEvent, int]]:
        """What a scheduler may hear now, whoever tells it or whatever poll finds it, and at what time."""
        core, tables = self.cores[scheduler.core], self.tables[world.tables]
        for told in scheduler.inbox:
            yield "hear-verdict", told, NOW_MS
            if isinstance(told, e.AttemptUnproven):
                yield "lose-patience", told, LATE_MS
        for token, row in tables.attempts.items():
            if row.incarnation:
                yield f"hear-start {token}", e.AttemptStarted(token=token), NOW_MS
            if row.has_result:
                yield f"hear-result {token}", tables.result_of(token), NOW_MS
        yield "tick", e.Tick(), NOW_MS
        yield from self._timeouts(world, scheduler, core)
        alive = {executor.name for executor in world.executors}
        known = set(core.executors) | {attempt.executor for attempt in core.attempts.values()}
        for name in sorted(known - alive):
            yield f"hear-loss {name}", e.ExecutorLost(executor=name), NOW_MS
        for name in sorted(alive - set(core.executors)):
            yield f"hear-join {name}", _joined(name), NOW_MS
        if world.cancel == "" and self._bounds.cancels and TASK in core.tasks:
            yield (
                "cancel",
                e.Requested(
                    request_id=1,
                    kind="cancel_task",
                    tenant_id=PLAN.tenant_id,
                    plan_id=PLAN_ID,
                    task_id=TASK,
                ),
                NOW_MS,
            )

    @staticmethod
    def _timeouts(
        world: World, scheduler: Scheduler, core: SchedulerState
    ) -> Iterator[tuple[str, AnyEvent, int]]:
        """Time passes; none is waited for while the answer to an earlier one is on its way."""
        if scheduler.proofs or scheduler.inbox:
            return
        yield "time-out", e.Tick(), LATE_MS
        if world.may_run_out():
            yield "run-out", e.Tick(), AGES_MS
        started = {token: a.beat for token, a in core.attempts.items() if a.state is AttemptState.STARTED}
        still = {token: beat for token, beat in started.items() if token not in world.trusted()}
        if still:
            yield f"expire {sorted(still)}", e.BeatsRead(beats=still), LATE_MS

    @staticmethod
    def _next(world: World, scheduler: Scheduler, **changes: Any) -> World:
        """The world with a scheduler changed."""
        after = scheduler._replace(**changes)
        schedulers = tuple(after if s is scheduler else s for s in world.schedulers)
        return world._replace(schedulers=schedulers)

    def _rows(self, batch: int) -> list[RowCommand]:
        return [c for c in self.batches[batch] if isinstance(c, RowCommand)]

    def _decided(self, world: World, scheduler: Scheduler, batch: int, **changes: Any) -> World:
        """The world after a decision; one that writes nothing is acted on at once."""
        world = self._next(world, scheduler, batch=batch, **changes)
        if batch == -1 or self._rows(batch):
            return world
        (decided,) = (s for s in world.schedulers if s.epoch == scheduler.epoch)
        return self._act(world, decided)

    def _try_commit(self, world: World, scheduler: Scheduler) -> tuple[int, Any]:
        rows = self._rows(scheduler.batch) if scheduler.batch != -1 else []

        def commit(tables: MemoryTables) -> str:
            try:
                tables.commit(scheduler.epoch, 0, rows)
            except Fenced:
                return "fenced"
            except InvariantViolation as error:
                raise Violation(f"the tables refuse a batch of the scheduler in office: {error}") from error
            return "commit"

        return self._write(world, ("commit", scheduler.epoch, scheduler.batch), commit)

    def _commit(self, world: World, scheduler: Scheduler) -> Steps:
        """Commit and act on it, or die in between. What is sent may still come at any later time."""
        tables, answer = self._try_commit(world, scheduler)
        if answer == "fenced":
            yield f"refused {scheduler.epoch}", self._next(world, scheduler, batch=-1, is_deposed=True)
            return
        is_lease = any(isinstance(row, LeaseAttempt) for row in self.batches[scheduler.batch])
        if world.cancel == "answered" and is_lease:
            raise Violation("a task is leased whose cancel was granted")
        committed = world._replace(tables=tables)
        yield f"commit-and-act {scheduler.epoch}", self._act(committed, scheduler)
        if scheduler.epoch < self._bounds.epochs:
            others = tuple(s for s in world.schedulers if s is not scheduler)
            yield f"commit-and-die {scheduler.epoch}", committed._replace(schedulers=others)

    def _act(self, world: World, scheduler: Scheduler) -> World:
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
        after = self._next(world, scheduler, batch=-1, proofs=frozenset(proofs))
        return after._replace(sent=frozenset(sent), cancel=cancel)

    def _prove(self, world: World, scheduler: Scheduler) -> Steps:
        """The driver's looks into attempts that do not report, step by step."""
        for proof in scheduler.proofs:
            left = scheduler.proofs - {proof}
            name = f"{proof.next} {proof.token} by {scheduler.epoch}"
            if proof.next == "kill":
                fence = left | {proof._replace(next="fence")}
                yield name, self._next(killed(world, proof.token), scheduler, proofs=fence)
                if not self._bounds.unproven:
                    continue
                told = e.AttemptUnproven(token=proof.token, is_node_dead=False)
                inbox = scheduler.inbox | {told}
                yield f"not-proven {proof.token}", self._next(world, scheduler, proofs=left, inbox=inbox)
                continue
            tables, fate = self._ask(world, proof)
            after = world._replace(tables=tables)
            if fate.verdict == "started" and proof.reason != leases.START_TIMEOUT:
                kill = left | {proof._replace(next="kill")}
                yield name, self._next(after, scheduler, proofs=kill)
            else:
                told = _verdict(proof, fate)
                is_news = isinstance(told, e.AttemptLost) and not scheduler.is_deposed
                inbox = scheduler.inbox | {told} if is_news else scheduler.inbox
                yield name, self._next(after, scheduler, proofs=left, inbox=inbox)

    def _ask(self, world: World, proof: Proof) -> tuple[int, Fate]:
        ask = partial(_fate, token=proof.token, may_fence=proof.next == "fence", reason=proof.reason)
        return self._write(world, ("fate", proof.token, proof.next, proof.reason), ask)

    def _look_once_more(self, world: World, scheduler: Scheduler) -> Steps:
        """What a scheduler may still begin that has lost its term: whatever it decides without a row."""
        if scheduler.knows is None or scheduler.proofs:
            return
        token, executor, is_started = scheduler.knows
        reasons = {
            leases.START_TIMEOUT: not is_started,
            leases.TIMED_OUT: is_started and world.may_run_out(),
            leases.LEASE_EXPIRED: is_started and token not in world.trusted(),
            leases.EXECUTOR_LOST: executor not in {x.name for x in world.executors},
        }
        for reason in [reason for reason, may_be in reasons.items() if may_be]:
            proofs = scheduler.proofs | {Proof(token, executor, reason)}
            after = self._next(world, scheduler, proofs=proofs, knows=None)
            if reason == leases.START_TIMEOUT:
                after = after._replace(sent=after.sent | {("start", executor, token)})
            yield f"look-once-more {token} by {scheduler.epoch}", after

    # What is left out of a world, because nothing can come of it.

    def _reduced(self, world: World) -> World:
        schedulers = [self._reduced_scheduler(world, scheduler) for scheduler in world.schedulers]
        executors = [self._reduced_executor(world, executor) for executor in world.executors]
        held = {(x.name, s.token) for x in executors for s in x.sessions}
        sent = {
            (kind, name, token)
            for kind, name, token in world.sent
            if self._is_live(world, token) or (kind == "cancel" and (name, token) in held)
        }
        return world._replace(
            schedulers=tuple(scheduler for scheduler in schedulers if scheduler is not None),
            executors=tuple(executors),
            sent=frozenset(sent),
        )

    def _is_live(self, world: World, token: int) -> bool:
        """Tell whether the attempt may still start, run or be taken for ended."""
        tables = self.tables[world.tables]
        row = tables.attempts[token]
        return row.state in LIVE or (row.has_result and token in tables.leases)

    def _reduced_scheduler(self, world: World, scheduler: Scheduler) -> Scheduler | None:
        """Of one without the term, what it knows and looks into; None if nothing can come of that."""
        term = self.tables[world.tables].term
        is_in_office = term is None or scheduler.epoch == term.epoch
        if not scheduler.is_deposed and (is_in_office or scheduler.core == -1):
            return scheduler
        if self._try_commit(world, scheduler)[1] != "fenced":
            raise Violation(f"epoch {scheduler.epoch} writes after its term")
        knows = scheduler.knows
        if not scheduler.is_deposed and scheduler.batch == -1:
            knows = _known(self.cores[scheduler.core])
        if knows is not None and not self._is_live(world, knows.token):
            knows = None
        proofs = {p for p in scheduler.proofs if p.next == "kill" or self._is_live(world, p.token)}
        for proof in scheduler.proofs - proofs:
            if self._ask(world, proof)[0] != world.tables:
                raise Violation(f"attempt {proof.token} is over, and {proof} changes the tables")
            self.left_out["late-look"] += 1
        if not proofs and knows is None:
            return None
        return Scheduler(scheduler.epoch, proofs=frozenset(proofs), is_deposed=True, knows=knows)

    def _reduced_executor(self, world: World, executor: Executor) -> Executor:
        """Without what the tables refuse for ever: starts and results of attempts that are over."""
        left = set(executor.sessions)
        for session in executor.sessions:
            if self._is_live(world, session.token):
                continue
            if session.phase == "received":
                is_refused = self._start(world, session.token, executor.name) == (world.tables, False)
            elif session.phase in OUTCOMES:
                is_refused = self._store(world, session) == world.tables
            else:
                continue  # it runs, or may
            if not is_refused:
                raise Violation(f"attempt {session.token} is over, and {session} of it is not refused")
            self.left_out["start-refused" if session.phase == "received" else "result-refused"] += 1
            left.remove(session)
        seen = frozenset(token for token in executor.seen if self._is_live(world, token))
        return executor._replace(seen=seen, sessions=frozenset(left))

    # Executors.

    def _live(self, world: World, place: int, executor: Executor) -> Steps:
        name = executor.name
        if world.crashes < self._bounds.crashes and (self._is_whole or self._is_at_work(world, executor)):
            yield f"crash {name}", self._crashed(world, executor)
        for kind, to, token in world.sent:
            if (kind, to) == ("start", name) and token not in executor.seen:
                sessions = executor.sessions | {Session(token)}
                received = Executor(name, executor.seen | {token}, sessions)
                yield f"receive-start {token}", with_executor(world, place, received)
        for session in executor.sessions:
            for step, after in self._go_on(world, place, session):
                yield f"{step} {session.token} at {name}", after

    def _is_at_work(self, world: World, executor: Executor) -> bool:
        """Tell whether it has something in hand, or may be told to start something that is leased to it."""
        rows = self.tables[world.tables].attempts.items()
        of_executor = [token for token, row in rows if row.executor == executor.name]
        return bool(executor.sessions) or any(self._is_live(world, token) for token in of_executor)

    def _crashed(self, world: World, executor: Executor) -> World:
        """The world without an executor; what ran there runs on. Another is left, as good as a new one."""
        running = {session.token for session in executor.sessions if session.phase == "running"}
        successors = [Executor(executor.name * 2)] if self._is_whole else []
        others = [other for other in world.executors if other is not executor]
        return world._replace(
            executors=(*successors, *others), orphans=world.orphans | running, crashes=world.crashes + 1
        )

    def _go_on(self, world: World, place: int, session: Session) -> Steps:
        """What may happen to one session; without trust it only ends."""
        put = partial(put_session, world, place, session)
        if session.phase == "received":
            yield from self._store_start(world, place, session)
        elif session.phase in OUTCOMES:
            yield "store-result", put(None)._replace(tables=self._store(world, session))
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
            yield "receive-cancel", put(cancelled(session))

    def _start(self, world: World, token: int, name: str) -> tuple[int, bool]:
        """Store a start; return the tables after it, and whether the executor may run the session."""
        return self._write(
            world,
            ("start", token, name),
            lambda tables: bool(tables.start([token], executor=name, incarnation=name)),
        )

    def _store(self, world: World, session: Session) -> int:
        """Store the result of a session; return the tables after it."""
        result = (session.token, OUTCOMES[session.phase])
        name = ("result", session.token, session.phase)
        return self._write(world, name, lambda tables: tables.save_results([result]))[0]

    def _store_start(self, world: World, place: int, session: Session) -> Steps:
        token, name = session.token, world.executors[place].name
        tables, accepted = self._start(world, token, name)
        if tables != world.tables:
            yield "store-start-unanswered", world._replace(tables=tables)
        is_open = accepted and session.is_trusted
        opened = session._replace(phase="accepted") if is_open else None
        step = "store-start" if is_open else "start-too-late" if accepted else "start-refused"
        yield step, put_session(world, place, session, opened)._replace(tables=tables)

    def _renew(self, world: World, place: int, session: Session) -> Steps:
        lease = self.tables[world.tables].leases.get(session.token)
        if lease is None:
            yield "renewal-refused", put_session(world, place, session, session._replace(is_trusted=False))
        elif lease.cancel_reason is not None:
            yield "renewal-cancels", put_session(world, place, session, cancelled(session))


def _known(core: SchedulerState) -> Known | None:
    """What a scheduler that loses its term may still look into: an attempt of which it has not asked yet."""
    for attempt in core.attempts.values():
        if not attempt.prove_reason:
            return Known(attempt.token, attempt.executor, attempt.state is AttemptState.STARTED)
    return None


def _joined(name: str) -> e.ExecutorJoined:
    return e.ExecutorJoined(executor=name, agent_type="coder", slots=1)


def _fate(tables: MemoryTables, *, token: int, may_fence: bool, reason: str) -> Fate:
    return tables.fate(token, may_fence=may_fence, reason=reason)


def _now_ms() -> int:
    return NOW_MS


def _verdict(proof: Proof, fate: Fate) -> AnyEvent:
    if fate.result is not None:
        return fate.result
    if fate.verdict == "started":
        return e.AttemptStarted(token=proof.token)
    return e.AttemptLost(token=proof.token, reason=proof.reason)
