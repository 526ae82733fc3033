"""One state of everything: what of tables, schedulers, messages, executors and sessions matters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.core.machine import AnyEvent
from orchestrator.core.words import AttemptState, FailureClass
from orchestrator.ports import Outcome

#: How a session may end by itself.
OUTCOMES = {
    "succeeds": Outcome(state=AttemptState.SUCCEEDED),
    "fails": Outcome(state=AttemptState.FAILED, failure_class=FailureClass.AGENT),
    "stops": Outcome(state=AttemptState.INTERRUPTED),
}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How much may happen; `epochs` - 1 is the number of takeovers, `crashes` (of executors) at most one."""

    attempts: int = 2
    epochs: int = 2
    crashes: int = 1
    cancels: int = 1
    unproven: int = 0


class Proof(NamedTuple):
    """An attempt that a scheduler looks into. `next`: what it does next: `ask`, `kill` or `fence`."""

    token: int
    executor: str
    reason: str
    next: str = "ask"


class Known(NamedTuple):
    """A live attempt as a scheduler without the term remembers it."""

    token: int
    executor: str
    is_started: bool


class Scheduler(NamedTuple):
    """A scheduler that lives. `core` and `batch` are numbers of Interned things; -1 = none.

    Attributes:
        batch: what it has decided and not committed yet.
        inbox: what its proofs have found out and no table tells.
        is_deposed: another has its term, so that whatever it would write is refused. Its proofs go on, and it
            may begin one more: into the attempt that it `knows`.
    """

    epoch: int
    core: int = -1
    batch: int = -1
    proofs: frozenset[Proof] = frozenset()
    inbox: frozenset[AnyEvent] = frozenset()
    is_deposed: bool = False
    knows: Known | None = None


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
    """A process of an executor."""

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

    def trusted(self) -> dict[int, str]:
        """The phases of the sessions whose executors trust their leases, by token."""
        return {s.token: s.phase for x in self.executors for s in x.sessions if s.is_trusted}

    def may_run_out(self) -> bool:
        """A session that may still be opened has not run out of its time."""
        return not {"received", "accepted"} & set(self.trusted().values())

    def running(self) -> list[int]:
        """The tokens whose sessions run now."""
        of_executors = [s.token for x in self.executors for s in x.sessions if s.phase == "running"]
        return [*of_executors, *self.orphans]


def with_executor(world: World, place: int, executor: Executor) -> World:
    """The world with another executor in the place."""
    executors = tuple(executor if n == place else x for n, x in enumerate(world.executors))
    return world._replace(executors=executors)


def put_session(world: World, place: int, session: Session, after: Session | None) -> World:
    """The world with a session changed, or gone."""
    executor = world.executors[place]
    sessions = (executor.sessions - {session}) | ({after} if after is not None else set())
    return with_executor(world, place, executor._replace(sessions=sessions))


def cancelled(session: Session) -> Session:
    """The session once its executor has heard that it is to be cancelled."""
    if session.phase == "running" and session.is_trusted:
        return session._replace(phase="stops")
    is_open = session.phase in {"received", "accepted"}
    return session._replace(wish=True) if is_open else session


def killed(world: World, token: int) -> World:
    """The process tree of a token is ended; an executor that still trusts its lease sees a session fail."""
    for place, executor in enumerate(world.executors):
        for session in executor.sessions:
            if session.token == token and session.phase == "running":
                after = session._replace(phase="fails") if session.is_trusted else None
                world = put_session(world, place, session, after)
    return world._replace(orphans=world.orphans - {token})
