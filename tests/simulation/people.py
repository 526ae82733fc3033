"""The people of a simulation: they submit plans, ask for changes, and in the end see every plan through."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from orchestrator.core.state import EVERYBODY
from orchestrator.core.task import Task, TaskRules
from orchestrator.core.words import FINISHED, HoldReason, PlanState, RetryLost, TaskState
from orchestrator.errors import Conflict, NotFound, Overloaded
from tests.simulation.schedulers import SimulatedScheduler
from tests.simulation.world import World
from tests.support.core import PLAN, spec
from tests.support.history_rows import Acknowledged

_TASK_REQUESTS = (
    "cancel_task",
    "retry_task",
    "reopen_task",
    "hold_task",
    "release_task",
    "approve_task",
    "reject_task",
    "skip_task",
    "finish_task",
)
_PLAN_REQUESTS = ("pause_plan", "resume_plan", "cancel_plan", "set_budget")
_REQUESTS = ("pause_all", "resume_all", "set_limits")

#: What an acknowledged request must have left behind.
_EVENTS = {"cancel_plan": "plan.cancelled", "pause_plan": "plan.paused", "set_budget": "plan.budget"}

#: A client that hears nothing for so long asks again with the same key.
PATIENCE_S = 5.0


class People:
    """Clients of the installation. `acknowledged` is what they were told had been done."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._throw = world.dice.throw
        self._asked = 0
        self.acknowledged: list[Acknowledged] = []
        for plan_id in range(1, self._throw.randint(1, 3) + 1):
            world.loop.later(self._throw.choice([0.0, self._throw.uniform(0.0, 20.0)]), self._submit, plan_id)
        if self._throw.random() < 0.8:
            world.loop.spawn(self._meddle(self._throw.uniform(1.0, 10.0)))

    def _submit(self, plan_id: int) -> None:
        """Store a plan, inert, and say so."""
        tasks, edges = self._draw(plan_id)
        self._world.database.tables.add_plan(replace(PLAN, plan_id=plan_id), tasks, edges)
        self.acknowledged.append(Acknowledged(plan_id=plan_id))
        self._world.note("plan submitted", plan=plan_id, tasks=len(tasks), edges=len(edges))
        for scheduler in self._world.reachable_schedulers():
            self._world.send("nudge", scheduler.process, scheduler.scheduling.nudge)

    def _draw(self, plan_id: int) -> tuple[list[Task], list[tuple[int, int]]]:
        throw, first = self._throw, plan_id * 100
        containers = list(range(first, first + throw.choice([0, 0, 1, 2])))
        tasks = [spec(i, is_container=True, agent_type="", backend="") for i in containers]
        leaves = list(range(first + 10, first + 10 + throw.randint(2, 12)))
        for task_id in leaves:
            hold = throw.choice([HoldReason.APPROVAL, HoldReason.MANUAL]) if throw.random() < 0.05 else None
            tasks.append(
                spec(
                    task_id,
                    parent_id=throw.choice([0, *containers]),
                    agent_type=throw.choice(["coder", "coder", "tester"]),
                    has_gate=throw.random() < 0.3,
                    priority=throw.randint(0, 3),
                    rank=throw.randint(0, 5) * 1000,
                    hold_when_ready=hold,
                    rules=TaskRules(
                        retry_lost=throw.choice([RetryLost.PROVEN, RetryLost.PROVEN, *RetryLost]),
                        review_agent="tester" if throw.random() < 0.2 else "",
                        review_backend="command",
                    ),
                )
            )
        filled = {task.parent_id for task in tasks}
        tasks = [task for task in tasks if not task.is_container or task.task_id in filled]
        edges = [(b, a) for a in leaves for b in leaves if a < b and throw.random() < 0.15]
        return tasks, edges

    async def _meddle(self, mean_s: float) -> None:
        """Ask for one thing or another, sensible or not."""
        world, tables = self._world, self._world.database.tables
        while True:
            await asyncio.sleep(world.dice.pause_s(mean_s))
            if world.dice.is_peace:
                return
            if tables.plans:
                plan_id = self._throw.choice(list(tables.plans))
                world.loop.spawn(self.ask(*self._draw_request(plan_id)))

    def _draw_request(self, plan_id: int) -> tuple[str, dict[str, object]]:
        throw, tables = self._throw, self._world.database.tables
        kind = throw.choice(
            [throw.choice(_TASK_REQUESTS)] * 4 + [throw.choice(_PLAN_REQUESTS), throw.choice(_REQUESTS)]
        )
        args: dict[str, object] = {} if kind in _REQUESTS else {"plan_id": plan_id, "tenant_id": "local"}
        if kind in _TASK_REQUESTS:
            args["task_id"] = throw.choice([i for i, of in tables.plan_of.items() if of == plan_id])
        if kind == "set_limits":
            args["limits"] = {"sessions_max": throw.randint(0, 4), "agents": {"coder": throw.randint(0, 2)}}
        return kind, args

    async def ask(self, kind: str, args: dict[str, object]) -> None:
        """Ask until somebody answers, each time with the same key."""
        self._asked += 1
        key = f"k{self._asked}"
        while not self._world.is_over:
            for scheduler in self._world.reachable_schedulers():
                answer: asyncio.Future[object] = self._world.loop.create_future()
                self._world.send(
                    "request", scheduler.process, self._start_request, scheduler, kind, args, key, answer
                )
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        answered = await asyncio.shield(answer)
                except TimeoutError:
                    continue
                if not isinstance(answered, Overloaded):
                    self._hear(kind, args, key, answered)
                    return
            await asyncio.sleep(1.0)

    def _start_request(
        self,
        scheduler: SimulatedScheduler,
        kind: str,
        args: dict[str, object],
        key: str,
        answer: asyncio.Future[object],
    ) -> None:
        self._world.loop.spawn(self._carry_out(scheduler, kind, args, key, answer), scheduler.process)

    async def _carry_out(
        self,
        scheduler: SimulatedScheduler,
        kind: str,
        args: dict[str, object],
        key: str,
        answer: asyncio.Future[object],
    ) -> None:
        """In the scheduler's process: have it answer, and send the answer back."""
        try:
            result: object = dict(await scheduler.scheduling.request(kind, args, key))
        except (Overloaded, Conflict, NotFound) as refusal:
            result = refusal
        self._world.send("answer", None, _resolve, answer, result)

    def _hear(self, kind: str, args: dict[str, object], key: str, answered: object) -> None:
        self._world.dice.counts[f"asked: {kind}"] += 1
        tenant_id = str(args.get("tenant_id", EVERYBODY))
        stored = self._world.database.tables.answers.get((tenant_id, key))
        if not isinstance(answered, NotFound) and stored is None:
            self._world.violation(f"{kind} {args} was answered and its answer is not stored")
        if stored is not None and isinstance(answered, dict) and answered != stored.result:
            self._world.violation(f"{kind} {args} was answered {answered}, stored is {stored.result}")
        if not isinstance(answered, Exception) and kind in _EVENTS:
            plan_id = args["plan_id"]
            assert isinstance(plan_id, int)
            self.acknowledged.append(Acknowledged(plan_id=plan_id, event=_EVENTS[kind]))

    # --- after the faults

    async def see_through(self, *, within_s: float) -> None:
        """Ask for whatever is needed until every plan is over; a violation if that does not come."""
        world, tables = self._world, self._world.database.tables
        give_up_s = world.loop.time() + within_s
        while left := [i for i, plan in tables.plans.items() if plan.state not in FINISHED]:
            if world.loop.time() > give_up_s:
                states = {
                    t.task_id: t.state.value
                    for t in tables.tasks.values()
                    if tables.plan_of[t.task_id] in left
                }
                world.violation(f"plans {left} did not end within {within_s:.0f} s of peace: {states}")
                return
            for plan_id in left:
                await self._push(plan_id)
            await asyncio.sleep(2.0)

    async def _push(self, plan_id: int) -> None:
        tables = self._world.database.tables
        if tables.controls.is_paused:
            await self.ask("resume_all", {})
        if tables.plans[plan_id].state is PlanState.PAUSED:
            await self.ask("resume_plan", {"plan_id": plan_id})
        elif tables.plans[plan_id].state is PlanState.STALLED:
            for task_id, task in list(tables.tasks.items()):
                if tables.plan_of[task_id] != plan_id or task.is_container:
                    continue
                if task.state is TaskState.HELD:
                    await self.ask("release_task", {"plan_id": plan_id, "task_id": task_id})
                elif task.state in {TaskState.FAILED, TaskState.CANCELLED}:
                    await self.ask("retry_task", {"plan_id": plan_id, "task_id": task_id})


def _resolve(answer: asyncio.Future[object], value: object) -> None:
    if not answer.done():
        answer.set_result(value)
