"""However a plan is edited while it runs, memory is what a fresh reading of the tables gives.

Random plans run with random ends, losses and requests; people decide on dependencies; random revisions come
between, and the scheduler dies at any of the steps of taking one. After each event memory is compared with a
scheduler that reads the tables, and no tasks wait for each other.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter

import pytest

from orchestrator.core import events as e
from orchestrator.core.commands import Answer, Command, RowCommand
from orchestrator.core.invariants import check_invariants
from orchestrator.core.limits import Limits
from orchestrator.core.machine import AnyEvent, SchedulerState
from orchestrator.core.state import EVERYBODY, Policy
from orchestrator.core.task import Task
from orchestrator.core.words import (
    AttemptState,
    DependencyDecision,
    FailureClass,
    HoldReason,
    PlanState,
    TaskState,
)
from orchestrator.ports import Outcome
from tests.support.core import PLAN, spec
from tests.support.memory_tables import MemoryTables

STEPS = 120
KINDS = ("cancel_task", "skip_task", "retry_task", "hold_task", "release_task", "tick_task", "untick_task")
DECISIONS = ("add_dependency", "add_dependency", "drop_dependency")


@dataclass
class Text:
    """What the author has written: tasks by id with their parents' before them, and what they wait for."""

    draw: random.Random
    tasks: dict[int, Task] = field(default_factory=dict)
    waits_for: dict[int, set[int]] = field(default_factory=dict)
    last_id: int = 0

    def add(self) -> None:
        """Write a new leaf, perhaps into a new container."""
        self.last_id += 1
        if self.draw.random() < 0.2:
            self.tasks[self.last_id] = spec(self.last_id, is_container=True, agent_type="", backend="")
            box, self.last_id = self.last_id, self.last_id + 1
        else:
            boxes = [
                task.task_id for task in self.tasks.values() if task.is_container and not task.is_removed
            ]
            box = self.draw.choice([0, *boxes])
        hold = self.draw.choice([None, None, None, HoldReason.APPROVAL])
        self.tasks[self.last_id] = spec(self.last_id, parent_id=box, hold_when_ready=hold)

    def leaves(self) -> list[int]:
        """The tasks that are in the text now."""
        return [task.task_id for task in self.tasks.values() if not task.is_container and not task.is_removed]

    def edit(self) -> None:
        """Change something."""
        leaves = self.leaves()
        what = self.draw.choice(["add", "add", "remove", "priority", "edge", "edge", "no edge", "hold"])
        if what == "add" or len(leaves) < 3:
            self.add()
            return
        task_id = self.draw.choice(leaves)
        if what == "remove":
            self._remove(task_id)
        elif what == "priority":
            self.tasks[task_id] = replace(self.tasks[task_id], priority=self.draw.randrange(5))
        elif what == "edge" and (earlier := [other for other in leaves if other < task_id]):
            self.waits_for.setdefault(task_id, set()).add(self.draw.choice(earlier))
        elif what == "no edge":
            self.waits_for.pop(task_id, None)
        elif what == "hold":
            self.tasks[task_id] = replace(self.tasks[task_id], hold_when_ready=None)

    def _remove(self, task_id: int) -> None:
        """Take a leaf out, with its container if nothing is left in that."""
        self.tasks[task_id] = replace(self.tasks[task_id], is_removed=True)
        self.waits_for.pop(task_id, None)
        for waiting in self.waits_for.values():
            waiting.discard(task_id)
        box = self.tasks[task_id].parent_id
        if box and all(t.is_removed for t in self.tasks.values() if t.parent_id == box):
            self.tasks[box] = replace(self.tasks[box], is_removed=True)

    def edges(self) -> list[tuple[int, int]]:
        """Every edge (task, on)."""
        return [(task_id, on) for task_id, ons in self.waits_for.items() for on in sorted(ons)]


