"""The core, tables in memory and the reference model, kept in step and compared after every event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from orchestrator.core import events as e
from orchestrator.core import leases
from orchestrator.core.commands import Answer, Command, LeaseAttempt, ProveGone, RowCommand, SaveTask
from orchestrator.core.invariants import check_invariants
from orchestrator.core.limits import Bounds, Limits, Overrides
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.state import EVERYBODY, Policy
from orchestrator.core.task import MODEL_BACKENDS, Task
from orchestrator.core.words import FINISHED, AttemptState, FailureClass, HoldReason, PlanState, TaskState
from orchestrator.ports import Outcome
from tests.property.core.model import Model, Node, Plan
from tests.support.memory_tables import MemoryTables

POLICY = Policy(
    backoff_ms=(100, 200),
    rate_limited_backoff_ms=(50, 300, 700),
    lease_ms=1000,
    lease_grace_ms=100,
    start_timeout_ms=500,
    start_resend_ms=200,
    breaker_failures=2,
    breaker_open_ms=400,
)
LIMITS = e.LimitsSet(limits=Limits(sessions_max=5))
PATIENCE_MS = POLICY.lease_ms + POLICY.lease_grace_ms


@dataclass
class Rig:
    """One scheduler after the other over the same tables.

    Attributes:
        executors: pool and slots of those that live, by name.
        where: the executor of each live attempt.
        quiet_since_ms: when the scheduler last had a reason to think that an attempt lives.
        ended: what was said at the end of each attempt that is over.
        started: tokens whose start the scheduler has heard of.
        unproven: live attempts whose end is being looked into.
    """

    now_ms: int = 1_000_000
    tables: MemoryTables = field(default_factory=MemoryTables)
    limits: e.LimitsSet = LIMITS
    overrides: Overrides = field(default_factory=Overrides)
    executors: dict[str, tuple[str, int]] = field(default_factory=dict)
    where: dict[int, str] = field(default_factory=dict)
    leased_at_ms: dict[int, int] = field(default_factory=dict)
    quiet_since_ms: dict[int, int] = field(default_factory=dict)
    ended: dict[int, Outcome] = field(default_factory=dict)
    started: set[int] = field(default_factory=set)
    unproven: set[int] = field(default_factory=set)
    is_in_step: bool = True
    steps: int = 0

    def __post_init__(self) -> None:
        self.tables.clock_ms = lambda: self.now_ms
        self.model = Model(policy=POLICY, has_credentials=not self.limits.keyless)
        self._begin_term()

    def _begin_term(self) -> None:
        self.state = SchedulerState(policy=POLICY)
        self._batch = 0
        seen = self.tables.term.epoch if self.tables.term else 0
        epoch = self.tables.take_term(seen_epoch=seen, cluster_id="c", incarnation=f"i{seen}")
        assert epoch is not None
        self._epoch = epoch
        first, count = self.tables.reserve_tokens()
        self.handle(e.TokensReserved(first=first, count=count))
        self.handle(self.limits)
        self.handle(self.tables.controls_read())

    def crash(self, *, has_credentials: bool) -> None:
        """Lose the scheduler's memory and build it again from the tables, perhaps with other settings."""
        self._forget(has_credentials=has_credentials)
        self._recover()

    def _forget(self, *, has_credentials: bool) -> None:
        self.limits = replace(self.limits, keyless=frozenset() if has_credentials else MODEL_BACKENDS)
        for task_id, node in self.model.nodes.items():  # the row of a task tells of a back-off that is over
            not_before_ms = self.tables.tasks[task_id].not_before_ms
            is_right = not_before_ms == node.not_before_ms if node.backs_off else not_before_ms <= self.now_ms
            assert is_right, f"the row of {node} has a back-off until {not_before_ms}"
            node.backs_off, node.not_before_ms, node.is_timed = not_before_ms > 0, not_before_ms, False
        self.model.start_again(has_credentials=has_credentials)

    def _recover(self) -> None:
        self.model.settle()
        self._begin_term()
        self.unproven.clear()
        for moments in (self.leased_at_ms, self.quiet_since_ms):
            moments.update(dict.fromkeys(moments, self.now_ms))
        for plan_id in self.tables.unfinished_plans():
            self.load(plan_id)
        known, self.executors = self.executors, {}
        for name, (pool, slots) in known.items():  # what has not come yet has no free slots
            self.executors[name] = (pool, slots)
            self.handle(e.ExecutorJoined(executor=name, agent_type=pool, slots=slots))
        self.handle(e.ExecutorsListed(alive=frozenset(self.executors)))
        self.model.pass_time(self.now_ms)
        self.step(e.Tick())

    def load(self, plan_id: int) -> None:
        """Have a plan in memory, as the driver does."""
        if plan_id in self.state.plans:
            return
        plan = self.model.plans[plan_id]
        plan.ran = 0
        if plan.state is PlanState.ACTIVE:
            self.model.join(plan)
        attempts: tuple[e.LiveAttempt, ...] = ()
        for part in self.tables.load_plan(plan_id, slice_size=3):
            self.handle(e.PlanSliceLoaded(plan=part.plan, tasks=part.tasks, edges=part.edges))
            attempts = part.attempts
        self.handle(e.PlanLoaded(plan_id=plan_id, attempts=attempts))

    def step(self, event: AnyEvent) -> Answer | None:
        """Handle an event whose effect the model knows by now, then compare; return the answer, if any."""
        self.model.settle()
        self.is_in_step = False
        commands = self.handle(event)
        self.compare()
        self.is_in_step = True
        return next((c for c in commands if isinstance(c, Answer)), None)

    def handle(self, event: AnyEvent) -> list[Command]:
        """Let the core handle an event, commit, and judge what it ordered."""
        self.steps += 1
        commands = self.state.handle(event, at_ms=self.now_ms)
        self._batch += 1
        self.tables.commit(self._epoch, self._batch, [c for c in commands if isinstance(c, RowCommand)])
        check_invariants(self.state)
        for command in commands:
            match command:
                case LeaseAttempt():
                    self._judge_lease(command)
                case ProveGone():
                    self._judge_proof(command)
                case SaveTask():
                    self._take_row(command)
        self.model.note_idle()
        return commands

    # What happens.

    def submit(self, spec: e.PlanSpec, tasks: Sequence[Task], edges: Sequence[tuple[int, int]]) -> None:
        """Store a plan, and have it taken."""
        self.tables.add_plan(spec, tasks, edges)
        plan = self.model.plans[spec.plan_id] = Plan(
            spec=spec, until=spec.until_task, budget=spec.budget_micros
        )
        for task in tasks:
            needs = frozenset(on for task_id, on in edges if task_id == task.task_id)
            self.model.nodes[task.task_id] = Node(
                spec=replace(task), plan=plan, needs=needs, holds=task.hold_when_ready
            )
        self.model.settle()
        self.load(spec.plan_id)
        self.compare()

    def join(self, name: str, pool: str, slots: int) -> None:
        """An executor joins."""
        self.executors[name] = (pool, slots)
        self.step(e.ExecutorJoined(executor=name, agent_type=pool, slots=slots))

    def start(self, token: int) -> None:
        """An executor stores a start, and says so."""
        self.tables.start([token], executor=self.where[token], incarnation="i")
        self.unproven.discard(token)
        if token not in self.started:
            self.quiet_since_ms[token] = self.now_ms
        self.started.add(token)
        self.step(e.AttemptStarted(token=token))

    def end(self, node: Node, outcome: Outcome) -> None:
        """An executor stores a result, and says so."""
        token = node.token
        self.tables.start([token], executor=self.where[token], incarnation="i")
        self.tables.save_results([(token, outcome)])
        self.model.end(
            node, outcome.state, outcome.failure_class, now_ms=self.now_ms, cost=outcome.usage.cost_micros
        )
        self.ended[token] = outcome
        self.step(_ended(token, outcome))

    def lose(self, node: Node, reason: str, *, is_heard: bool) -> None:
        """An attempt is fenced for good; if the scheduler does not hear of it, that is because it dies."""
        token = node.token
        cost = node.reserved if token in self.started else 0  # nobody knows: all of it may be spent
        self.tables.fate(token, may_fence=True, reason=reason)
        if not is_heard:
            self._forget(has_credentials=self.model.has_credentials)
        if reason == leases.TIMED_OUT:
            self.model.end(node, AttemptState.TIMED_OUT, None, now_ms=self.now_ms, cost=cost)
        elif reason.endswith(leases.UNPROVEN):
            self.model.lose_unproven(node, now_ms=self.now_ms, cost=cost)
        else:
            lost = (AttemptState.LOST, FailureClass.INFRASTRUCTURE)
            self.model.end(node, *lost, now_ms=self.now_ms, cost=cost)
        self.ended[token] = Outcome(state=AttemptState.SUCCEEDED)
        if is_heard:
            self.step(e.AttemptLost(token=token, reason=reason))
        else:
            self._recover()

    def report_late(self, token: int, kind: str) -> None:
        """Say something about an attempt that is over: nothing comes of it."""
        late: dict[str, AnyEvent] = {
            "start": e.AttemptStarted(token=token),
            "end": _ended(token, self.ended[token]),
            "loss": e.AttemptLost(token=token, reason=leases.LEASE_EXPIRED),
        }
        assert self.handle(late[kind]) == []

    def beat(self, tokens: Sequence[int]) -> None:
        """Some leases are renewed; the scheduler reads the beats."""
        self.tables.renew(tokens)
        self.quiet_since_ms.update(dict.fromkeys(tokens, self.now_ms))
        self.step(e.BeatsRead(beats=self.tables.beats()))

    def wait(self, ms: int) -> None:
        """Time passes; finished plans leave memory."""
        self.now_ms += ms
        self.model.pass_time(self.now_ms)
        self.step(e.Tick())

    def hang(self, ms: int) -> None:
        """Time passes while the database hangs: it counts for no attempt."""
        self.now_ms += ms
        for moments in (self.leased_at_ms, self.quiet_since_ms):
            moments.update({token: at_ms + ms for token, at_ms in moments.items()})
        self.step(e.DatabaseHung(for_ms=ms))

    def set_limits(self, overrides: Overrides) -> None:
        """Somebody changes how much may run at once."""
        self.overrides = self.overrides.merged(overrides)
        answer = self.step(
            e.Requested(request_id=1, kind="set_limits", tenant_id=EVERYBODY, overrides=overrides)
        )
        assert answer is not None
        assert not answer.error

    def pause_all(self, *, is_paused: bool) -> None:
        """Somebody stops everything, or lets it go on."""
        self.model.is_paused = is_paused
        kind = "pause_all" if is_paused else "resume_all"
        self.step(e.Requested(request_id=1, kind=kind, tenant_id=EVERYBODY))

    def find_credentials(self) -> None:
        """Let what needs a model run from now on."""
        self.limits = replace(self.limits, keyless=frozenset())
        self.model.find_credentials()
        self.step(self.limits)

    def ask(
        self, kind: str, plan: Plan, *, task_id: int = 0, until_task: int = 0, budget_micros: int = 0
    ) -> None:
        """Ask for something: it is granted exactly when the model says so."""
        self.load(plan.spec.plan_id)
        request = e.Requested(
            request_id=1,
            kind=kind,
            tenant_id=plan.spec.tenant_id,
            plan_id=plan.spec.plan_id,
            task_id=task_id,
            reason="by request",
            until_task=until_task,
            budget_micros=budget_micros,
        )
        if task_id:
            is_granted = getattr(self.model, kind)(task_id)
        elif kind == "resume_plan":
            is_granted = self.model.resume_plan(plan, until_task)
        elif kind == "set_budget":
            is_granted = self.model.set_budget(plan, budget_micros)
        else:
            is_granted = getattr(self.model, kind)(plan)
        answer = self.step(request)
        assert answer is not None
        assert is_granted == (not answer.error), f"{kind}: {answer}"

    # Judging.

    def _judge_lease(self, lease: LeaseAttempt) -> None:
        node = self.model.nodes[lease.task_id]
        assert self.model.may_start(node), f"{lease} of {node}"
        assert lease.reserved_micros == self.model.share(node), f"{lease} is beyond the budget"
        assert self._is_open(node), f"{lease} is beyond a limit"
        assert lease.agent_type == node.pool
        assert lease.executor in self._free(node.pool), f"{lease} on a full executor"
        for other in self._next():
            if self._is_open(other) and self._free(other.pool):
                first = (self.model.turn(other), other.order)
                assert (self.model.turn(node), node.order) <= first, f"{lease} before {other}"
        self.model.lease(node, lease.token)
        self.where[lease.token] = lease.executor
        self.leased_at_ms[lease.token] = self.quiet_since_ms[lease.token] = self.now_ms

    def _judge_proof(self, proof: ProveGone) -> None:
        for token in proof.tokens:
            assert token not in self.unproven, f"{proof} is asked twice"
            quiet_ms = self.now_ms - self.quiet_since_ms[token]
            waited_ms = self.now_ms - self.leased_at_ms[token]
            match proof.reason:
                case leases.LEASE_EXPIRED:
                    assert quiet_ms >= PATIENCE_MS, f"{proof} after {quiet_ms} ms"
                case leases.START_TIMEOUT:
                    assert waited_ms >= POLICY.start_timeout_ms, f"{proof} after {waited_ms} ms"
                    assert token not in self.started, f"{proof} of one that started"
                case leases.TIMED_OUT:
                    assert token in self.started, f"{proof} of one that did not start"
                case _:
                    assert proof.reason == leases.EXECUTOR_LOST
                    assert proof.executor not in self.executors, f"{proof} of one that lives"
            self.unproven.add(token)

    def _take_row(self, row: SaveTask) -> None:
        """Learn what the model leaves open: how long a back-off is, and what the budget holds."""
        node = self.model.nodes[row.task_id]
        if node.backs_off and not node.not_before_ms:
            delays_ms = POLICY.rate_limited_backoff_ms if node.rate_limits else POLICY.backoff_ms
            number = min(node.rate_limits or node.tries, len(delays_ms))
            delay_ms, base_ms = row.not_before_ms - self.now_ms, delays_ms[number - 1]
            assert abs(delay_ms - base_ms) <= base_ms * POLICY.jitter, f"back-off of {delay_ms} ms"
            node.not_before_ms = row.not_before_ms
        is_budget = row.state is TaskState.HELD and row.reason == HoldReason.BUDGET.value
        if is_budget and node.state is TaskState.READY:
            assert not self.model.is_affordable(node), f"{row} within the budget"
            node.move(TaskState.HELD, row.reason)
            self.model.settle()

    def compare(self) -> None:
        """All stands where the model has it, in memory and in the tables, and nothing waits in vain."""
        for task_id, node in self.model.nodes.items():
            row = self.tables.tasks[task_id]
            _same(f"row of task {task_id}", row.state, node.state)
            if node.state is TaskState.HELD:
                _same(f"hold of task {task_id}", row.reason, node.reason)
            if node.plan.spec.plan_id in self.state.plans:
                task = self.state.tasks[task_id]
                _same(f"task {task_id}", (task.state, task.token), (node.state, node.token))
        for plan_id, plan in self.model.plans.items():
            _same(f"row of plan {plan_id}", self.tables.plans[plan_id].state, plan.state)
            if plan_id not in self.state.plans:
                assert plan.state in FINISHED
                assert not [node for node in self.model.live() if node.plan is plan]
                plan.ran = 0  # what left memory is no measure for those who come
            else:
                _same(f"plan {plan_id}", self.state.plans[plan_id].state, plan.state)
        _same("live attempts", set(self.state.attempts), {node.token for node in self.model.live()})
        left = [n for n in self._next() if self._is_open(n) and self._free(n.pool)]
        assert not left, f"nothing starts task {left[0].task_id}"

    def _next(self) -> list[Node]:
        """The task of each plan and pool that must start before the others there."""
        found: dict[tuple[int, str], Node] = {}
        parked = set()
        for node in sorted(filter(self.model.may_start, self.model.nodes.values()), key=lambda n: n.order):
            queue = node.plan.spec.plan_id, node.pool
            if not self.model.is_affordable(node):
                if self.model.reserved(node.plan):
                    parked.add(queue)  # until what is live has settled
            elif queue not in parked:
                found.setdefault(queue, node)
        return list(found.values())

    def _is_open(self, node: Node) -> bool:
        """No limit is reached."""
        live, bounds = self.model.live(), Bounds(limits=self.limits.limits, overrides=self.overrides)
        tenant_id, plan_id = node.plan.spec.tenant_id, node.plan.spec.plan_id
        return (
            len(live) < bounds.total
            and sum(n.pool == node.pool for n in live) < bounds.of_pool(node.pool)
            and sum(n.plan.spec.tenant_id == tenant_id for n in live) < bounds.of_tenant(tenant_id)
            and sum(n.plan is node.plan for n in live) < bounds.of_plan(plan_id)
        )

    def _free(self, pool: str) -> list[str]:
        """The executors of a pool with a free slot."""
        used = Counter(self.where[node.token] for node in self.model.live())
        return [name for name, (of, slots) in self.executors.items() if of == pool and used[name] < slots]


def _same(what: str, core: object, model: object) -> None:
    assert core == model, f"{what}: the core has {core}, the model {model}"


def _ended(token: int, outcome: Outcome) -> e.AttemptEnded:
    return e.AttemptEnded(
        token=token,
        state=outcome.state,
        failure_class=outcome.failure_class,
        summary=outcome.summary,
        cost_micros=outcome.usage.cost_micros,
    )
