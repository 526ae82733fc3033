"""What the tables hold, in plain synchronous Python: each transaction of the real stores with its guards.

Rows are frozen and tables are dicts, so a copy is cheap and shares nothing that could change: a search may
keep one copy for each state that it visits. Each public method is one transaction: it happens whole or, if it
raises, not at all. `tests/contract/stores` holds it to what PostgreSQL does.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Self, TypeVar

from orchestrator.core.commands import (
    AskCancel,
    EndAttempt,
    EndRevision,
    LeaseAttempt,
    RecordEvent,
    ReleaseTask,
    RowCommand,
    SaveAnswer,
    SaveBreaker,
    SaveControls,
    SaveDependency,
    SavePlan,
    SaveTask,
    SaveTaskBudget,
    TakeResult,
)
from orchestrator.core.events import (
    AttemptEnded,
    AttemptStarted,
    BreakerRow,
    ControlsRead,
    LiveAttempt,
    PlanSpec,
)
from orchestrator.core.limits import Overrides
from orchestrator.core.revising import WRITTEN
from orchestrator.core.task import Task
from orchestrator.core.words import (
    FINISHED,
    LIVE,
    AttemptKind,
    AttemptState,
    DependencyDecision,
    FailureClass,
    PlanState,
)
from orchestrator.errors import Fenced, InvariantViolation, NotFound
from orchestrator.ports import Fate, Outcome, PlanSlice, StoredAnswer

_DAY_MS = 86_400_000

_Row = TypeVar("_Row", bound=RowCommand)

#: End of an attempt whose executor stored a result; any other was ended without it.
REPORTED = "reported"

#: What the write of a task changes in its row.
_SAVED = {f.name for f in fields(SaveTask)} & {f.name for f in fields(Task)} - {"task_id"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TermRow:
    """Who may write. `renewed_at_ms` and `batch` move with every commit."""

    epoch: int
    cluster_id: str
    incarnation: str
    renewed_at_ms: int
    batch: int = 0
    is_released: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """An attempt. Moments are milliseconds; None until they have come."""

    token: int
    tenant_id: str
    plan_id: int
    task_id: int
    kind: AttemptKind
    number: int
    agent_type: str
    backend: str
    executor: str
    cluster_id: str
    epoch: int
    leased_at_ms: int
    state: AttemptState = AttemptState.LEASED
    incarnation: str = ""
    node_id: str = ""
    end_reason: str = ""
    failure_class: FailureClass | None = None
    summary: str = ""
    detail: str = ""
    cost_micros: int = 0
    reserved_micros: int = 0
    started_at_ms: int | None = None
    ended_at_ms: int | None = None

    @property
    def has_result(self) -> bool:
        """Whether its executor has stored a result."""
        return self.end_reason == REPORTED


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRow:
    """The lease of a live attempt."""

    beat: int = 0
    cancel_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """A row of the events; `seq` is its place in the list, from 1."""

    seq: int
    epoch: int
    at_ms: int
    event: RecordEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRow:
    """A new text of a plan: its tasks as written, and its edges (task, on)."""

    plan_id: int
    tasks: tuple[Task, ...]
    edges: tuple[tuple[int, int], ...]
    state: str = "submitted"


#: Nobody has set anything.
NO_CONTROLS = ControlsRead(is_paused=False, overrides=Overrides())


@dataclass(slots=True)
class MemoryTables:
    """The tables.

    Attributes:
        clock_ms: what time the database says it is.
        tasks: with the numbers of their last attempts.
        edges: of `blocks` dependencies by the task at which they end: task → tasks it waits for.
        decisions: of people about a task and one that it waits for; they outlive what texts say.
        revisions: by id, with what each is to change.
    """

    clock_ms: Callable[[], int] = lambda: 0
    term: TermRow | None = None
    plans: dict[int, PlanSpec] = field(default_factory=dict)
    tasks: dict[int, Task] = field(default_factory=dict)
    plan_of: dict[int, int] = field(default_factory=dict)
    ordinals: dict[int, int] = field(default_factory=dict)
    edges: dict[int, tuple[int, ...]] = field(default_factory=dict)
    decisions: dict[tuple[int, int], DependencyDecision] = field(default_factory=dict)
    attempts: dict[int, AttemptRow] = field(default_factory=dict)
    leases: dict[int, LeaseRow] = field(default_factory=dict)
    breakers: dict[str, BreakerRow] = field(default_factory=dict)
    answers: dict[tuple[str, str], StoredAnswer] = field(default_factory=dict)
    revisions: dict[int, RevisionRow] = field(default_factory=dict)
    events: list[EventRow] = field(default_factory=list)
    controls: ControlsRead = NO_CONTROLS
    next_token: int = 1

    def copy(self) -> Self:
        """Return tables that go their own way from here."""
        twin = copy.copy(self)
        for name in _CONTAINERS:
            setattr(twin, name, getattr(self, name).copy())
        return twin

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        before = self.copy()
        try:
            yield
        except BaseException:
            for f in fields(self):
                setattr(self, f.name, getattr(before, f.name))
            raise

    def add_plan(self, plan: PlanSpec, tasks: Iterable[Task], edges: Iterable[tuple[int, int]] = ()) -> None:
        """Store a plan as submitting it does; `edges` are (task, on)."""
        self.plans[plan.plan_id] = plan
        for ordinal, task in enumerate(tasks):
            self.tasks[task.task_id] = task
            self.ordinals[task.task_id] = ordinal
            self.plan_of[task.task_id] = plan.plan_id
        for task_id, on_id in edges:
            self.edges[task_id] = (*self.edges.get(task_id, ()), on_id)

    def add_revision(self, plan_id: int, tasks: Iterable[Task], edges: Iterable[tuple[int, int]] = ()) -> int:
        """Store a revision, inert, as handing it in does; return its id."""
        revision_id = len(self.revisions) + 1
        self.revisions[revision_id] = RevisionRow(plan_id=plan_id, tasks=tuple(tasks), edges=tuple(edges))
        return revision_id

    def open_revisions(self) -> list[tuple[int, int]]:
        """Return id and plan of the revisions that no scheduler has made an end of."""
        return [(i, row.plan_id) for i, row in self.revisions.items() if row.state in {"submitted", "stored"}]

    def store_revision(self, revision_id: int) -> bool:
        """Give the tasks and edges what is written; their states stay. Once is enough."""
        row = self.revisions[revision_id]
        if row.state == "submitted":
            for ordinal, task in enumerate(row.tasks):
                known = self.tasks.get(task.task_id, task)
                written = {name: getattr(task, name) for name in WRITTEN}
                self.tasks[task.task_id] = replace(known, **written)
                self.ordinals[task.task_id] = ordinal
                self.plan_of[task.task_id] = row.plan_id
            self._relink(row)
            self.revisions[revision_id] = replace(row, state="stored")
        return True

    def _relink(self, row: RevisionRow) -> None:
        """Replace what was read by what the text says, but for the pairs that people have decided on."""
        gone = {task.task_id for task in row.tasks if task.is_removed}
        self.decisions = {pair: what for pair, what in self.decisions.items() if gone.isdisjoint(pair)}
        blocking = [pair for pair, what in self.decisions.items() if what is DependencyDecision.BLOCKS]
        edges = [pair for pair in row.edges if pair not in self.decisions] + blocking
        for task in row.tasks:
            self.edges[task.task_id] = tuple(on for task_id, on in edges if task_id == task.task_id)

    # --- the term

    @staticmethod
    def may_take(term: TermRow | None, *, cluster_id: str, incarnation: str, is_starting: bool) -> bool:
        """Tell whether a term as seen may be taken at once; see ports.SchedulerStore.take_term."""
        if term is None or term.is_released or term.incarnation == incarnation:
            return True
        return is_starting and term.cluster_id == cluster_id

    def take_term(self, *, seen_epoch: int, cluster_id: str, incarnation: str) -> int | None:
        """Take the term if its epoch is still the one seen (0 = there was none); return the new epoch."""
        if (self.term.epoch if self.term is not None else 0) != seen_epoch:
            return None
        self.term = TermRow(
            epoch=seen_epoch + 1,
            cluster_id=cluster_id,
            incarnation=incarnation,
            renewed_at_ms=self.clock_ms(),
        )
        return self.term.epoch

    def release_term(self, epoch: int) -> None:
        """Give the term back; without effect if it is another's by now."""
        if self.term is not None and self.term.epoch == epoch:
            self.term = replace(self.term, is_released=True)

    def last_batch(self, epoch: int) -> int:
        """Return the number of the last batch of the epoch. Raises Fenced."""
        if self.term is None or self.term.epoch != epoch:
            raise Fenced(f"Epoch {epoch} no longer holds the scheduler's term.")
        return self.term.batch

    def reserve_tokens(self, count: int = 1000) -> tuple[int, int]:
        """Return the first token and the number of tokens of a new block."""
        first, self.next_token = self.next_token, self.next_token + count
        return first, count

    # --- the scheduler writes

    def commit(self, epoch: int, batch: int, rows: Sequence[RowCommand]) -> None:
        """Write everything or nothing. Raises Fenced or InvariantViolation."""
        term = self.term
        if term is None or term.epoch != epoch or term.is_released:
            raise Fenced(f"Epoch {epoch} no longer holds the scheduler's term.")
        with self._transaction():
            self.term = replace(term, batch=batch, renewed_at_ms=self.clock_ms())
            if rows:
                self._write(self.term, rows)

    def _write(self, term: TermRow, rows: Sequence[RowCommand]) -> None:
        """In the order of the real committer: what ends makes room for what is leased."""
        self._save_tasks(_of(rows, SaveTask))
        self._save_wishes(rows)
        for taken in _of(rows, TakeResult):
            self._take_result(taken.token)
        for end in _of(rows, EndAttempt):
            self._end(end)
            self.leases.pop(end.token, None)
        for lease in _of(rows, LeaseAttempt):
            self._lease(lease, term)
        for ask in _of(rows, AskCancel):
            if ask.token in self.leases:
                self.leases[ask.token] = replace(self.leases[ask.token], cancel_reason=ask.reason)
        for plan in _of(rows, SavePlan):
            self._save_plan(plan)
        for revision in _of(rows, EndRevision):
            known = self.revisions[revision.revision_id]
            self.revisions[revision.revision_id] = replace(known, state="applied")
        self._save_dependencies(rows)
        self._save_settings(rows)
        for event in _of(rows, RecordEvent):
            seq, at_ms = len(self.events) + 1, self.clock_ms()
            self.events.append(EventRow(seq=seq, epoch=term.epoch, at_ms=at_ms, event=event))

    def _save_wishes(self, rows: Sequence[RowCommand]) -> None:
        """Write what people want of tasks, beside their states."""
        for release in _of(rows, ReleaseTask):
            self.tasks[release.task_id] = replace(self.tasks[release.task_id], is_released=True)
        for budget in _of(rows, SaveTaskBudget):
            task = self.tasks[budget.task_id]
            self.tasks[budget.task_id] = replace(task, budget_micros=budget.budget_micros)

    def _save_dependencies(self, rows: Sequence[RowCommand]) -> None:
        for row in _of(rows, SaveDependency):
            others = tuple(on for on in self.edges.get(row.task_id, ()) if on != row.on_task_id)
            is_blocking = row.decision is DependencyDecision.BLOCKS
            self.decisions[row.task_id, row.on_task_id] = row.decision
            self.edges[row.task_id] = (*others, row.on_task_id) if is_blocking else others

    def _save_settings(self, rows: Sequence[RowCommand]) -> None:
        for row in _of(rows, SaveBreaker):
            self.breakers[row.agent_type] = BreakerRow(**{f.name: getattr(row, f.name) for f in fields(row)})
        for control in _of(rows, SaveControls):
            self.controls = replace(
                self.controls,
                is_paused=control.is_paused,
                pause_reason=control.pause_reason,
                overrides=control.overrides,
            )
        for answer in _of(rows, SaveAnswer):
            stored = StoredAnswer(
                digest=answer.digest, result=answer.result, error=answer.error, remedy=answer.remedy
            )
            self.answers.setdefault((answer.tenant_id, answer.key), stored)

    def _save_tasks(self, rows: Sequence[SaveTask]) -> None:
        """Of several writes of one task the first one's guard and the last one's values count."""
        expected = {row.task_id: row.expected for row in reversed(rows)}
        for task_id, version in expected.items():
            if task_id not in self.tasks or self.tasks[task_id].version != version:
                raise InvariantViolation(f"Task {task_id} is not at version {version}.")
        for row in rows:
            changes = {name: getattr(row, name) for name in _SAVED}
            self.tasks[row.task_id] = replace(self.tasks[row.task_id], **changes)

    def _save_plan(self, row: SavePlan) -> None:
        if row.plan_id not in self.plans:
            raise InvariantViolation(f"There is no plan {row.plan_id}.")
        plan = self.plans[row.plan_id]
        changes = {f.name: getattr(row, f.name) for f in fields(row)}
        self.plans[row.plan_id] = replace(plan, **changes)

    def _end(self, row: EndAttempt) -> None:
        attempt = self.attempts.get(row.token)
        told_of = {AttemptState.LOST, AttemptState.TIMED_OUT}
        is_lost_again = attempt is not None and attempt.state is AttemptState.LOST and row.state in told_of
        is_open = row.token in self.leases
        if attempt is None or not is_open or (attempt.state not in LIVE and not is_lost_again):
            raise InvariantViolation(f"Attempt {row.token} is not live.")
        self.attempts[row.token] = replace(
            attempt,
            state=row.state,
            end_reason=row.end_reason,
            failure_class=row.failure_class,
            reserved_micros=row.kept_micros,
            ended_at_ms=self.clock_ms(),
        )

    def _take_result(self, token: int) -> None:
        attempt = self.attempts.get(token)
        if attempt is None or not attempt.has_result or token not in self.leases:
            raise InvariantViolation(f"Attempt {token} has no result that is not taken.")
        del self.leases[token]

    def _lease(self, row: LeaseAttempt, term: TermRow) -> None:
        task = self.tasks.get(row.task_id)
        if task is None:
            raise InvariantViolation(f"There is no task {row.task_id}.")
        if row.token in self.attempts:
            raise InvariantViolation(f"There is an attempt {row.token} already.")
        for other in self.attempts.values():
            if other.task_id != row.task_id:
                continue
            if other.token in self.leases:
                raise InvariantViolation(f"Task {row.task_id} has the lease of attempt {other.token}.")
            if (other.kind, other.number) == (row.kind, row.number):
                raise InvariantViolation(f"Task {row.task_id} had its {row.kind} attempt {row.number}.")
        written = {f.name: getattr(row, f.name) for f in fields(row)}
        self.attempts[row.token] = AttemptRow(
            **written, cluster_id=term.cluster_id, epoch=term.epoch, leased_at_ms=self.clock_ms()
        )
        self.leases[row.token] = LeaseRow()
        number = f"{row.kind.value}_number"
        self.tasks[row.task_id] = replace(task, **{number: max(row.number, getattr(task, number))})

    def fate(self, token: int, *, may_fence: bool, reason: str) -> Fate:
        """Settle what becomes of an attempt that does not report."""
        attempt = self.attempts.get(token)
        if attempt is not None and attempt.state is AttemptState.LOST:
            return Fate(verdict="fenced", reason=attempt.end_reason)
        if attempt is None or token not in self.leases:
            return Fate(verdict="over")
        if attempt.has_result:
            return Fate(verdict="result", result=self.result_of(token))
        if attempt.state is AttemptState.STARTED and not may_fence:
            return Fate(verdict="started", node_id=attempt.node_id)
        self.attempts[token] = replace(
            attempt, state=AttemptState.LOST, end_reason=reason, ended_at_ms=self.clock_ms()
        )
        return Fate(verdict="fenced", reason=reason)

    # --- the scheduler reads

    def unfinished_plans(self) -> list[int]:
        """Return the plans that are not over, or have an attempt whose end is not written."""
        live = {attempt.plan_id for attempt in self.open_attempts()}
        return sorted(i for i, plan in self.plans.items() if plan.state not in FINISHED or i in live)

    def submitted_plans(self) -> list[int]:
        """Return the plans that no scheduler has taken yet."""
        return sorted(i for i, plan in self.plans.items() if plan.state is PlanState.SUBMITTED)

    def open_attempts(self) -> list[AttemptRow]:
        """Return the attempts whose end is not written yet: they have a lease, also if they were fenced."""
        return [self.attempts[token] for token in sorted(self.leases)]

    def load_plan(self, plan_id: int, *, slice_size: int = 1000) -> Iterator[PlanSlice]:
        """Yield a plan in slices, the last with its live attempts; each is read when asked for.

        Raises:
            NotFound: there is no such plan.
        """
        if plan_id not in self.plans:
            raise NotFound(f"There is no plan {plan_id}.")
        spent = Counter[int]()
        for row in self._over():
            spent[row.task_id] += row.cost_micros + row.reserved_micros
        of_plan = sum(micros for task_id, micros in spent.items() if self.plan_of[task_id] == plan_id)
        plan = replace(self.plans[plan_id], spent_micros=of_plan)
        ids = [task_id for task_id, of in self.plan_of.items() if of == plan_id]
        ids.sort(key=lambda task_id: self.ordinals[task_id])
        for begin in range(0, len(ids) + 1, slice_size):  # a full last slice is followed by an empty one
            tasks = tuple(
                replace(self.tasks[task_id], spent_micros=spent[task_id])
                for task_id in ids[begin : begin + slice_size]
            )
            edges = tuple((t.task_id, on_id) for t in tasks for on_id in self.edges.get(t.task_id, ()))
            is_last = len(tasks) < slice_size
            live = [self._live(row) for row in self.open_attempts() if is_last and row.plan_id == plan_id]
            yield PlanSlice(plan=plan, tasks=tasks, edges=edges, attempts=tuple(live))

    def _over(self) -> list[AttemptRow]:
        """Return the attempts whose end is written."""
        return [row for token, row in self.attempts.items() if token not in self.leases]

    def _live(self, row: AttemptRow) -> LiveAttempt:
        return LiveAttempt(
            token=row.token,
            task_id=row.task_id,
            kind=row.kind,
            number=row.number,
            agent_type=row.agent_type,
            backend=row.backend,
            executor=row.executor,
            state=AttemptState.STARTED if row.has_result else row.state,
            cancel_reason=self.leases[row.token].cancel_reason or "",
            started_at_ms=row.started_at_ms or 0,
            reserved_micros=row.cost_micros if row.has_result else row.reserved_micros,
            end_reason=row.end_reason,
        )

    def controls_read(self) -> ControlsRead:
        """Return what people have set for everything, the circuit breakers, and what was spent."""
        spent, today = Counter[str](), 0
        midnight_ms = self.clock_ms() // _DAY_MS * _DAY_MS
        for row in self._over():
            micros = row.cost_micros + row.reserved_micros
            spent[row.tenant_id] += micros
            today += micros * ((row.ended_at_ms or 0) >= midnight_ms)
        breakers = tuple(self.breakers.values())
        return replace(self.controls, breakers=breakers, spent=spent, spent_today=today)

    def reports(self) -> list[AttemptStarted | AttemptEnded]:
        """Return the starts and results of attempts with a lease."""
        return [
            *(AttemptStarted(token=token) for token in self.started() & self.leases.keys()),
            *(self.result_of(token) for token in self.leases if self.attempts[token].has_result),
        ]

    def started(self) -> set[int]:
        """Return the tokens of the attempts that are at work, as far as the tables know."""
        return {token for token, row in self.attempts.items() if row.state is AttemptState.STARTED}

    def result_of(self, token: int) -> AttemptEnded:
        """Return the stored result of an attempt."""
        row = self.attempts[token]
        return AttemptEnded(
            token=token,
            state=row.state,
            failure_class=row.failure_class,
            summary=row.summary,
            cost_micros=row.cost_micros,
        )

    def beats(self) -> dict[int, int]:
        """Return the beats of all leases."""
        return {token: lease.beat for token, lease in self.leases.items()}

    # --- executors write

    def start(
        self, tokens: Sequence[int], *, executor: str, incarnation: str, node_id: str = ""
    ) -> list[AttemptRow]:
        """Store starts; return the attempts that this incarnation may work on."""
        for token in tokens:
            attempt = self.attempts.get(token)
            is_ours = attempt is not None and attempt.executor == executor
            if attempt is not None and is_ours and attempt.state is AttemptState.LEASED:
                self.attempts[token] = replace(
                    attempt,
                    state=AttemptState.STARTED,
                    started_at_ms=self.clock_ms(),
                    incarnation=incarnation,
                    node_id=node_id,
                )
        found = (self.attempts.get(token) for token in dict.fromkeys(tokens))
        return [
            row
            for row in found
            if row is not None and row.state is AttemptState.STARTED and row.incarnation == incarnation
        ]

    def feedback(self, attempt: AttemptRow) -> str:
        """Return what the work under review reported, or how the last attempt before this one failed."""
        is_review = attempt.kind is AttemptKind.REVIEW
        if attempt.number == 1 and not is_review:
            return ""
        told = {AttemptState.SUCCEEDED} if is_review else {AttemptState.FAILED, AttemptState.TIMED_OUT}
        before = [
            other
            for other in self.attempts.values()
            if other.task_id == attempt.task_id
            and other.token < attempt.token
            and other.state in told
            and (other.kind is AttemptKind.WORK or not is_review)
        ]
        last = max(before, key=lambda other: other.token, default=None)
        return "" if last is None else f"{last.summary}\n{last.detail}"

    def save_results(self, results: Sequence[tuple[int, Outcome]]) -> set[int]:
        """Store the results of started attempts, the first of each; return the tokens that have one."""
        for token, outcome in results:
            attempt = self.attempts.get(token)
            if attempt is not None and attempt.state is AttemptState.STARTED:
                self.attempts[token] = replace(
                    attempt,
                    state=outcome.state,
                    end_reason=REPORTED,
                    failure_class=outcome.failure_class,
                    summary=outcome.summary,
                    detail=outcome.detail,
                    cost_micros=outcome.usage.cost_micros,
                    reserved_micros=0,
                    ended_at_ms=self.clock_ms(),
                )
        found = {token: self.attempts.get(token) for token, _ in results}
        return {token for token, row in found.items() if row is not None and row.has_result}

    def renew(self, tokens: Sequence[int]) -> Mapping[int, str | None]:
        """Bump the beats; return the tokens that still have a lease, with the reason of a wish to cancel."""
        ours = [token for token in tokens if token in self.leases]
        for token in ours:
            self.leases[token] = replace(self.leases[token], beat=self.leases[token].beat + 1)
        return {token: self.leases[token].cancel_reason for token in ours}


_SCALARS = {"clock_ms", "term", "next_token", "controls"}
_CONTAINERS = [f.name for f in fields(MemoryTables) if f.name not in _SCALARS]


def _of(rows: Sequence[RowCommand], kind: type[_Row]) -> list[_Row]:
    return [row for row in rows if isinstance(row, kind)]
