"""Builds plans for the core and drives it: a world of executors without processes, on a clock of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from orchestrator.core import events as e
from orchestrator.core.commands import Answer, Command, ProveGone, ReserveTokens, SaveTask, StartAttempt
from orchestrator.core.invariants import check_invariants
from orchestrator.core.limits import Limits, Overrides
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.state import EVERYBODY, Policy
from orchestrator.core.task import MODEL_BACKENDS, Task, TaskRules
from orchestrator.core.words import AttemptState, FailureClass, PlanState, TaskState

PLAN = e.PlanSpec(
    plan_id=1, tenant_id="local", state=PlanState.SUBMITTED, budget_micros=0, spent_micros=0, until_task=0
)


def spec(task_id: int, *, attempts_max: int = 3, **changes: object) -> Task:
    """Return a leaf that runs a command, with some attributes changed."""
    base = Task(
        task_id=task_id,
        parent_id=0,
        is_container=False,
        state=TaskState.WAITING,
        reason="",
        agent_type="coder",
        backend="command",
        task_type="implement",
        domain="backend",
        priority=2,
        rank=0,
        not_before_ms=0,
        attempts_used=0,
        losses=0,
        has_gate=False,
        hold_when_ready=None,
        work_number=0,
        gate_number=0,
        review_number=0,
        version=0,
        rules=TaskRules(attempts_max=attempts_max),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


class World:
    """A core with executors that do as they are told; every event is followed by the invariants."""

    def __init__(self, *, policy: Policy | None = None, sessions_max: int = 16, has_credentials: bool = True):
        self.state = SchedulerState(policy=policy or Policy())
        self.now_ms = 1_000_000
        self.commands: list[Command] = []
        self.answers: dict[int, Answer] = {}
        self.started: list[int] = []
        self.limits = e.LimitsSet(
            limits=Limits(sessions_max=sessions_max),
            keyless=frozenset() if has_credentials else MODEL_BACKENDS,
        )
        self.handle(e.TokensReserved(first=1, count=1_000_000))
        self.handle(self.limits)

    def handle(self, event: AnyEvent) -> list[Command]:
        """Handle one event now; return its commands."""
        commands = self.state.handle(event, at_ms=self.now_ms)
        check_invariants(self.state)
        self.commands += commands
        for command in commands:
            match command:
                case StartAttempt():
                    self.started.append(command.token)
                case Answer():
                    self.answers[command.request_id] = command
                case ReserveTokens():
                    self.handle(e.TokensReserved(first=10_000_000, count=1_000_000))
        return commands

    def load(
        self,
        tasks: Sequence[Task],
        edges: Iterable[tuple[int, int]] = (),
        *,
        plan: e.PlanSpec = PLAN,
        attempts: tuple[e.LiveAttempt, ...] = (),
    ) -> None:
        """Load a whole plan in one slice."""
        self.handle(e.PlanSliceLoaded(plan=plan, tasks=tuple(tasks), edges=tuple(edges)))
        self.handle(e.PlanLoaded(plan_id=plan.plan_id, attempts=attempts))

    def join(self, name: str, pool: str = "coder", slots: int = 4) -> None:
        """Let an executor join."""
        self.handle(e.ExecutorJoined(executor=name, agent_type=pool, slots=slots))

    def end(
        self,
        task_id: int,
        state: AttemptState = AttemptState.SUCCEEDED,
        failure: FailureClass | None = None,
        **more: int,
    ) -> list[Command]:
        """Report the start and the end of a task's live attempt."""
        token = self.task(task_id).token
        assert token, f"task {task_id} has no live attempt"
        first = self.handle(e.AttemptStarted(token=token))
        return first + self.handle(
            e.AttemptEnded(
                token=token,
                state=state,
                failure_class=failure,
                summary="said so",
                cost_micros=more.get("cost_micros", 0),
            )
        )

    def fail(self, task_id: int, failure: FailureClass = FailureClass.AGENT) -> list[Command]:
        """Report a failure of a task's live attempt."""
        return self.end(task_id, AttemptState.FAILED, failure)

    def wait(self, ms: int) -> list[Command]:
        """Let time pass, then tick."""
        self.now_ms += ms
        return self.handle(e.Tick())

    def request(
        self,
        kind: str,
        *,
        plan_id: int = 1,
        task_id: int = 0,
        on_task: int = 0,
        until_task: int = 0,
        budget_micros: int = 0,
        overrides: Overrides | None = None,
        key: str = "",
        tenant_id: str = "",
        reason: str = "",
    ) -> Answer:
        """Ask for something, as the plan's own tenant if none is named; return the answer."""
        request_id = len(self.answers) + 1
        plan = self.state.plans.get(plan_id)
        owner = plan.tenant_id if plan is not None else EVERYBODY
        self.handle(
            e.Requested(
                request_id=request_id,
                kind=kind,
                tenant_id=tenant_id or owner,
                plan_id=plan_id,
                task_id=task_id,
                on_task=on_task,
                until_task=until_task,
                budget_micros=budget_micros,
                overrides=overrides,
                key=key,
                reason=reason,
            )
        )
        return self.answers[request_id]

    def task(self, task_id: int) -> Task:
        """Return a task."""
        return self.state.tasks[task_id]

    def states(self) -> dict[int, str]:
        """Return the state of every task."""
        return {task_id: task.state.value for task_id, task in self.state.tasks.items()}

    def running(self) -> list[int]:
        """Return the tasks with a live attempt, in order of their tokens."""
        return [attempt.task_id for attempt in self.state.attempts.values()]


def proofs(commands: Iterable[Command]) -> list[ProveGone]:
    """Return the orders to look into attempts."""
    return [command for command in commands if isinstance(command, ProveGone)]


def saves(commands: Iterable[Command]) -> dict[int, SaveTask]:
    """Return the last write of each task."""
    return {command.task_id: command for command in commands if isinstance(command, SaveTask)}
