"""The shipped core against the reference model: any events in any order, and crashes in between.

In each step the core handles one event and its rows are committed to tables in memory. Then every task and
plan must stand where the model has it, whatever was leased might start with nothing better passed over, and
nothing that might start is left waiting.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from orchestrator.core import events as e
from orchestrator.core import leases
from orchestrator.core.limits import Overrides
from orchestrator.core.task import TaskRules
from orchestrator.core.words import AttemptState, FailureClass, HoldReason, PlanState
from orchestrator.ports import Outcome, Usage
from tests.property.core.model import Node
from tests.property.core.rig import Rig
from tests.support.core import spec

LOSSES = [
    leases.START_TIMEOUT,
    leases.EXECUTOR_LOST,
    leases.LEASE_EXPIRED + leases.UNPROVEN,
    leases.TIMED_OUT,
]
ASKED_OF_TASKS = (
    "cancel_task",
    "skip_task",
    "finish_task",
    "retry_task",
    "reopen_task",
    "hold_task",
    "release_task",
    "approve_task",
    "reject_task",
)
TENANTS = ("x", "y")
#: Events that the core handled, by history.
STEPS: list[int] = []
POOLS = ("coder", "tester", "gate")
ENDS = {
    "success": AttemptState.SUCCEEDED,
    "failure": AttemptState.FAILED,
    "timeout": AttemptState.TIMED_OUT,
    "stop": AttemptState.INTERRUPTED,
}
LEAVES = st.fixed_dictionaries(
    {
        "is_inside": st.booleans(),
        "needs": st.sets(st.integers(1, 4), max_size=2),  # as many tasks back
        "has_gate": st.booleans(),
        "hold_when_ready": st.sampled_from([None, None, None, HoldReason.APPROVAL, HoldReason.MANUAL]),
        "backend": st.sampled_from(["command", "anthropic"]),
        "agent_type": st.sampled_from(POOLS[:2]),
        "priority": st.integers(0, 2),
        "rank": st.integers(0, 3),
        "rules": st.builds(
            TaskRules, attempts_max=st.integers(1, 3), review_agent=st.sampled_from(["", "", "", "tester"])
        ),
    }
)


class AgainstModel(RuleBasedStateMachine):
    """Plans, executors, reports, losses, requests, limits, crashes and time in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.model = self.rig.model
        self.last_task = self.executors = self.requests = 0

    # Plans.

    @precondition(lambda self: len(self.model.plans) < 3)
    @rule(
        leaves=st.lists(LEAVES, min_size=1, max_size=6),
        tenant_id=st.sampled_from(TENANTS),
        budget_micros=st.sampled_from([0, 0, 12_000_000]),
        is_whole=st.sampled_from([True, True, False]),
    )
    def submit(
        self, leaves: list[dict[str, Any]], tenant_id: str, budget_micros: int, is_whole: bool
    ) -> None:
        """A plan: a container, leaves in and beside it, and what they wait for."""
        box = self.last_task + 1
        tasks, edges = [spec(box, is_container=True, backend="")], []
        for task_id, drawn in enumerate(leaves, start=box + 1):
            leaf = {**drawn, "rank": drawn["rank"] * 1000 + task_id}  # all differ: the order is total
            parent_id = box if leaf.pop("is_inside") else 0
            ons = {task_id - back for back in leaf.pop("needs")}
            edges += [(task_id, on) for on in ons if on >= box and on != parent_id]
            tasks.append(spec(task_id, parent_id=parent_id, **leaf))
        self.last_task += len(tasks)
        plan = e.PlanSpec(
            plan_id=len(self.model.plans) + 1,
            tenant_id=tenant_id,
            state=PlanState.SUBMITTED,
            budget_micros=budget_micros,
            spent_micros=0,
            until_task=0 if is_whole else self.last_task,
        )
        self.rig.submit(plan, tasks, edges)

    # Executors and what they report.

    @rule(pool=st.sampled_from(POOLS), slots=st.integers(1, 3))
    def join(self, pool: str, slots: int) -> None:
        """An executor joins."""
        self.executors += 1
        self.rig.join(f"{pool}-{self.executors}", pool, slots)

    @precondition(lambda self: self.rig.executors)
    @rule(data=st.data())
    def lose_executor(self, data: st.DataObject) -> None:
        """The process of an executor is gone."""
        name = data.draw(st.sampled_from(sorted(self.rig.executors)))
        del self.rig.executors[name]
        self.rig.step(e.ExecutorLost(executor=name))

    @precondition(lambda self: self.model.live())
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        """An executor stores a start, and says so."""
        self.rig.start(self._live(data).token)

    @precondition(lambda self: self.model.live())
    @rule(data=st.data(), how=st.sampled_from(["success", "success", *ENDS]), cost=st.sampled_from([0, 7]))
    def end(self, data: st.DataObject, how: str, cost: int) -> None:
        """An executor stores a result, and says so."""
        node, failure = self._live(data), None
        if how == "failure":
            failure = data.draw(st.sampled_from(list(FailureClass)))
        outcome = Outcome(
            state=ENDS[how], failure_class=failure, summary="said so", usage=Usage(cost_micros=cost)
        )
        self.rig.end(node, outcome)

    @precondition(lambda self: self.model.live())
    @rule(data=st.data(), reason=st.sampled_from(LOSSES), is_heard=st.sampled_from([True, True, False]))
    def lose(self, data: st.DataObject, reason: str, is_heard: bool) -> None:
        """An attempt is fenced; unless the scheduler dies just then, it hears of it."""
        self.rig.lose(self._live(data), reason, is_heard=is_heard)

    @precondition(lambda self: self.rig.ended)
    @rule(data=st.data(), kind=st.sampled_from(["start", "end", "loss"]))
    def report_late(self, data: st.DataObject, kind: str) -> None:
        """Something is said about an attempt that is over: nothing comes of it."""
        self.rig.report_late(data.draw(st.sampled_from(sorted(self.rig.ended))), kind)

    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        """Some executors renew their leases; the scheduler reads the beats."""
        tokens = sorted(self.rig.tables.leases)
        self.rig.beat([token for token in tokens if data.draw(st.booleans())])

    def _live(self, data: st.DataObject) -> Node:
        return data.draw(st.sampled_from(sorted(self.model.live(), key=lambda node: node.token)))

    # Time and the world.

    @rule(ms=st.sampled_from([1, 50, 120, 300, 600, 1100]))
    def wait(self, ms: int) -> None:
        """Time passes."""
        self.rig.wait(ms)

    @rule()
    def lose_database(self) -> None:
        """The database was away and is back."""
        self.rig.now_ms += 5_000
        self.rig.quiet_since_ms.update(dict.fromkeys(self.rig.quiet_since_ms, self.rig.now_ms))
        self.rig.step(e.DatabaseReturned())

    @rule(ms=st.sampled_from([100, 700, 5_000]))
    def hang_database(self, ms: int) -> None:
        """The database took too long over a write."""
        self.rig.hang(ms)

    @rule(has_credentials=st.booleans())
    def crash(self, has_credentials: bool) -> None:
        """The scheduler dies and recovers, perhaps with other credentials."""
        self.rig.crash(has_credentials=has_credentials)

    @rule()
    def find_credentials(self) -> None:
        """Somebody gives credentials."""
        self.rig.find_credentials()

    @rule(
        total=st.sampled_from([None, 0, 1, 3]),
        agents=st.dictionaries(st.sampled_from(POOLS[:2]), st.integers(0, 2)),
        tenants=st.dictionaries(st.sampled_from(TENANTS), st.integers(0, 2)),
        plans=st.dictionaries(st.integers(1, 3), st.integers(0, 2)),
    )
    def set_limits(
        self, total: int | None, agents: dict[str, int], tenants: dict[str, int], plans: dict[int, int]
    ) -> None:
        """Somebody changes the limits; 0 goes back to the settings."""
        self.rig.set_limits(Overrides(sessions_max=total, agents=agents, tenants=tenants, plans=plans))

    @rule(is_paused=st.booleans())
    def pause_all(self, is_paused: bool) -> None:
        """Somebody stops everything, or lets it go on."""
        self.rig.pause_all(is_paused=is_paused)

    # Requests.

    @precondition(lambda self: self.model.plans)
    @rule(data=st.data(), kind=st.sampled_from(ASKED_OF_TASKS))
    def ask_about_task(self, data: st.DataObject, kind: str) -> None:
        """Somebody asks something of a task."""
        task_id = data.draw(st.sampled_from(sorted(self.model.nodes)))
        self.rig.ask(kind, self.model.nodes[task_id].plan, task_id=task_id)

    @precondition(lambda self: self.model.plans)
    @rule(data=st.data(), kind=st.sampled_from(["pause_plan", "resume_plan", "resume_plan", "cancel_plan"]))
    def ask_about_plan(self, data: st.DataObject, kind: str) -> None:
        """Somebody asks something of a plan."""
        plan = self.model.plans[data.draw(st.sampled_from(sorted(self.model.plans)))]
        leaves = [leaf.task_id for leaf in self.model.leaves(plan)]
        until = data.draw(st.sampled_from([0, 0, *leaves])) if kind == "resume_plan" else 0
        self.rig.ask(kind, plan, until_task=until)

    @precondition(lambda self: self.model.plans)
    @rule(data=st.data(), budget_micros=st.sampled_from([0, 6_000_000, 11_000_000]))
    def set_budget(self, data: st.DataObject, budget_micros: int) -> None:
        """Somebody changes what a plan may spend."""
        plan = self.model.plans[data.draw(st.sampled_from(sorted(self.model.plans)))]
        self.rig.ask("set_budget", plan, budget_micros=budget_micros)

    def teardown(self) -> None:
        """Once executors stay and sessions succeed, whatever needs nobody ends."""
        STEPS.append(self.rig.steps)
        if not self.rig.is_in_step:
            return  # it has failed already
        self.rig.find_credentials()
        self.rig.pause_all(is_paused=False)
        self.rig.set_limits(
            Overrides(
                sessions_max=0,
                agents=dict.fromkeys(POOLS, 0),
                tenants=dict.fromkeys(TENANTS, 0),
                plans=dict.fromkeys(self.model.plans, 0),
            )
        )
        for pool in POOLS:
            self.join(pool, 5)
        for _ in range(100):
            for node in self.model.live():
                self.rig.end(node, Outcome(state=AttemptState.SUCCEEDED))
            self.rig.wait(1_000)
            if not any(plan.state is PlanState.ACTIVE for plan in self.model.plans.values()):
                return
        raise AssertionError("a plan does not come to rest")


@pytest.mark.timeout(3600)
def test_the_core_does_what_the_model_says() -> None:
    """`HYPOTHESIS_PROFILE=full` takes more than 100,000 steps; `-rP` prints how many."""
    STEPS.clear()
    run_state_machine_as_test(AgainstModel, settings=settings(stateful_step_count=50, deadline=None))
    print(f"{sum(STEPS):,} events in {len(STEPS):,} histories, no difference")
