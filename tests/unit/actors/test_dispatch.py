"""Which nodes are asked to end the processes of an attempt, and what is believed of their answers."""

from __future__ import annotations

from typing import Any

import pytest

from actors import dispatch
from actors.dispatch import RayExecutors
from actors.options import node_name
from orchestrator.core.words import Proof

HERE, THERE, DEAD, FORMER = ("a" * 56, "b" * 56, "d" * 56, "f" * 56)


class Cluster:
    """What Ray would say: two nodes live, one is dead; `silent` do not answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.silent: set[str] = set()
        self.asked: list[str] = []
        monkeypatch.setattr(dispatch, "_nodes", lambda: {HERE: True, THERE: True, DEAD: False})
        monkeypatch.setattr(dispatch, "names", lambda prefix: [node_name(HERE), node_name(THERE)])
        monkeypatch.setattr(dispatch, "find", self._find)

    def _find(self, name: str) -> Any:
        self.asked.append(name)
        if name in self.silent:
            raise ValueError(name)
        return self

    @property
    def kill_tree(self) -> Any:
        return self

    async def remote(self, token: int) -> bool:
        return token == 7


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


async def test_the_node_where_it_started_is_asked_and_no_other(cluster: Cluster) -> None:
    """Also by a scheduler that has never heard of its executor."""
    executors = RayExecutors(is_one_machine=False)
    assert await executors.kill_tree(THERE, 7) is Proof.GONE
    assert await executors.kill_tree(THERE, 8) is Proof.UNPROVEN
    cluster.silent = {node_name(THERE)}
    assert await executors.kill_tree(THERE, 7) is Proof.UNPROVEN
    assert set(cluster.asked) == {node_name(THERE)}


async def test_a_node_that_the_cluster_has_declared_dead_is_not_asked(cluster: Cluster) -> None:
    assert await RayExecutors(is_one_machine=True).kill_tree(DEAD, 7) is Proof.NODE_DEAD
    assert cluster.asked == []


@pytest.mark.parametrize("node_id", [FORMER, ""])
async def test_where_the_node_is_not_known_all_are_believed_only_on_one_machine(
    cluster: Cluster, node_id: str
) -> None:
    assert await RayExecutors(is_one_machine=False).kill_tree(node_id, 7) is Proof.UNPROVEN
    one_machine = RayExecutors(is_one_machine=True)
    assert await one_machine.kill_tree(node_id, 7) is Proof.GONE
    cluster.silent = {node_name(HERE)}
    assert await one_machine.kill_tree(node_id, 7) is Proof.UNPROVEN
