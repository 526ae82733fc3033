"""What is said of an actor that Ray does not place."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from actors.options import requested
from actors.placement import ClusterResources, shortage
from orchestrator.settings import Pool

MEBIBYTE = 2**20
CLUSTER = ClusterResources(
    nodes=[
        {"CPU": 2.0, "executor": 16.0, "memory": 1000.0 * MEBIBYTE},
        {"CPU": 4.0, "memory": 2000.0 * MEBIBYTE},
    ],
    free={"CPU": 1.0, "executor": 3.0, "memory": 3000.0 * MEBIBYTE},
)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"executor": 1.0}, ""),
        ({"CPU": 1.0, "executor": 1.0}, ""),
        ({"gpu-box": 1.0}, "no node has 1 gpu-box (at most 0 gpu-box)"),
        ({"CPU": 5.0}, "no node has 5 CPU (at most 4 CPU)"),
        ({"CPU": 1.5}, "1.5 CPU must become free (now 1 CPU)"),
        ({"memory": 2500.0 * MEBIBYTE}, "no node has 2500 MiB of memory (at most 2000 MiB of memory)"),
    ],
)
def test_the_first_thing_that_is_missing_is_named(request_: Mapping[str, float], said: str) -> None:
    assert shortage(request_, CLUSTER) == said


def test_a_cluster_without_nodes_has_nothing() -> None:
    assert shortage({"executor": 1.0}, ClusterResources(nodes=[], free={})).startswith(
        "no node has 1 executor"
    )


def test_a_pool_asks_for_what_its_settings_say() -> None:
    pool = Pool(num_cpus=0.5, memory_mb=64, resource="gpu-box")
    assert requested(pool) == {"CPU": 0.5, "memory": 64.0 * MEBIBYTE, "gpu-box": 1.0}
    assert requested(Pool()) == {"executor": 1.0}
