"""A reference model of the scheduling core: the same decisions, made the slow and obvious way.

It keeps no counter, queue, version or timer: every question is answered by looking at all the tasks. It does
not choose what starts; it judges what the core has chosen, and tells what the core must not have left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.core import events as e
from orchestrator.core.state import Policy
from orchestrator.core.task import Task
from orchestrator.core.words import AttemptState, BreakerState, FailureClass, HoldReason, PlanState, TaskState

T = TaskState
P = PlanState
F = FailureClass

CLOSED = {T.DONE, T.CANCELLED, T.SKIPPED}
SATISFIED = {T.DONE, T.SKIPPED}
STARTABLE = {T.READY, T.VERIFYING}
CHARGED = {F.AGENT, F.GATE, F.CONFLICT, F.PLAN_DEFECT, F.TIMEOUT}
LOSSES = {F.INFRASTRUCTURE, F.WORKSPACE}
NO_VERDICT = {F.AGENT, F.CONFLICT, F.TIMEOUT}  # of a review: the reviewer's fault, counted as a loss
LEAST_MICROS = 50_000
BLAMED = {F.AGENT, F.TIMEOUT}  # what a breaker counts


@dataclass(kw_only=True, eq=False)
class Plan:
    """A plan; `until` is the only task that is wanted, 0 = all.

    It is idle if nothing of it was live and nothing could start after the last event.
    """

    spec: e.PlanSpec
    state: PlanState = P.ACTIVE
    until: int = 0
    spent: int = 0
    budget: int = 0
    ran: int = 0
    is_idle: bool = True


@dataclass(kw_only=True, eq=False, repr=False)
class Node:
    """A task. `holds` is cleared when a person lets it through; `token` is its live attempt or 0.

    In back-off, `rate_limits` or else `tries` tells the failures that its length depends on. A back-off is
    timed from when the task could start but for it, which a scheduler that recovers finds out anew; it ends
    with a tick.
    """

    spec: Task
    plan: Plan
    needs: frozenset[int]
    state: TaskState = T.WAITING
    reason: str = ""
    holds: HoldReason | None = None
    charged: int = 0
    losses: int = 0
    backs_off: bool = False
    not_before_ms: int = 0
    is_timed: bool = False
    tries: int = 0
    rate_limits: int = 0
    token: int = 0
    reserved: int = 0
    cancel_reason: str = ""
    stage: str = "work"  # what its next attempt is

    def __repr__(self) -> str:
        return f"<task {self.task_id}, {self.state.value} in a plan that is {self.plan.state.value}>"

    @property
    def task_id(self) -> int:
        """The task."""
        return self.spec.task_id

    @property
    def is_model_task(self) -> bool:
        """Its work cannot be done without a model, and costs money."""
        return self.spec.backend == "anthropic"

    @property
    def has_review(self) -> bool:
        """Another agent type judges the work."""
        return self.spec.rules.review_agent != ""

    @property
    def pool(self) -> str:
        """Who runs its next attempt."""
        if self.stage == "work":
            return self.spec.agent_type
        return self.spec.rules.review_agent if self.stage == "review" else "gate"

    @property
    def order(self) -> tuple[int, int]:
        """The smallest goes first in its plan."""
        return self.spec.priority, -self.spec.rank

    def move(self, state: TaskState, reason: str = "") -> None:
        """Go there."""
        self.state, self.reason = state, reason


@dataclass(kw_only=True)
class Breaker:
    """A circuit breaker; `failed` are tasks, `probe` is a token."""

    state: BreakerState = BreakerState.CLOSED
    failed: set[int] = field(default_factory=set)
    opened_at_ms: int = 0
    probe: int = 0


@dataclass(kw_only=True)
class Model:
    """Everything that is known; requests, reports and `settle` change it.

    `tenants` counts what each has run.
    """

    policy: Policy
    has_credentials: bool
    is_paused: bool = False
    plans: dict[int, Plan] = field(default_factory=dict)
    nodes: dict[int, Node] = field(default_factory=dict)
    breakers: dict[str, Breaker] = field(default_factory=dict)
    tenants: Counter[str] = field(default_factory=Counter)

    # What follows from what.

    def live(self) -> list[Node]:
        """The tasks with a live attempt."""
        return [node for node in self.nodes.values() if node.token]

    def leaves(self, plan: Plan, *, wanted: bool = False) -> list[Node]:
        """The leaves of a plan, in order; `wanted`: only those it was last asked for."""
        scope = self._scope(plan) if wanted and plan.until else None
        nodes = (n for n in self.nodes.values() if n.plan is plan and not n.spec.is_container)
        return [n for n in nodes if scope is None or n.task_id in scope]

    def below(self, task_id: int) -> list[Node]:
        """The leaves of a task, itself if it is one."""
        node = self.nodes[task_id]
        if not node.spec.is_container:
            return [node]
        return [leaf for child in self._children(task_id) for leaf in self.below(child.task_id)]

    def _children(self, task_id: int) -> list[Node]:
        return [node for node in self.nodes.values() if node.spec.parent_id == task_id]

    def _scope(self, plan: Plan) -> set[int]:
        found, front = {plan.until}, [plan.until]
        while front:
            task_id = front.pop()
            needed = self.nodes[task_id].needs | {child.task_id for child in self._children(task_id)}
            front += needed - found
            found |= needed
        return found

    def is_met(self, node: Node) -> bool:
        """Every dependency is done, or was given up on."""
        return all(self.nodes[on].state in SATISFIED for on in node.needs)

    def may_start(self, node: Node) -> bool:
        """The task wants an attempt, whatever the limits say."""
        is_open = node.plan.state is P.ACTIVE and not self.is_paused and not self._is_shut(node.pool)
        return is_open and self._is_next(node) and node in self.leaves(node.plan, wanted=True)

    @staticmethod
    def _is_next(node: Node) -> bool:
        return node.state in STARTABLE and not node.token and not node.backs_off

    def is_affordable(self, node: Node) -> bool:
        """The budget of its plan allows one attempt more."""
        return self.share(node) is not None

    def share(self, node: Node) -> int | None:
        """What the attempt may spend: its cap, or what is left if nobody else gives anything back."""
        if not node.is_model_task or node.state is T.VERIFYING:
            return 0
        return self._bears(node.plan)

    def _bears(self, plan: Plan) -> int | None:
        cap, left = self.policy.attempt_cost_micros, plan.budget - plan.spent - self.reserved(plan)
        if not plan.budget or left >= cap:
            return cap
        return left if left >= LEAST_MICROS and not self.reserved(plan) else None

    def _is_shut(self, pool: str) -> bool:
        breaker = self.breakers.get(pool, Breaker())
        is_probed = breaker.state is BreakerState.HALF_OPEN and breaker.probe != 0
        return breaker.state is BreakerState.OPEN or is_probed

    def reserved(self, plan: Plan) -> int:
        """What the live attempts of a plan may yet cost."""
        return sum(node.reserved for node in self.live() if node.plan is plan)

    # What happens.

    def settle(self) -> None:
        """Draw every consequence: roll up containers, let go what waits, notice the ends of plans."""
        while self._roll_up() or self._let_go():
            pass
        for plan in self.plans.values():
            self._settle_plan(plan)
            for node in self.leaves(plan, wanted=True):
                node.is_timed |= node.backs_off and node.state in STARTABLE and not node.token
            if plan.state is P.ACTIVE and plan.is_idle and self._has_next(plan):
                self.join(plan)

    def note_idle(self) -> None:
        """An event is over: see which plans have nothing that runs or could."""
        for plan in self.plans.values():
            is_live = any(node.plan is plan for node in self.live())
            plan.is_idle = not is_live and not self._has_next(plan)

    def _has_next(self, plan: Plan) -> bool:
        return any(map(self._is_next, self.leaves(plan, wanted=True)))

    def _roll_up(self) -> bool:
        moved = False
        for node in [n for n in self.nodes.values() if n.spec.is_container]:
            states = {child.state for child in self._children(node.task_id)}
            new = T.WAITING if states - CLOSED else _rolled_up(states)
            moved |= new is not node.state
            node.state = new
        return moved

    def _let_go(self) -> bool:
        leaves = [n for n in self.nodes.values() if not n.spec.is_container]
        free = [n for n in leaves if n.state is T.WAITING and self.is_met(n)]
        recalled = [n for n in leaves if n.state is T.READY and not self.is_met(n)]
        for node in free:
            self._make_ready(node)
        for node in recalled:
            node.move(T.WAITING)
        return bool(free or recalled)

    def _make_ready(self, node: Node) -> None:
        if node.holds is not None:
            node.move(T.HELD, node.holds.value)
        elif node.is_model_task and not self.has_credentials:
            node.move(T.HELD, f"{HoldReason.NO_CREDENTIALS}: anthropic")
        else:
            node.move(T.READY if node.stage == "work" else T.VERIFYING)

    def _settle_plan(self, plan: Plan) -> None:
        leaves = self.leaves(plan, wanted=True)
        if plan.state is not P.ACTIVE or any(n.token for n in self.live() if n.plan is plan):
            return
        if all(n.state in CLOSED for n in leaves):
            plan.state = P.PAUSED if plan.until else P.DONE
        elif not any(n.state in {T.READY, T.RUNNING, T.VERIFYING} for n in leaves):
            plan.state = P.STALLED

    def join(self, plan: Plan) -> None:
        """A plan that comes, or comes back, starts level with those at work; if none is, with all."""
        plan.is_idle = False
        tenant_id = plan.spec.tenant_id
        others = [p for p in self.plans.values() if p is not plan]
        at_work = [p for p in others if p.state is P.ACTIVE and not p.is_idle]
        same = [p.ran for p in at_work if p.spec.tenant_id == tenant_id]
        beside = [p.ran for p in others if p.spec.tenant_id == tenant_id]
        plan.ran = max(plan.ran, min(same) if same else max(beside, default=0))
        if not same:
            turns = [self.tenants[p.spec.tenant_id] for p in at_work]
            level = min(turns) if turns else max(self.tenants.values(), default=0)
            self.tenants[tenant_id] = max(self.tenants[tenant_id], level)

    def turn(self, node: Node) -> tuple[int, str, int, int]:
        """The smallest is next: whoever has run least, first among tenants, then among their plans."""
        plan = node.plan
        tenant_id = plan.spec.tenant_id
        return self.tenants[tenant_id], tenant_id, plan.ran, plan.spec.plan_id

    def lease(self, node: Node, token: int) -> None:
        """The core leased an attempt."""
        node.reserved = self.share(node) or 0
        node.token, node.cancel_reason = token, ""
        breaker = self.breakers.get(node.pool)
        if breaker is not None and breaker.state is BreakerState.HALF_OPEN:
            breaker.probe = token
        node.plan.ran += 1
        self.tenants[node.plan.spec.tenant_id] += 1
        if node.state is T.READY:
            node.move(T.RUNNING)

    def end(
        self, node: Node, state: AttemptState, failure: FailureClass | None, *, now_ms: int, cost: int = 0
    ) -> None:
        """An attempt ended: reported, or lost."""
        if state is AttemptState.TIMED_OUT:
            failure = failure or F.TIMEOUT
        elif state is AttemptState.FAILED:
            failure = failure or F.AGENT
        self._note_outcome(node, state, failure, now_ms=now_ms)
        node.token, is_work = 0, node.state is T.RUNNING
        node.plan.spent += cost
        more_gate = is_work and node.spec.has_gate
        more_review = node.has_review and node.stage != "review"
        if state is AttemptState.SUCCEEDED and not (node.cancel_reason and (more_gate or more_review)):
            node.losses = node.rate_limits = 0
            if more_gate or more_review:
                node.stage = "gate" if more_gate else "review"
                node.move(T.VERIFYING)
            else:
                self._finish(node)
        elif node.cancel_reason:
            node.move(T.CANCELLED, node.cancel_reason)
        elif failure is not None:
            self._fail(node, failure)
        elif is_work:  # stopped with its executor: again at once; what verifies stays as it is
            self._make_ready(node)

    def _finish(self, node: Node) -> None:
        node.losses, node.rate_limits, node.backs_off = 0, 0, False
        node.move(T.DONE)

    def _note_outcome(
        self, node: Node, state: AttemptState, failure: FailureClass | None, *, now_ms: int
    ) -> None:
        if node.pool == "gate":
            return
        breaker = self.breakers.setdefault(node.pool, Breaker())
        is_probe = breaker.probe == node.token
        breaker.probe = 0 if is_probe else breaker.probe
        if state is AttemptState.SUCCEEDED:
            breaker.failed.clear()
            breaker.state = BreakerState.CLOSED if is_probe else breaker.state
        elif failure in BLAMED and state is not AttemptState.LOST:
            breaker.failed.add(node.task_id)
            is_tripped = len(breaker.failed) >= self.policy.breaker_failures
            if is_probe or (is_tripped and breaker.state is BreakerState.CLOSED):
                breaker.state, breaker.opened_at_ms = BreakerState.OPEN, now_ms

    def lose_unproven(self, node: Node, *, now_ms: int, cost: int) -> None:
        """Nobody could prove that a lost attempt is gone: a person decides."""
        self._note_outcome(node, AttemptState.LOST, F.INFRASTRUCTURE, now_ms=now_ms)
        node.token = 0
        node.plan.spent += cost
        node.losses += 1
        if node.cancel_reason:
            node.move(T.CANCELLED, node.cancel_reason)
        else:
            node.move(T.HELD, HoldReason.CANNOT_PROVE_DEAD.value)

    def _fail(self, node: Node, failure: FailureClass) -> None:
        is_no_verdict = node.stage == "review" and failure in NO_VERDICT
        is_charged = failure in CHARGED and not is_no_verdict
        is_loss = failure in LOSSES or is_no_verdict
        node.charged += is_charged
        node.stage = "work" if is_charged else node.stage
        node.losses = node.losses + 1 if is_loss else 0
        node.rate_limits = node.rate_limits + 1 if failure is F.RATE_LIMITED else 0
        if node.losses >= self.policy.losses_max:
            node.move(T.HELD, HoldReason.POISON.value)
        elif failure is F.BUDGET:
            is_its_own = self._bears(node.plan) is not None
            node.move(T.HELD, (HoldReason.ATTEMPT_BUDGET if is_its_own else HoldReason.BUDGET).value)
        elif failure is F.PLAN_DEFECT or node.charged >= node.spec.rules.attempts_max:
            node.move(T.FAILED, "said so")
        else:
            node.backs_off, node.not_before_ms, node.is_timed = True, 0, False
            node.tries = node.losses if is_loss else node.charged
            if node.state is not T.VERIFYING or is_charged:
                self._make_ready(node)

    # What people ask for. Each returns whether it must be granted; refused, it changes nothing.

    def cancel_task(self, task_id: int) -> bool:
        """Cancel what is open; what is live only when its attempt has ended."""
        leaves = [leaf for leaf in self.below(task_id) if leaf.state not in CLOSED]
        for leaf in leaves:
            self._cancel(leaf)
        if leaves:
            self._wake(leaves[0].plan)
        return bool(leaves)

    def _cancel(self, node: Node) -> None:
        if node.token:
            node.cancel_reason = node.cancel_reason or "by request"
        else:
            node.move(T.CANCELLED, "by request")

    def _wake(self, plan: Plan) -> None:
        if plan.state in {P.STALLED, P.DONE}:
            self._activate(plan)

    def _activate(self, plan: Plan) -> None:
        plan.state = P.ACTIVE
        self.join(plan)

    def skip_task(self, task_id: int) -> bool:
        """Give up on what is open."""
        return self._close(task_id, lambda node: node.move(T.SKIPPED))

    def finish_task(self, task_id: int) -> bool:
        """Take what is open as done."""
        return self._close(task_id, self._finish)

    def _close(self, task_id: int, close: Callable[[Node], None]) -> bool:
        leaves = [leaf for leaf in self.below(task_id) if leaf.state not in CLOSED]
        if not leaves or any(leaf.token for leaf in leaves):
            return False
        self._wake(leaves[0].plan)
        for leaf in leaves:
            close(leaf)
        return True

    def retry_task(self, task_id: int) -> bool:
        """Give what failed or was cancelled its attempts back."""
        return self._restart(task_id, {T.FAILED, T.CANCELLED, T.SKIPPED})

    def reopen_task(self, task_id: int) -> bool:
        """Have what is done done again."""
        return self._restart(task_id, {T.DONE})

    def _restart(self, task_id: int, states: set[TaskState]) -> bool:
        leaves = [n for n in self.below(task_id) if n.state in states]
        if not leaves or leaves[0].plan.state is P.CANCELLED or any(map(self._is_relied_on, leaves)):
            return False
        self._wake(leaves[0].plan)
        for leaf in leaves:
            leaf.stage = "work"
            self._again(leaf)
        return True

    def _is_relied_on(self, node: Node) -> bool:
        """A session works on something that needs it, or a container it is in, as it is."""
        relying = [n for n in self.live() if node.task_id in n.needs]
        parent = self.nodes.get(node.spec.parent_id)
        is_above = parent is not None and self._is_relied_on(parent)
        return (node.state in SATISFIED and bool(relying)) or is_above

    def hold_task(self, task_id: int) -> bool:
        """Keep what has not started from starting."""
        leaves = [n for n in self.below(task_id) if n.state in {T.WAITING, T.READY}]
        for leaf in leaves:
            leaf.move(T.HELD, HoldReason.BY_REQUEST.value)
        return bool(leaves)

    def _again(self, node: Node) -> None:
        node.charged = node.losses = node.rate_limits = 0
        node.backs_off = False
        if self.is_met(node):
            self._make_ready(node)
        else:
            node.move(T.WAITING)

    def release_task(self, task_id: int) -> bool:
        """Let a held task go on, or what is held in a container; what a person does by hand is done."""
        node = self.nodes[task_id]
        if node.spec.is_container:
            return self._release_all_in(node)
        lacks = node.reason.startswith(HoldReason.NO_CREDENTIALS) and not self.has_credentials
        if node.state is not T.HELD or lacks:
            return False
        self._wake(node.plan)
        if node.reason == HoldReason.MANUAL.value:
            self._finish(node)
        else:
            if node.reason == node.holds:
                node.holds = None
            self._again(node)
        return True

    def _release_all_in(self, box: Node) -> bool:
        by_request = (T.HELD, HoldReason.BY_REQUEST.value)
        held = [leaf for leaf in self.below(box.task_id) if (leaf.state, leaf.reason) == by_request]
        if held:
            self._wake(box.plan)
        for leaf in held:
            self._again(leaf)
        return bool(held)

    def approve_task(self, task_id: int) -> bool:
        """A person says yes."""
        return self._awaits_approval(task_id) and self.release_task(task_id)

    def reject_task(self, task_id: int) -> bool:
        """A person says no."""
        if self._awaits_approval(task_id):
            self._wake(self.nodes[task_id].plan)
            self.nodes[task_id].move(T.FAILED)
            return True
        return False

    def _awaits_approval(self, task_id: int) -> bool:
        node = self.nodes[task_id]
        return node.state is T.HELD and node.reason == HoldReason.APPROVAL.value

    def cancel_plan(self, plan: Plan) -> bool:
        """Cancel all of it; twice is as good as once."""
        if plan.state is P.DONE:
            return False
        if plan.state is not P.CANCELLED:
            plan.state = P.CANCELLED
            for leaf in self.leaves(plan):
                if leaf.state not in CLOSED:
                    self._cancel(leaf)
        return True

    def pause_plan(self, plan: Plan) -> bool:
        """Start nothing more."""
        if plan.state not in {P.ACTIVE, P.STALLED, P.PAUSED}:
            return False
        plan.state = P.PAUSED
        return True

    def resume_plan(self, plan: Plan, until: int) -> bool:
        """Go on with what is wanted now, and give the dead letters in it another chance."""
        if plan.state is P.CANCELLED:
            return False
        plan.until = until
        if plan.state in {P.PAUSED, P.STALLED}:
            self._activate(plan)
        for leaf in self.leaves(plan, wanted=True):
            if leaf.state is T.FAILED:
                self._again(leaf)
        return True

    def set_budget(self, plan: Plan, micros: int) -> bool:
        """Change what a plan may spend; what was held for the want of it goes on."""
        plan.budget = micros
        if plan.state not in {P.DONE, P.CANCELLED}:
            self._release_holds(HoldReason.BUDGET, [plan])
        return True

    def find_credentials(self) -> None:
        """Let go what waits for them."""
        self.has_credentials = True
        self._release_holds(HoldReason.NO_CREDENTIALS, list(self.plans.values()))

    def _release_holds(self, reason: HoldReason, plans: list[Plan]) -> None:
        for node in self.nodes.values():
            if node.plan in plans and node.state is T.HELD and node.reason.partition(": ")[0] == reason.value:
                self._wake(node.plan)
                node.backs_off = False
                if self.is_met(node):
                    self._make_ready(node)
                else:
                    node.move(T.WAITING)

    def pass_time(self, now_ms: int) -> None:
        """Let go whose back-off is over, and let probes through."""
        for node in self.nodes.values():
            if node.is_timed and node.not_before_ms <= now_ms:
                node.backs_off = node.is_timed = False
        for breaker in self.breakers.values():
            is_over = now_ms - breaker.opened_at_ms >= self.policy.breaker_open_ms
            if breaker.state is BreakerState.OPEN and is_over:
                breaker.state = BreakerState.HALF_OPEN

    def start_again(self, *, has_credentials: bool) -> None:
        """The scheduler starts, perhaps with other credentials."""
        self.has_credentials = has_credentials
        self.tenants.clear()
        for plan in self.plans.values():
            plan.ran, plan.is_idle = 0, True
        for breaker in self.breakers.values():
            is_shut = breaker.state is not BreakerState.CLOSED
            breaker.state = BreakerState.OPEN if is_shut else BreakerState.CLOSED
            breaker.probe = 0
            breaker.failed.clear()
        for node in self.nodes.values():
            node.rate_limits = 0
            if node.state is T.READY:
                self._make_ready(node)
        if has_credentials:
            self.find_credentials()


def _rolled_up(states: set[TaskState]) -> TaskState:
    return T.DONE if T.DONE in states else T.SKIPPED if T.SKIPPED in states else T.CANCELLED
