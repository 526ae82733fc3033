"""An analysis that follows a plan says the same as one made afresh, and as the definitions say."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.words import CLOSED, TaskKind, TaskState
from orchestrator.plan.analysis import Analysis
from orchestrator.plan.model import PlanDependency, PlanTask
from orchestrator.plan.order import Order
from orchestrator.plan.standing import Standing

STATES = [TaskState.WAITING] * 6 + [TaskState.DONE, TaskState.SKIPPED, TaskState.CANCELLED, TaskState.HELD]


@st.composite
def plans(draw: st.DrawFn) -> tuple[Order, dict[str, Standing]]:
    """Up to twelve leaves in up to three containers; leaves depend on earlier ones and on containers."""
    leaves = draw(st.integers(1, 12))
    containers = draw(st.integers(0, 3))
    parents = [draw(st.integers(-1, containers - 1)) for _ in range(leaves)]
    groups = sorted({parent for parent in parents if parent >= 0})
    tasks = [
        PlanTask(key=f"C{group}", has_own_key=True, title="group", kind=TaskKind.CONTAINER)
        for group in groups
    ]
    edges = []
    for n, parent in enumerate(parents):
        tasks.append(
            PlanTask(
                key=f"T{n}",
                has_own_key=True,
                title="leaf",
                parent=f"C{parent}" if parent >= 0 else "",
                estimate_ms=draw(st.integers(0, 5)),
                manual=draw(st.sampled_from(["", "", "", "sign"])),
            )
        )
        ended = [f"C{g}" for g in groups if max(i for i, p in enumerate(parents) if p == g) < n]
        earlier = [*(f"T{i}" for i in range(n)), *ended]
        needs = draw(st.sets(st.sampled_from(earlier))) if earlier else ()
        edges.extend(PlanDependency(task=f"T{n}", on=on) for on in needs)
    standings = {f"T{n}": Standing(draw(st.sampled_from(STATES))) for n in range(leaves)}
    return Order(tasks, edges), standings


def _graph(order: Order) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(order)))
    graph.add_edges_from((n, following) for n in range(len(order)) for following in order.after[n])
    return graph


def _duration_ms(order: Order, standings: dict[str, Standing], number: int) -> int:
    task = order.tasks[number]
    is_open = order.is_leaf(number) and standings[task.key].state not in CLOSED
    return task.estimate_ms or 0 if is_open else 0


@given(plans())
def test_lengths_and_reach_are_what_the_definitions_say(plan: tuple[Order, dict[str, Standing]]) -> None:
    order, standings = plan
    graph, analysis = _graph(order), Analysis(order, standings)
    open_leaves = {
        n
        for n, task in enumerate(order.tasks)
        if order.is_leaf(n) and standings[task.key].state not in CLOSED
    }
    ways = {
        n: max(
            sum(_duration_ms(order, standings, at) for at in way)
            for end in graph
            if not graph[end]
            for way in ([[n]] if n == end else nx.all_simple_paths(graph, n, end))
        )
        for n in graph
    }
    assert analysis.downstream_ms() == {order.tasks[n].key: ways[n] for n in graph}
    assert analysis.critical_path_ms == max((ways[n] for n in open_leaves), default=0)
    path = [order.number[key] for key in analysis.critical_path()]
    assert sum(_duration_ms(order, standings, n) for n in path) == analysis.critical_path_ms
    assert all(nx.has_path(graph, first, then) for first, then in pairwise(path))
    behind = {n: nx.descendants(graph, n) & open_leaves for n in open_leaves}
    assert {key: count for key, count, _ in analysis.bottlenecks(100)} == {
        order.tasks[n].key: len(found) for n, found in behind.items() if found
    }
    for key, _, work_ms in analysis.bottlenecks(100):
        assert work_ms == sum(_duration_ms(order, standings, n) for n in behind[order.number[key]])


@given(plans())
def test_slack_is_what_a_task_may_lose_and_no_more(plan: tuple[Order, dict[str, Standing]]) -> None:
    order, standings = plan
    analysis = Analysis(order, standings)
    for key, slack_ms in analysis.slack_ms().items():
        assert slack_ms >= 0
        for late_ms, end_ms in ((slack_ms, 0), (slack_ms + 1, 1)):
            duration_ms = [_duration_ms(order, standings, n) for n in range(len(order))]
            duration_ms[order.number[key]] += late_ms
            longest_ms = max(order.longest_after(duration_ms))
            assert longest_ms == analysis.critical_path_ms + end_ms


@given(plans(), st.randoms(use_true_random=False))
def test_following_is_the_same_as_looking_again(
    plan: tuple[Order, dict[str, Standing]], dice: Random
) -> None:
    order, standings = plan
    analysis = Analysis(order, standings)
    leaves = [task.key for n, task in enumerate(order.tasks) if order.is_leaf(n)]
    dice.shuffle(leaves)  # out of order too: a person may finish any task
    for key in leaves:
        ready = set(analysis.ready())
        released = analysis.complete(key)
        if standings[key].state not in CLOSED:
            standings[key] = Standing(TaskState.DONE)
        again = Analysis(order, standings)
        assert analysis.ready() == again.ready()
        assert set(released) == set(again.ready()) - ready
        assert analysis.critical_path_ms == again.critical_path_ms
        assert analysis.critical_path() == again.critical_path()
        assert analysis.slack_ms() == again.slack_ms()
        assert analysis.waves() == again.waves()
        assert (list(analysis.held()), list(analysis.blocked())) == (
            list(again.held()),
            list(again.blocked()),
        )
        assert analysis.complete(key) == ()
