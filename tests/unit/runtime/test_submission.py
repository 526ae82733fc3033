"""What is refused before a plan is stored, beyond what the plan alone can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import PlanError
from orchestrator.routing import Routing
from orchestrator.runtime.submission import read_submission
from orchestrator.settings import Settings
from orchestrator.store.plan_rows import NewPlan
from orchestrator.views import SubmitRequest

PLAN = "# Ship it\n\n- [ ] **A.1** Build it\n  - run: `make`\n  - review: code-reviewer\n"


def _read(home: Path, **changes: Any) -> NewPlan:
    settings = Settings(home=home)
    request = SubmitRequest(**{"text": PLAN, **changes})
    return read_submission(request, routing=Routing.from_settings(settings), settings=settings)


def test_a_review_that_commands_would_have_to_give_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        PlanError, match=r"line 3: The `review:` of the task A\.1 needs a model, and the backend is `command`"
    ):
        _read(tmp_path, backend="command")


def test_the_reviewer_is_stored_by_the_name_of_its_agent_type(tmp_path: Path) -> None:
    assert _read(tmp_path, backend="auto").plan.tasks[0].options == {"review": "code-reviewer"}


@pytest.mark.parametrize(("written", "micros"), [("$2.50", 2_500_000), ("0.05", 50_000)])
def test_the_head_of_a_plan_bounds_what_it_may_spend(tmp_path: Path, written: str, micros: int) -> None:
    text = f"---\nname: p\nbudget: {written}\n---\n# P\n\n- [ ] **A.1** Do it\n"
    assert _read(tmp_path, text=text).budget_micros == micros
    assert _read(tmp_path, text=text, budget_micros=7).budget_micros == 7


def test_a_budget_in_the_head_that_is_no_sum_refuses_the_plan(tmp_path: Path) -> None:
    text = "---\nname: p\nbudget: $1,50\n---\n# P\n\n- [ ] **A.1** Do it\n"
    with pytest.raises(PlanError, match="is no sum of money"):
        _read(tmp_path, text=text)
