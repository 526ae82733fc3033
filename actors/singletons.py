"""The actors of which there is one: made when they do not exist, found when they do. The Host's to call."""

from __future__ import annotations

from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.factory import Handle, make
from actors.governor import Governor
from actors.metrics import Metrics
from actors.node import Node
from actors.options import METRICS, POOLS, SCHEDULER, ActorConfig, governor_name, node_name, singleton
from actors.pools import Pools
from actors.scheduler import Scheduler


def ensure_scheduler(config: ActorConfig) -> Handle:
    """Return the scheduler of this cluster."""
    return make(Scheduler, singleton(SCHEDULER), config)


def ensure_pools(config: ActorConfig) -> Handle:
    """Return the pools of this cluster."""
    return make(Pools, singleton(POOLS), config)


def ensure_metrics(config: ActorConfig) -> Handle:
    """Return the metrics of this cluster."""
    return make(Metrics, singleton(METRICS), config)


def ensure_governor(config: ActorConfig, credential: str) -> Handle:
    """Return the governor of a credential."""
    return make(Governor, singleton(governor_name(credential)), config, credential)


def ensure_node(config: ActorConfig, node_id: str) -> Handle:
    """Return the Node actor of a Ray node.

    Args:
        node_id: Ray's id of the node, hex.
    """
    options = singleton(node_name(node_id))
    options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return make(Node, options, config, node_id)
