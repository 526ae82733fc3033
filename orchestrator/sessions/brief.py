"""The brief of a whole plan: how far it is, what is next, what is in the way, and what has been decided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

from orchestrator.core.words import AT_WORK, TaskState
from orchestrator.money import MICROS
from orchestrator.sessions.context import ContextPack, Section, fill, note_line, one_line
from orchestrator.views import NoteKind, NoteView, PlanView, TaskView

_HOW_TO_GET = "`orchestrator tasks PLAN` and `orchestrator notes PLAN` list them all."
_KINDS = (NoteKind.DECISION, NoteKind.NOTE)


def make_brief(
    plan: PlanView,
    *,
    at_work: Sequence[TaskView],
    ready: Sequence[TaskView],
    blocked: Sequence[TaskView],
    notes: Sequence[NoteView],
    tokens_max: int,
) -> ContextPack:
    """Return what whoever joins a plan must know.

    Args:
        at_work, ready, blocked: some tasks of these states, the next ready one first; blocked are those that
            wait for a person: held, or failed for good.
        notes: decisions, and notes on the plan as a whole; the newest first.
    """
    own = (f"# Plan {plan.name} ({plan.state})", "\n".join(_progress(plan)))
    decisions, remarks = (tuple(note_line(note) for note in notes if note.kind is kind) for kind in _KINDS)
    sections = (
        _tasks("Running", at_work, plan, AT_WORK, rank=2),
        _tasks("Ready", ready, plan, {TaskState.READY}, rank=1),
        _tasks("Blocked", blocked, plan, {TaskState.HELD, TaskState.FAILED}, rank=0),
        Section(heading="Decisions", items=decisions, noun="decision", rank=3),
        Section(heading="Notes", items=remarks, noun="note", rank=4),
    )
    return fill(own, sections, tokens_max=tokens_max, how_to_get=_HOW_TO_GET)


def _progress(plan: PlanView) -> Iterable[str]:
    if plan.title and plan.title != plan.name:
        yield f"{plan.title}."
    others = ", ".join(f"{count} {state}" for state, count in plan.tasks.items() if state != "done")
    yield f"{plan.tasks.get('done', 0)} of {plan.tasks_total} tasks are done" + (
        f"; {others}." if others else "."
    )
    budget = f" of ${plan.budget_micros / MICROS:.2f}" if plan.budget_micros else ""
    yield f"{plan.attempts} attempts, ${plan.cost_micros / MICROS:.2f}{budget} spent."
    if plan.eta_s:
        yield f"About {plan.eta_s / 3600:.1f} h to go at the present width."


def _tasks(
    heading: str, tasks: Sequence[TaskView], plan: PlanView, states: Set[TaskState], *, rank: int
) -> Section:
    """Return a section of tasks; those of the states that are not among them count as left out."""
    more = sum(plan.tasks.get(state, 0) for state in states) - len(tasks)
    return Section(
        heading=heading,
        items=tuple(map(_line, tasks)),
        noun=f"{heading.lower()} task",
        rank=rank,
        more=max(0, more),
    )


def _line(task: TaskView) -> str:
    reason = f": {one_line(task.reason, chars_max=200)}" if task.reason else ""
    return f"- {task.key} {one_line(task.title, chars_max=200)} ({task.state}{reason}, {task.agent_type})"