class Run:
    """A scheduler over tables, and the author beside it."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.text = Text(draw=self.draw)
        for _ in range(8):
            self.text.add()
        self.now_ms = 1_000_000
        self.tables = MemoryTables(clock_ms=lambda: self.now_ms)
        self.tables.add_plan(PLAN, list(self.text.tasks.values()), self.text.edges())
        self.revisions = self.crashes = self.decided = self.refused = 0
        self.begin()

    def begin(self) -> None:
        """Begin a term: read everything from the tables."""
        seen = self.tables.term.epoch if self.tables.term else 0
        self.epoch = self.tables.take_term(seen_epoch=seen, cluster_id="c", incarnation=f"i{seen}") or 0
        self.state, self.batch = SchedulerState(policy=Policy()), 0
        self.handle(e.TokensReserved(first=seen * 10_000 + 1, count=10_000))
        self.handle(e.LimitsSet(limits=Limits(sessions_max=4)))
        for plan_id in self.tables.unfinished_plans():
            self.load(plan_id)
        self.handle(e.ExecutorJoined(executor="x1", agent_type="coder", slots=4))

    def load(self, plan_id: int) -> None:
        """Have the plan in memory."""
        if plan_id in self.state.plans:
            return
        attempts: tuple[e.LiveAttempt, ...] = ()
        for part in self.tables.load_plan(plan_id, slice_size=3):
            self.handle(e.PlanSliceLoaded(plan=part.plan, tasks=part.tasks, edges=part.edges))
            attempts = part.attempts
        self.handle(e.PlanLoaded(plan_id=plan_id, attempts=attempts))

    def handle(self, event: AnyEvent) -> list[Command]:
        """Handle an event and commit; return what was ordered."""
        commands = self.state.handle(event, at_ms=self.now_ms)
        self.batch += 1
        self.tables.commit(self.epoch, self.batch, [c for c in commands if isinstance(c, RowCommand)])
        check_invariants(self.state)
        return commands

    # --- what happens

    def revise(self) -> None:
        """Edit the text and have the revision taken; the scheduler may die at each step."""
        before = copy.deepcopy(self.text.tasks), copy.deepcopy(self.text.waits_for), self.text.last_id
        for _ in range(self.draw.randrange(1, 5)):
            self.text.edit()
        if self._has_ring([*self.text.edges(), *self._decided()]):  # the front end refuses the text
            self.text.tasks, self.text.waits_for, self.text.last_id = before
            return
        self.revisions += 1
        tasks = [replace(task) for task in self.text.tasks.values()]
        self.tables.add_revision(1, tasks, self.text.edges())
        self.maybe_crash()
        for revision_id, plan_id in self.tables.open_revisions():
            self.tables.store_revision(revision_id)
            self.maybe_crash()
            for _ in range(self.draw.randrange(3)):
                self.happen(may_decide=False)  # while the slices are read: decisions wait for the text
            self.load(plan_id)
            parts = list(self.tables.load_plan(plan_id, slice_size=3))
            self.handle(
                e.PlanRevised(
                    request_id=1,
                    revision_id=revision_id,
                    plan_id=plan_id,
                    tasks=tuple(task for part in parts for task in part.tasks),
                    edges=tuple(edge for part in parts for edge in part.edges),
                )
            )
            self.maybe_crash()
        assert self.tables.open_revisions() == []

    def maybe_crash(self) -> None:
        """Lose memory now and then."""
        if self.draw.random() < 0.15:
            self.crashes += 1
            self.begin()

    def happen(self, *, may_decide: bool = True) -> None:
        """Let an attempt end or be lost, time pass, or somebody ask for something."""
        what = self.draw.choice(["end", "end", "end", "fail", "lose", "wait", "ask", "ask", "decide"])
        live = sorted(self.state.attempts)
        if what == "wait" or (what in {"end", "fail", "lose"} and not live):
            self.now_ms += self.draw.choice([100, 2_000, 20_000])
            self.handle(e.Tick())
        elif what == "decide" and may_decide:
            self.decide()
        elif what in {"ask", "decide"}:
            self.ask()
        elif what == "lose":
            token = self.draw.choice(live)
            self.tables.fate(token, may_fence=True, reason="executor lost")
            self.handle(e.AttemptLost(token=token, reason="executor lost"))
        else:
            self.end(self.draw.choice(live), what)

    def end(self, token: int, what: str) -> None:
        """An attempt ends."""
        is_cancelled = bool(self.state.attempts[token].cancel_reason) and self.draw.random() < 0.5
        state = AttemptState.SUCCEEDED if what == "end" else AttemptState.FAILED
        outcome = Outcome(
            state=AttemptState.CANCELLED if is_cancelled else state,
            failure_class=FailureClass.AGENT if state is AttemptState.FAILED and not is_cancelled else None,
        )
        self.tables.start([token], executor=self.state.attempts[token].executor, incarnation="i")
        self.tables.save_results([(token, outcome)])
        self.handle(self.tables.result_of(token))

    def ask(self) -> None:
        """Somebody asks something of a task."""
        self.load(1)
        request = e.Requested(
            request_id=1,
            kind=self.draw.choice(KINDS),
            tenant_id="local",
            plan_id=1,
            task_id=self.draw.choice(sorted(self.text.tasks)),
        )
        self.handle(request)

    def decide(self) -> None:
        """Somebody adds or drops a dependency; only what would make tasks wait for each other is refused."""
        self.load(1)
        known = [task.task_id for task in self.text.tasks.values() if not task.is_removed]
        task_id, on = self.draw.choice(known), self.draw.choice(known)
        kind = self.draw.choice(DECISIONS)
        leaves = [
            leaf
            for leaf, task in self.tables.tasks.items()
            if task_id in {leaf, task.parent_id} and not task.is_container
        ]
        closes = kind == "add_dependency" and self._has_ring(
            [*self._edges(), *((leaf, on) for leaf in leaves)]
        )
        request = e.Requested(
            request_id=1, kind=kind, tenant_id="local", plan_id=1, task_id=task_id, on_task=on
        )
        (answer,) = (c for c in self.handle(request) if isinstance(c, Answer))
        assert bool(answer.error) == closes
        self.decided += 1
        self.refused += closes

    def _edges(self) -> list[tuple[int, int]]:
        return [(task_id, on) for task_id, ons in self.tables.edges.items() for on in ons]

    def _decided(self) -> list[tuple[int, int]]:
        return [pair for pair, what in self.tables.decisions.items() if what is DependencyDecision.BLOCKS]

    def _has_ring(self, edges: list[tuple[int, int]]) -> bool:
        """Tell whether tasks wait for each other by these edges; a container waits for what is in it."""
        sorter: TopologicalSorter[int] = TopologicalSorter()
        for task_id, on in edges:
            sorter.add(task_id, on)
        for task in self.text.tasks.values():
            sorter.add(task.parent_id, task.task_id)
        try:
            sorter.prepare()
        except CycleError:
            return True
        return False

    # --- what must hold

    def compare(self) -> None:
        """Memory says what a scheduler says that reads the tables now, and nothing waits for itself."""
        assert not self._has_ring(self._edges())
        if 1 not in self.state.plans:
            return
        fresh = SchedulerState(policy=Policy())
        attempts: tuple[e.LiveAttempt, ...] = ()
        for part in self.tables.load_plan(1):
            plan = replace(part.plan, state=self.state.plans[1].state)
            tasks, edges = part.tasks, part.edges
            slice_ = e.PlanSliceLoaded(plan=plan, tasks=tasks, edges=edges)
            fresh.handle(slice_, at_ms=self.now_ms)
            attempts = part.attempts
        fresh.handle(e.PlanLoaded(plan_id=1, attempts=attempts), at_ms=self.now_ms)
        ours, theirs = _shape(self.state), _shape(fresh)
        assert ours == theirs


def _shape(state: SchedulerState) -> dict[int, tuple[object, ...]]:
    return {
        task.task_id: (
            task.state,
            task.parent_id,
            task.priority,
            task.unmet,
            task.open_children,
            task.done_children,
            task.skipped_children,
            sorted(task.dependents),
            task.token,
            task.is_removed,
            task.is_overtaken,
            task.hold_when_ready,
        )
        for task in state.tasks.values()
    }


@pytest.mark.parametrize("seed", range(20))
def test_memory_is_what_the_tables_say_however_a_plan_is_edited(seed: int) -> None:
    run = Run(seed)
    for _ in range(STEPS):
        if run.draw.random() < 0.2:
            run.revise()
        else:
            run.happen()
        run.compare()
    closed = {TaskState.DONE, TaskState.CANCELLED, TaskState.SKIPPED}
    for task in run.tables.tasks.values():
        has_lease = any(run.tables.attempts[token].task_id == task.task_id for token in run.tables.leases)
        if task.is_removed:
            assert task.state in closed or has_lease
    assert set(run.text.tasks) == set(run.tables.tasks)
    finish(run)
    print(
        f"seed {seed}: {run.revisions} revisions, {run.crashes} crashes,"
        f" {run.decided} decisions, {run.refused} of them refused"
    )


def finish(run: Run) -> None:
    """Whatever was edited, the plan comes to its end once everything succeeds."""
    for _ in range(400):
        run.load(1)
        for task_id in run.text.leaves():
            task = run.tables.tasks[task_id]
            if task.state in {TaskState.FAILED, TaskState.CANCELLED, TaskState.SKIPPED}:
                request(run, "retry_task", task_id)
            elif task.state is TaskState.HELD:
                request(run, "release_task", task_id)
        for token in sorted(run.state.attempts):
            run.end(token, "end")
        run.now_ms += 20_000
        run.handle(e.Tick())
        if run.tables.plans[1].state is PlanState.DONE:
            break
    assert {run.tables.tasks[task_id].state for task_id in run.text.leaves()} == {TaskState.DONE}


def request(run: Run, kind: str, task_id: int) -> None:
    """Ask something of a task."""
    run.handle(e.Requested(request_id=1, kind=kind, tenant_id=EVERYBODY, plan_id=1, task_id=task_id))
