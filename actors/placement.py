"""Why Ray does not place an actor, in words: it keeps one that fits nowhere waiting and tells nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray

_MEBIBYTE = 2**20

#: Resources that Ray counts in bytes.
_IN_BYTES = ("memory", "object_store_memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterResources:
    """What the nodes of a cluster have, by name of the resource, as Ray counts it.

    Attributes:
        nodes: of each live node, used or not.
        free: of all nodes together.
    """

    nodes: Sequence[Mapping[str, float]]
    free: Mapping[str, float]


def cluster_resources() -> ClusterResources:
    """Ask Ray. Blocks."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    return ClusterResources(nodes=nodes, free=free)


def shortage(request: Mapping[str, float], cluster: ClusterResources) -> str:
    """Say what keeps an actor of this request from being placed; empty if nothing does."""
    for name, amount in request.items():
        most = max((node.get(name, 0.0) for node in cluster.nodes), default=0.0)
        if most < amount:
            return f"no node has {_told(name, amount)} (at most {_told(name, most)})"
    for name, amount in request.items():
        free = cluster.free.get(name, 0.0)
        if free < amount:
            return f"{_told(name, amount)} must become free (now {_told(name, free)})"
    return ""


def _told(name: str, amount: float) -> str:
    return f"{amount / _MEBIBYTE:.0f} MiB of {name}" if name in _IN_BYTES else f"{amount:g} {name}"
