"""Waves, ranks and the critical path."""

from __future__ import annotations

import pytest

from orchestrator.errors import PlanError
from orchestrator.plan.graph import PlanGraph
from orchestrator.plan.model import ESTIMATE_MS_DEFAULT, PlanDependency
from orchestrator.plan.read import read_plan

HOUR_MS = 3_600_000


def _graph(text: str) -> PlanGraph:
    plan = read_plan(text)
    return PlanGraph(plan.tasks, plan.dependencies)


DIAMOND = """
- [ ] T001 a (1h)
- [ ] T002 b (2h) (depends on T001)
- [ ] T003 c (3h) (depends on T001)
- [ ] T004 d (depends on T002, T003)
- [ ] T005 e (4h)
"""


def test_waves_of_a_diamond() -> None:
    assert _graph(DIAMOND).waves() == [("T001", "T005"), ("T002", "T003"), ("T004",)]


def test_a_task_is_in_the_wave_after_the_last_that_it_waits_for() -> None:
    text = "- [ ] T001 a\n- [ ] T002 b (depends on T001)\n- [ ] T003 c (depends on T001, T002)\n"
    assert _graph(text).waves() == [("T001",), ("T002",), ("T003",)]


def test_the_longest_way_down() -> None:
    half_ms = ESTIMATE_MS_DEFAULT
    assert _graph(DIAMOND).downstream_ms() == {
        "T001": 4 * HOUR_MS + half_ms,
        "T002": 2 * HOUR_MS + half_ms,
        "T003": 3 * HOUR_MS + half_ms,
        "T004": half_ms,
        "T005": 4 * HOUR_MS,
    }


def test_the_critical_path() -> None:
    assert _graph(DIAMOND).critical_path() == ("T001", "T003", "T004")
    assert _graph("- [x] a\n").critical_path() == ()


def test_containers_finish_with_their_children() -> None:
    graph = _graph(
        "## Phase 1: a\n"
        "- [ ] 1.1 x (1h)\n"
        "- [ ] 1.2 y (2h)\n"
        "  - [ ] 1.3 z (5h)\n"
        "## Phase 2: b\n"
        "- [ ] 2.1 w (1h) (depends on Phase 1)\n"
    )
    assert graph.waves() == [("1.1", "1.3"), ("2.1",)]
    assert graph.downstream_ms()["1.1"] == 2 * HOUR_MS
    assert graph.critical_path() == ("1.3", "2.1")


def test_settled_tasks_take_no_wave_and_no_time() -> None:
    graph = _graph("- [x] T001 a (9h)\n- [-] T002 b (depends on T001)\n- [~] T003 c (1h) (depends on T002)\n")
    assert graph.waves() == [("T003",)]
    assert graph.downstream_ms()["T001"] == HOUR_MS


def test_only_blocks_orders() -> None:
    assert _graph("- [ ] T001 a\n  - relates: T002\n- [ ] T002 b\n  - informs: T001\n").waves() == [
        ("T001", "T002")
    ]


def test_every_knot_is_told_once_and_from_its_least_key() -> None:
    graph = _graph(
        "".join(
            f"- [ ] T00{a} x (depends on T00{b})\n"
            for a, b in ((1, 2), (2, 1), (3, 5), (4, 3), (5, 4), (6, 1))
        )
    )
    assert [cycle.keys for cycle in graph.cycles()] == [
        ("T001", "T002", "T001"),
        ("T003", "T005", "T004", "T003"),
    ]
    with pytest.raises(PlanError):
        graph.waves()


def test_of_a_knot_the_shortest_cycle_is_told_with_what_is_said() -> None:
    graph = _graph(
        "- [ ] T001 a (depends on T004)\n"
        "- [ ] T002 b (depends on T001)\n"
        "- [ ] T003 c (depends on T002, T004)\n"
        "- [ ] T004 d (depends on T003)\n"
    )
    (cycle,) = graph.cycles()
    assert cycle.keys == ("T003", "T004", "T003")
    assert [(edge.evidence, edge.line) for edge in cycle.dependencies if edge] == [("T004", 3), ("T003", 4)]
    assert cycle.weakest.line == 4


def test_the_weakest_of_a_cycle_is_the_least_sure() -> None:
    def edge(task: str, on: str, line: int, confidence: float = 1.0) -> PlanDependency:
        is_explicit = confidence == 1.0
        return PlanDependency(task=task, on=on, line=line, is_explicit=is_explicit, confidence=confidence)

    tasks = read_plan("- [ ] T001 a\n- [ ] T002 b\n- [ ] T003 c\n").tasks
    edges = [edge("T001", "T002", 1, 0.9), edge("T002", "T003", 2, 0.8), edge("T003", "T001", 3)]
    (cycle,) = PlanGraph(tasks, edges).cycles()
    assert (cycle.weakest.task, cycle.weakest.on) == ("T002", "T003")


def test_long_chains_need_no_recursion() -> None:
    text = "- [ ] T1.1 x\n" + "".join(
        f"- [ ] T1.{n} x (1h) (depends on T1.{n - 1})\n" for n in range(2, 3001)
    )
    graph = _graph(text)
    assert len(graph.waves()) == 3000
    assert graph.downstream_ms()["T1.1"] == ESTIMATE_MS_DEFAULT + 2999 * HOUR_MS
