"""Rows as the scheduler's memory takes them: plans, tasks, live attempts, results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestrator.core.events import AttemptEnded, LiveAttempt, PlanSpec
from orchestrator.core.task import Task, TaskRules
from orchestrator.core.words import (
    AttemptKind,
    AttemptState,
    FailureClass,
    HoldReason,
    PlanState,
    RetryLost,
    TaskKind,
    TaskState,
)
from orchestrator.plan.amounts import duration_ms, money_micros
from orchestrator.text import id_in

#: The tasks of a plan after an ordinal, in its order; `Tasks.task` makes a task of each row.
TASKS_SQL = """
SELECT t.ordinal, t.id, coalesce(t.parent_id, 0), t.kind, t.agent_type, t.task_type, t.domain,
       t.run <> '[]'::jsonb, t.verify <> '[]'::jsonb, t.manual <> '', t.approve <> '',
       nullif(t.options, '{}'::jsonb), s.state, s.reason, s.not_before, s.attempts_used, s.losses,
       t.priority, t.rank, s.version, s.wants, s.is_released, t.is_removed,
       s.budget_micros
FROM tasks AS t JOIN task_states AS s ON s.task_id = t.id
WHERE t.plan_id = %(plan)s AND t.ordinal > %(after)s ORDER BY t.ordinal LIMIT %(limit)s
"""

#: Shared by all tasks, instead of an object for each.
_STATES = {state.value: state for state in TaskState}
_KINDS = {kind.value: kind for kind in AttemptKind}


@dataclass(slots=True, kw_only=True)
class Tasks:
    """Makes the tasks of one plan from rows, with one object for words and rules that many tasks share.

    Attributes:
        choose_backend: gives the backend of a leaf by its agent type and whether it has `run:` lines.
        own_names: what the agent types that the plan brought along are called beside those of everybody.
        spent: by all past attempts that were taken, in micros.
    """

    attempts_max: int
    choose_backend: Callable[[str, bool], str]
    own_names: Mapping[str, str] = field(default_factory=dict)
    spent: int = 0
    _numbers: dict[tuple[int, str], int] = field(default_factory=dict)
    _spent: dict[int, int] = field(default_factory=dict)
    _backends: dict[tuple[str, bool], str] = field(default_factory=dict)
    _words: dict[str, str] = field(default_factory=dict)
    _rules: dict[tuple[object, ...], TaskRules] = field(default_factory=dict)

    def take_past(self, task_id: int, kind: str, number: int, spent_micros: int) -> None:
        """Take the last number and the spend of a task's attempts of a kind; before the task itself."""
        self._numbers[task_id, kind] = number
        if spent_micros:
            self._spent[task_id] = self._spent.get(task_id, 0) + spent_micros
            self.spent += spent_micros

    def task(self, row: tuple[Any, ...]) -> Task:
        """Make a task of a row of TASKS_SQL."""
        (
            _, task_id, parent_id, kind, agent_type, task_type, domain, has_run, has_gate, is_manual,
            needs_approval, options, state, reason, not_before, used, losses, priority, rank, version, wants,
            is_released, is_removed, budget_micros,
        ) = row  # fmt: skip
        is_container = kind == TaskKind.CONTAINER.value
        word, number = self._words.setdefault, self._numbers.get
        agent_type = self.own_names.get(agent_type, agent_type)
        return Task(
            task_id=task_id,
            parent_id=parent_id,
            is_container=is_container,
            state=_STATES[state],
            reason=word(reason, reason),
            agent_type=word(agent_type, agent_type),
            backend="" if is_container else self._backend(agent_type, has_run),
            task_type=word(task_type, task_type),
            domain=word(domain, domain),
            priority=priority,
            rank=rank,
            not_before_ms=to_ms(not_before),
            attempts_used=used,
            losses=losses,
            has_gate=has_gate,
            hold_when_ready=None if is_container else _hold(is_manual, needs_approval),
            work_number=number((task_id, "work"), 0),
            gate_number=number((task_id, "gate"), 0),
            review_number=number((task_id, "review"), 0),
            version=version,
            wants=_KINDS[wants],
            spent_micros=self._spent.get(task_id, 0),
            is_released=is_released,
            is_removed=is_removed,
            budget_micros=budget_micros,
            rules=self._rules_of(options or {}),
        )

    def _backend(self, agent_type: str, has_run: bool) -> str:
        found = self._backends.get((agent_type, has_run))
        if found is None:
            found = self._backends[agent_type, has_run] = self.choose_backend(agent_type, has_run)
        return found

    def _rules_of(self, options: Mapping[str, str]) -> TaskRules:
        names = ("attempts", "timeout", "start timeout", "retry lost", "review", "budget")
        given = tuple(options.get(name, "") for name in names)
        found = self._rules.get(given)
        if found is None:
            attempts, timeout, start_timeout, retry_lost, review, budget = given
            review = self.own_names.get(review, review)
            found = self._rules[given] = TaskRules(
                attempts_max=id_in(attempts) or self.attempts_max,
                timeout_ms=duration_ms(timeout) or 0,
                start_timeout_ms=duration_ms(start_timeout) or 0,
                retry_lost=RetryLost(retry_lost or RetryLost.PROVEN),
                review_agent=review,
                review_backend=self._backend(review, has_run=False) if review else "",
                budget_micros=money_micros(budget) or 0,
            )
        return found


def _hold(is_manual: bool, needs_approval: bool) -> HoldReason | None:
    if needs_approval:
        return HoldReason.APPROVAL
    return HoldReason.MANUAL if is_manual else None


def live_attempt(row: Mapping[str, Any]) -> LiveAttempt:
    """Return the attempt of a row."""
    return LiveAttempt(
        token=row["token"],
        task_id=row["task_id"],
        kind=AttemptKind(row["kind"]),
        number=row["number"],
        agent_type=row["agent_type"],
        backend=row["backend"],
        executor=row["executor"],
        state=AttemptState(row["state"]),
        cancel_reason=row["cancel_reason"],
        started_at_ms=to_ms(row["started_at"]),
        reserved_micros=row["reserved_micros"],
        end_reason=row["end_reason"],
    )


def plan_spec(row: Mapping[str, Any]) -> PlanSpec:
    """Return what a plan's own row says of it; its spend is in the rows of its attempts."""
    return PlanSpec(
        plan_id=row["id"],
        tenant_id=row["tenant_id"],
        state=PlanState(row["state"]),
        budget_micros=row["budget_micros"],
        spent_micros=0,
        until_task=row["until_task"],
        fruitless_micros=row["fruitless_micros"],
        proposed_micros=row["proposed_micros"],
    )


def to_ms(moment: datetime | None) -> int:
    """Return a moment in milliseconds since 1970; 0 for none."""
    return 0 if moment is None else int(moment.timestamp() * 1000)


def ended(row: Mapping[str, Any]) -> AttemptEnded:
    """Return the report that a stored result is."""
    return AttemptEnded(
        token=row["token"],
        state=AttemptState(row["state"]),
        failure_class=FailureClass(row["failure_class"]) if row["failure_class"] else None,
        summary=row["summary"],
        cost_micros=row["cost_micros"],
    )
