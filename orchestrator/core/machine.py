"""The scheduler's mind: events in, commands out, memory in between.

`handle` is the only way in. It changes memory first; the caller commits the row commands and only then
carries out the effects. It never looks at a clock, draws a number or does I/O, so the same events give the
same commands, always.
"""

from __future__ import annotations

from typing import assert_never

from orchestrator.core import breaker, budget
from orchestrator.core import events as e
from orchestrator.core.assign import assign
from orchestrator.core.commands import Command, RecordNote, SaveTask
from orchestrator.core.fairness import offer_everybody
from orchestrator.core.leases import (
    on_attempt_unproven,
    on_beats_read,
    on_database_hung,
    on_database_returned,
    on_executor_joined,
    on_executor_lost,
    on_executor_retired,
    on_executors_listed,
    watch_attempts,
)
from orchestrator.core.loading import on_plan_loaded, on_slice_loaded
from orchestrator.core.moving import release_what_works, settle_plan
from orchestrator.core.reports import on_attempt_ended, on_attempt_lost, on_attempt_started
from orchestrator.core.requests import on_requested
from orchestrator.core.revising import on_plan_revised
from orchestrator.core.state import State
from orchestrator.core.task import GATE_POOL
from orchestrator.core.timers import end_backoffs, forget_plans
from orchestrator.core.words import AttemptKind, PlanState

AnyEvent = (
    e.TokensReserved
    | e.PlanSliceLoaded
    | e.PlanLoaded
    | e.PlanRevised
    | e.LimitsSet
    | e.ControlsRead
    | e.ExecutorJoined
    | e.ExecutorsListed
    | e.ExecutorLost
    | e.ExecutorRetired
    | e.AttemptStarted
    | e.AttemptEnded
    | e.ProposalsPaid
    | e.NotesWritten
    | e.AttemptLost
    | e.AttemptUnproven
    | e.BeatsRead
    | e.DatabaseReturned
    | e.DatabaseHung
    | e.AffinityRead
    | e.Requested
    | e.Tick
)


class SchedulerState(State):
    """All plans that are not over, and the one function that changes them."""

    def handle(self, event: AnyEvent, *, at_ms: int) -> list[Command]:
        """Take one event; return what must be written, in order, and then done.

        Args:
            at_ms: when it is taken; database time at the scheduler's start plus its monotonic clock.
        """
        self._apply(event, at_ms=at_ms)
        assign(self, at_ms=at_ms)
        for plan_id in sorted(self.touched):  # last: assigning may have held what was left, for its budget
            plan = self.plans[plan_id]
            settle_plan(self, plan)
            plan.is_idle = not plan.live and not plan.queue.sizes
        self._save_dirty()
        self.touched.clear()
        out, self.out = self.out, []
        return out

    def _apply(self, event: AnyEvent, *, at_ms: int) -> None:  # noqa: C901, PLR0915 - one flat table
        match event:  # what comes most often first
            case e.AttemptStarted():
                on_attempt_started(self, event, at_ms=at_ms)
            case e.AttemptEnded():
                on_attempt_ended(self, event, at_ms=at_ms)
            case e.TokensReserved():
                self.tokens.append(range(event.first, event.first + event.count))
                self.is_reserving = False
            case e.PlanSliceLoaded():
                on_slice_loaded(self, event)
            case e.PlanLoaded():
                on_plan_loaded(self, event, at_ms=at_ms)
            case e.PlanRevised():
                on_plan_revised(self, event)
            case e.LimitsSet():
                self._set_limits(event)
            case e.ControlsRead():
                self._restore_controls(event, at_ms=at_ms)
            case e.ExecutorJoined():
                on_executor_joined(self, event)
            case e.ExecutorsListed():
                on_executors_listed(self, event, at_ms=at_ms)
            case e.ExecutorLost():
                on_executor_lost(self, event, at_ms=at_ms)
            case e.ExecutorRetired():
                on_executor_retired(self, event)
            case e.ProposalsPaid():
                budget.on_proposals_paid(self, event)
            case e.NotesWritten():
                self.out += [RecordNote(note_id=note_id) for note_id in event.note_ids]
            case e.AttemptLost():
                on_attempt_lost(self, event, at_ms=at_ms)
            case e.AttemptUnproven():
                on_attempt_unproven(self, event, at_ms=at_ms)
            case e.BeatsRead():
                on_beats_read(self, event, at_ms=at_ms)
            case e.DatabaseReturned():
                on_database_returned(self, at_ms=at_ms)
            case e.DatabaseHung():
                on_database_hung(self, event, at_ms=at_ms)
            case e.AffinityRead():
                self.affinity.update({(r.agent_type, r.task_type, r.domain): r for r in event.rows})
            case e.Requested():
                on_requested(self, event)
            case e.Tick():
                self._tick(at_ms=at_ms)
            case _:
                assert_never(event)

    def _set_limits(self, event: e.LimitsSet) -> None:
        self.keyless, self.not_installed = event.keyless, event.not_installed
        self.bounds.limits = event.limits
        offer_everybody(self)
        for plan in self.plans.values():
            release_what_works(self, plan)

    def _restore_controls(self, event: e.ControlsRead, *, at_ms: int) -> None:
        self.is_paused = event.is_paused
        self.pause_reason = event.pause_reason
        self.bounds.overrides = event.overrides
        budget.turn_day(self, at_ms=at_ms)
        self.today.spent = event.spent_today
        for tenant_id, spent in event.spent.items():
            self.tenant(tenant_id).purse.spent = spent
        for row in event.breakers:
            breaker.restore(self, row)

    def _tick(self, *, at_ms: int) -> None:
        if budget.turn_day(self, at_ms=at_ms):
            offer_everybody(self)
        end_backoffs(self, at_ms=at_ms)
        watch_attempts(self, at_ms=at_ms)
        breaker.let_probes_through(self, at_ms=at_ms)
        forget_plans(self)

    def _save_dirty(self) -> None:
        """Write each changed task once, whatever happened to it within the event."""
        for task_id, expected in self.dirty.items():
            task = self.tasks[task_id]
            task.version += 1
            self.out.append(
                SaveTask(
                    task_id=task_id,
                    state=task.state,
                    reason=task.reason,
                    not_before_ms=task.not_before_ms,
                    attempts_used=task.attempts_used,
                    losses=task.losses,
                    wants=task.wants,
                    expected=expected,
                    version=task.version,
                )
            )
        self.dirty.clear()

    def demand(self) -> dict[str, int]:
        """Return how many sessions each pool could run now or in a moment.

        That is what is live, what could start, and the gates of the work that is live: an executor takes
        longer to start than most work takes to end.
        """
        wanted = {name: pool.live for name, pool in self.pools.items() if pool.live}
        for attempt in self.attempts.values():
            if attempt.kind is AttemptKind.WORK and self.tasks[attempt.task_id].has_gate:
                wanted[GATE_POOL] = wanted.get(GATE_POOL, 0) + 1
        for plan in self.plans.values():
            if plan.is_loaded and plan.state is PlanState.ACTIVE and not self.is_paused:
                for name, queued in plan.queue.sizes.items():
                    wanted[name] = wanted.get(name, 0) + queued
        bounds = self.bounds
        return {name: min(count, bounds.of_pool(name), bounds.total) for name, count in wanted.items()}
