"""What can be done, what waits and why, and what everything hangs on."""

from __future__ import annotations

import pytest

from orchestrator.core.words import TaskState
from orchestrator.errors import PlanError
from orchestrator.plan.analysis import Analysis
from orchestrator.plan.order import Order
from orchestrator.plan.read import read_plan
from orchestrator.plan.standing import Standing

HOUR_MS = 3_600_000

RELEASE = """
## Phase 1: Build
- [x] T001 lay out (1h)
- [ ] T002 left half (2h) (depends on T001)
- [ ] T003 right half (3h) (depends on T001)
## Phase 2: Ship
- [!] T004 get the certificate (1h)
- [ ] T005 sign (1h) (depends on Phase 1, T004)
- [ ] T006 announce (1h) (depends on T003)
  - manual: write the post
"""


def _analysis(text: str) -> Analysis:
    plan = read_plan(text)
    return Analysis(Order(plan.tasks, plan.dependencies))


def test_what_is_ready_held_and_blocked() -> None:
    analysis = _analysis(RELEASE)
    assert analysis.ready() == ("T002", "T003")
    assert list(analysis.held()) == [("T004", "blocked in the plan")]
    assert list(analysis.blocked()) == [("T005", ("phase-1", "T004"), "T004"), ("T006", ("T003",), "")]
    assert analysis.standing("T002").state is TaskState.READY
    assert analysis.standing("T005").state is TaskState.WAITING


def test_the_plan_is_followed_task_by_task() -> None:
    analysis = _analysis(RELEASE)
    assert (analysis.critical_path(), analysis.critical_path_ms) == (("T003", "T005"), 4 * HOUR_MS)
    assert analysis.complete("T003") == ()  # what it released is manual
    assert list(analysis.held()) == [("T004", "blocked in the plan"), ("T006", "manual")]
    assert (analysis.critical_path(), analysis.critical_path_ms) == (("T002", "T005"), 3 * HOUR_MS)
    assert analysis.complete("T004") == ()
    assert analysis.complete("T002") == ("T005",)  # by way of its container
    assert analysis.work_ms == 2 * HOUR_MS


def test_slack_and_bottlenecks() -> None:
    analysis = _analysis(RELEASE)
    assert analysis.slack_ms() == {
        "T002": HOUR_MS,
        "T003": 0,
        "T004": 2 * HOUR_MS,
        "T005": 0,
        "T006": 0,
    }
    assert analysis.bottlenecks() == [
        ("T003", 2, 2 * HOUR_MS),
        ("T002", 1, HOUR_MS),
        ("T004", 1, HOUR_MS),
    ]


def test_what_a_person_gave_up_blocks_and_what_he_skipped_does_not() -> None:
    plan = read_plan("- [ ] T001 a\n- [ ] T002 b (depends on T001)\n- [ ] T003 c (depends on T002)\n")
    order = Order(plan.tasks, plan.dependencies)

    def by(state: TaskState) -> Analysis:
        waiting = Standing(TaskState.WAITING)
        return Analysis(order, {"T001": Standing(state), "T002": waiting, "T003": waiting})

    assert by(TaskState.SKIPPED).ready() == ("T002",)
    assert by(TaskState.CANCELLED).ready() == ()
    assert [behind for _, _, behind in by(TaskState.CANCELLED).blocked()] == ["T001", "T001"]
    assert [behind for _, _, behind in by(TaskState.RUNNING).blocked()] == ["", ""]
    assert list(by(TaskState.FAILED).held()) == [("T001", "failed")]


def test_a_container_of_which_all_was_cancelled_is_not_met() -> None:
    text = "## Phase 1: a\n- [-] T001 x\n- [-] T002 y\n## Phase 2: b\n- [ ] T003 z (depends on Phase 1)\n"
    assert [key for key, _, _ in _analysis(text).blocked()] == ["T003"]
    for key in ("T001", "T002"):
        assert _analysis(text.replace(f"[-] {key}", f"[x] {key}")).ready() == ("T003",)


def test_tasks_that_wait_for_each_other_have_no_order() -> None:
    with pytest.raises(PlanError, match="T001"):
        _analysis("- [ ] T001 a (depends on T002)\n- [ ] T002 b (depends on T001)\n")


def test_long_chains_need_no_recursion() -> None:
    tasks = (f"- [ ] T1.{n} x (1h) (depends on T1.{n - 1})\n" for n in range(2, 3001))
    analysis = _analysis("- [ ] T1.1 x (1h)\n" + "".join(tasks))
    assert len(analysis.waves()) == 3000
    assert analysis.bottlenecks(1) == [("T1.1", 2999, 2999 * HOUR_MS)]
