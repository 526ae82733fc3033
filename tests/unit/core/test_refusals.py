"""Whatever the core refuses, it names the thing and the reason, and says what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import orchestrator.core
from orchestrator.core.commands import Answer
from orchestrator.core.limits import Overrides
from orchestrator.core.words import HoldReason, PlanState, TaskState
from orchestrator.money import BUDGET_MICROS_MAX
from tests.support.core import PLAN, World, spec

CORE = Path(orchestrator.core.__file__).parent
REFUSING = {"Refusal", "NotInMemory"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A request of a world of five tasks that is refused; task 1 is running, 4 is in container 3, 5 waits.

    Attributes:
        first: requests before it, as (kind, task).
        tasks: what differs of a task, by its id.
    """

    kind: str
    task_id: int = 0
    first: tuple[tuple[str, int], ...] = ()
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)
    has_credentials: bool = True
    args: dict[str, Any] = field(default_factory=dict)


HELD = {"hold_when_ready": HoldReason.MANUAL}
DONE = {"state": TaskState.DONE}
CASES = [
    Case(kind="cancel_task", task_id=2, tasks={2: DONE}),
    Case(kind="skip_task", task_id=2, tasks={2: DONE}),
    Case(kind="finish_task", task_id=1),
    Case(kind="tick_task", task_id=2, tasks={2: DONE}),
    Case(kind="tick_task", task_id=2, first=(("cancel_plan", 0),)),
    Case(kind="retry_task", task_id=2, first=(("cancel_plan", 0),)),
    Case(kind="retry_task", task_id=5),
    Case(kind="reopen_task", task_id=2, tasks={2: DONE}, args={"edges": [(5, 1), (1, 2)]}),
    Case(kind="reopen_task", task_id=2, tasks={2: {**DONE, "is_removed": True}}),
    Case(kind="hold_task", task_id=1),
    Case(kind="release_task", task_id=1),
    Case(kind="release_task", task_id=2, tasks={2: {"backend": "anthropic"}}, has_credentials=False),
    Case(kind="release_task", task_id=2, tasks={2: {"backend": "claude-code"}}),
    Case(kind="release_task", task_id=3),
    Case(kind="approve_task", task_id=2, tasks={2: HELD}),
    Case(kind="add_dependency", task_id=2, args={"on_task": 9}),
    Case(kind="add_dependency", task_id=1, args={"on_task": 5}),
    Case(kind="add_dependency", task_id=1, tasks={2: {"is_removed": True}}, args={"on_task": 2}),
    Case(kind="drop_dependency", task_id=2, tasks={2: {"is_removed": True}}, args={"on_task": 1}),
    Case(kind="hold_task", task_id=9),
    Case(kind="hold_task", task_id=2, args={"plan_id": 2}),
    Case(kind="pause_plan", args={"plan_id": 7}),
    Case(kind="cancel_plan", args={"is_done": True}),
    Case(kind="pause_plan", first=(("cancel_plan", 0),)),
    Case(kind="resume_plan", first=(("cancel_plan", 0),)),
    Case(kind="resume_plan", args={"until_task": 9}),
    Case(kind="set_budget", args={"budget_micros": -1}),
    Case(kind="set_budget", args={"budget_micros": BUDGET_MICROS_MAX + 1}),
    Case(kind="set_task_budget", task_id=3, args={"budget_micros": 1}),
    Case(kind="set_task_budget", task_id=2, args={"budget_micros": -1}),
    Case(kind="set_limits", args={"overrides": Overrides(sessions_max=-1)}),
]


def refused(case: Case) -> Answer:
    """Bring a world to where the request is refused, and ask."""
    world = World(has_credentials=case.has_credentials)
    world.handle(replace(world.limits, not_installed=frozenset({"claude-code"})))
    args = dict(case.args)
    edges = args.pop("edges", [(5, 1)])
    world.join("a", slots=1)
    if args.pop("is_done", False):
        world.load([spec(1, **DONE)])
        assert world.state.plans[1].state is PlanState.DONE
    else:
        tasks = [spec(1), spec(2), spec(3, is_container=True), spec(4, parent_id=3), spec(5)]
        changed = [spec(t.task_id, **case.tasks[t.task_id]) if t.task_id in case.tasks else t for t in tasks]
        world.load(changed, edges)
        if args.get("plan_id") == 2:
            world.load([spec(6)], plan=replace(PLAN, plan_id=2))
    for kind, task_id in case.first:
        assert not world.request(kind, task_id=task_id).error
    return world.request(case.kind, task_id=case.task_id, **args)


def _is_sentence(text: str) -> bool:
    return text.endswith(".") and text[0].isupper()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}-{case.task_id}")
def test_a_refusal_says_what_why_and_what_to_do(case: Case) -> None:
    answer = refused(case)
    assert re.search(r"\b[Tt]ask \d|\b[Tt]asks\b.*task \d|\bPlan \d|\bbudget of|\blimit\b", answer.error)
    assert _is_sentence(answer.error)
    assert _is_sentence(answer.remedy)


def test_no_refusal_is_left_out() -> None:
    said = [refused(case).error for case in CASES]
    patterns = dict(_messages())
    assert len(patterns) > 15
    unseen = [place for place, pattern in patterns.items() if not any(map(pattern.fullmatch, said))]
    assert unseen == []


def _messages() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Yield where the core refuses something, and the pattern of what it says there."""
    for path in sorted(CORE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REFUSING:
                yield f"{path.name}:{node.lineno}", _pattern(node.args[0])


def _pattern(message: ast.expr) -> re.Pattern[str]:
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    return re.compile(
        "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".+" for part in parts)
    )
