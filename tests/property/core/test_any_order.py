"""Whatever happens, in whatever order: the invariants hold, and every plan ends once the world behaves."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchestrator.core import events as e
from orchestrator.core.commands import EndAttempt, LeaseAttempt
from orchestrator.core.invariants import check_invariants
from orchestrator.core.state import Policy
from orchestrator.core.words import SETTLED, AttemptState, FailureClass, PlanState, TaskState
from tests.support.core import World, spec

FAILURES = st.sampled_from(list(FailureClass))


class AnyOrder(RuleBasedStateMachine):
    """Plans, executors, reports, losses, requests and time in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(policy=Policy(backoff_ms=(100, 200)), sessions_max=5)
        self.plans = 0
        self.executors = 0
        self.last_id = 0

    @precondition(lambda self: self.plans < 3)
    @rule(data=st.data(), size=st.integers(1, 8))
    def submit(self, data: st.DataObject, size: int) -> None:
        """A plan of random dependencies, containers, gates and backends."""
        self.plans += 1
        first = self.last_id + 1
        box = spec(first, is_container=True, backend="")
        tasks, edges = [box], []
        for task_id in range(first + 1, first + 1 + size):
            tasks.append(
                spec(
                    task_id,
                    parent_id=first if data.draw(st.booleans()) else 0,
                    has_gate=data.draw(st.booleans()),
                    backend=data.draw(st.sampled_from(["command", "anthropic"])),
                    agent_type=data.draw(st.sampled_from(["coder", "tester"])),
                    priority=data.draw(st.integers(0, 4)),
                )
            )
            on_ids = range(first + 1, task_id)
            edges += [(task_id, on_id) for on_id in on_ids if data.draw(st.integers(0, 3)) == 0]
        self.last_id = first + size
        plan = e.PlanSpec(
            plan_id=self.plans,
            tenant_id=data.draw(st.sampled_from(["x", "y"])),
            state=PlanState.SUBMITTED,
            budget_micros=data.draw(st.sampled_from([0, 12_000_000])),
            spent_micros=0,
            until_task=data.draw(st.sampled_from([0, self.last_id])),
        )
        self.world.load(tasks, edges, plan=plan)

    @rule(pool=st.sampled_from(["coder", "tester", "gate"]), slots=st.integers(1, 3))
    def join(self, pool: str, slots: int) -> None:
        self.executors += 1
        self.world.join(f"{pool}-{self.executors}", pool, slots)

    @precondition(lambda self: self.world.state.executors)
    @rule(data=st.data())
    def lose_executor(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.state.executors)))
        self.world.handle(e.ExecutorLost(at_ms=0, executor=name))

    @precondition(lambda self: self.world.state.attempts)
    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(sorted(self.world.state.attempts)))
        what = data.draw(st.sampled_from(["start", "ok", "ok", "fail", "timeout", "stop", "lost"]))
        if what == "start":
            self.world.handle(e.AttemptStarted(at_ms=0, token=token))
        elif what == "lost":
            self.world.handle(e.AttemptLost(at_ms=0, token=token, reason="executor lost"))
        else:
            state = {
                "ok": AttemptState.SUCCEEDED,
                "fail": AttemptState.FAILED,
                "timeout": AttemptState.TIMED_OUT,
                "stop": AttemptState.CANCELLED,
            }[what]
            failure = data.draw(FAILURES) if what == "fail" else None
            self.world.handle(
                e.AttemptEnded(
                    at_ms=0, token=token, state=state, failure_class=failure, summary="", cost_micros=7
                )
            )

    @rule(ms=st.integers(1, 30_000))
    def wait(self, ms: int) -> None:
        self.world.wait(ms)

    @precondition(lambda self: self.world.state.tasks)
    @rule(data=st.data(), kind=st.sampled_from(["cancel_task", "retry_task", "release_task"]))
    def ask_about_task(self, data: st.DataObject, kind: str) -> None:
        self.world.request(kind, task_id=data.draw(st.sampled_from(sorted(self.world.state.tasks))))

    @precondition(lambda self: 1 in self.world.state.plans)
    @rule(kind=st.sampled_from(["pause_plan", "resume_plan", "cancel_plan"]))
    def ask_about_plan(self, kind: str) -> None:
        self.world.request(kind)

    @invariant()
    def all_hold(self) -> None:
        check_invariants(self.world.state)

    @invariant()
    def a_second_lease_needs_the_first_ended(self) -> None:
        live: dict[int, int] = {}
        task_of: dict[int, int] = {}
        for command in self.world.commands:
            if isinstance(command, EndAttempt):
                live.pop(task_of[command.token], None)
            elif isinstance(command, LeaseAttempt):
                assert command.task_id not in live
                live[command.task_id] = task_of[command.token] = command.task_id
                task_of[command.token] = command.task_id

    def teardown(self) -> None:
        """Once executors stay and sessions succeed, nothing that can end stays open."""
        for pool in ("coder", "tester", "gate"):
            self.world.join(f"{pool}-last", pool, 5)
        for _ in range(400):
            for token in list(self.world.state.attempts):
                self.world.handle(
                    e.AttemptEnded(
                        at_ms=0,
                        token=token,
                        state=AttemptState.SUCCEEDED,
                        failure_class=None,
                        summary="",
                        cost_micros=0,
                    )
                )
            self.world.wait(1_000)
        for plan in self.world.state.plans.values():
            assert plan.live == 0
            if plan.state is PlanState.ACTIVE:
                open_states = {s for s, count in plan.counts.items() if count} - SETTLED
                assert not open_states & {TaskState.READY, TaskState.RUNNING, TaskState.VERIFYING}


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(stateful_step_count=40, deadline=None)
