"""What is refused before a plan is stored, beyond what the plan alone can tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import PlanError
from orchestrator.routing import Routing
from orchestrator.runtime.submission import read_submission
from orchestrator.settings import Settings
from orchestrator.store.plan_rows import NewPlan
from orchestrator.views import SubmitRequest

PLAN = "# Ship it\n\n- [ ] **A.1** Build it\n  - run: `make`\n  - review: code-reviewer\n"


def _read(home: Path, *, backend: str) -> NewPlan:
    settings = Settings(home=home)
    request = SubmitRequest(text=PLAN, backend=backend)
    return read_submission(request, routing=Routing.from_settings(settings), settings=settings)


def test_a_review_that_commands_would_have_to_give_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        PlanError, match=r"line 3: The `review:` of the task A\.1 needs a model, and the backend is `command`"
    ):
        _read(tmp_path, backend="command")


def test_the_reviewer_is_stored_by_the_name_of_its_agent_type(tmp_path: Path) -> None:
    assert _read(tmp_path, backend="auto").plan.tasks[0].options == {"review": "code-reviewer"}
