"""The scheduler's mind: events in, commands out, memory in between.

`handle` is the only way in. It changes memory first; the caller commits the row commands and only then
carries out the effects. It never looks at a clock, draws a number or does I/O, so the same events give the
same commands, always.
"""

from __future__ import annotations

from typing import assert_never

from orchestrator.core import events as e
from orchestrator.core.assign import assign
from orchestrator.core.commands import Command, SaveTask
from orchestrator.core.loading import on_plan_loaded, on_slice_loaded
from orchestrator.core.moving import release_credential_holds, settle_plan
from orchestrator.core.reports import (
    on_attempt_ended,
    on_attempt_lost,
    on_attempt_started,
    on_beats_read,
    on_database_returned,
    on_executor_joined,
    on_executor_lost,
    on_executor_retired,
    on_executors_listed,
    on_tick,
)
from orchestrator.core.requests import on_requested
from orchestrator.core.state import GATE_POOL, Limits, State
from orchestrator.core.words import AttemptKind

AnyEvent = (
    e.TokensReserved
    | e.PlanSliceLoaded
    | e.PlanLoaded
    | e.LimitsSet
    | e.ExecutorJoined
    | e.ExecutorsListed
    | e.ExecutorLost
    | e.ExecutorRetired
    | e.AttemptStarted
    | e.AttemptEnded
    | e.AttemptLost
    | e.BeatsRead
    | e.DatabaseReturned
    | e.AffinityRead
    | e.Requested
    | e.Tick
)


class SchedulerState(State):
    """All plans that are not over, and the one function that changes them."""

    def handle(self, event: AnyEvent) -> list[Command]:
        """Take one event; return what must be written, in order, and then done."""
        self._apply(event)
        for plan_id in sorted(self.touched):
            settle_plan(self, self.plans[plan_id])
        assign(self, at_ms=event.at_ms)
        self._save_dirty()
        self.touched.clear()
        out, self.out = self.out, []
        return out

    def _apply(self, event: AnyEvent) -> None:  # noqa: C901 - one flat table of events
        at_ms = event.at_ms
        match event:
            case e.TokensReserved():
                self.tokens.append(range(event.first, event.first + event.count))
                self.is_reserving = False
            case e.PlanSliceLoaded():
                on_slice_loaded(self, event)
            case e.PlanLoaded():
                on_plan_loaded(self, event, at_ms=at_ms)
            case e.LimitsSet():
                self._set_limits(event)
            case e.ExecutorJoined():
                on_executor_joined(self, event)
            case e.ExecutorsListed():
                on_executors_listed(self, event)
            case e.ExecutorLost():
                on_executor_lost(self, event)
            case e.ExecutorRetired():
                on_executor_retired(self, event)
            case e.AttemptStarted():
                on_attempt_started(self, event, at_ms=at_ms)
            case e.AttemptEnded():
                on_attempt_ended(self, event, at_ms=at_ms)
            case e.AttemptLost():
                on_attempt_lost(self, event, at_ms=at_ms)
            case e.BeatsRead():
                on_beats_read(self, event, at_ms=at_ms)
            case e.DatabaseReturned():
                on_database_returned(self, at_ms=at_ms)
            case e.AffinityRead():
                self.affinity.update({(r.agent_type, r.task_type, r.domain): r for r in event.rows})
            case e.Requested():
                on_requested(self, event, at_ms=at_ms)
            case e.Tick():
                on_tick(self, at_ms=at_ms)
            case _:
                assert_never(event)

    def _set_limits(self, event: e.LimitsSet) -> None:
        had_credentials = self.limits.has_credentials
        self.limits = Limits(
            sessions_max=event.sessions_max,
            agent_default_max=event.agent_default_max,
            agent_sessions_max=dict(event.agent_sessions_max),
            has_credentials=event.has_credentials,
        )
        if event.has_credentials and not had_credentials:
            for plan in self.plans.values():
                release_credential_holds(self, plan)

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
                    unmet_dependencies=task.unmet,
                    not_before_ms=task.not_before_ms,
                    attempts_used=task.attempts_used,
                    losses=task.losses,
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
        wanted = {pool: live for pool, live in self.live_by_pool.items() if live}
        for attempt in self.attempts.values():
            if attempt.kind is AttemptKind.WORK and self.tasks[attempt.task_id].has_gate:
                wanted[GATE_POOL] = wanted.get(GATE_POOL, 0) + 1
        for plan in self.plans.values():
            if plan.is_loaded and plan.state == "active":
                for pool, queued in plan.queue.sizes.items():
                    wanted[pool] = wanted.get(pool, 0) + queued
        limits = self.limits
        return {pool: min(count, limits.of(pool), limits.sessions_max) for pool, count in wanted.items()}

    def running_by_pool(self) -> dict[str, int]:
        """Return the live attempts by pool, gates under their own name."""
        return {pool: live for pool, live in self.live_by_pool.items() if live or pool == GATE_POOL}
