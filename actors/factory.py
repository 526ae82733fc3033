"""The one place where our plain classes become Ray actors."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.options import (
    METRICS,
    NAMESPACE,
    POOLS,
    SCHEDULER,
    ActorConfig,
    executor,
    executor_name,
    node_name,
    singleton,
)

Handle = Any  # Ray types its handles dynamically


def ensure_scheduler(config: ActorConfig) -> Handle:
    """Return the scheduler; make it if it does not exist."""
    from actors.scheduler import Scheduler

    return ray.remote(Scheduler).options(**singleton(SCHEDULER)).remote(config)


def ensure_pools(config: ActorConfig) -> Handle:
    """Return the pools; make them if they do not exist."""
    from actors.pools import Pools

    return ray.remote(Pools).options(**singleton(POOLS)).remote(config)


def ensure_metrics(config: ActorConfig) -> Handle:
    """Return the metrics; make them if they do not exist."""
    from actors.metrics import Metrics

    return ray.remote(Metrics).options(**singleton(METRICS)).remote(config)


def ensure_node(config: ActorConfig, node_id: str) -> Handle:
    """Return the Node actor of a Ray node; make it there if it does not exist.

    Args:
        node_id: Ray's id of the node, hex.
    """
    from actors.node import Node

    options = singleton(node_name(node_id))
    options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(Node).options(**options).remote(config, node_id)


def make_executor(config: ActorConfig, agent_type: str, suffix: str) -> Handle:
    """Make a new executor of an agent type."""
    from actors.executor import Executor

    name = executor_name(agent_type, suffix)
    options = executor(name, config.settings.pools.of(agent_type))
    return ray.remote(Executor).options(**options).remote(config, name, agent_type)


def find(name: str) -> Handle:
    """Return the actor of a name. Raises ValueError if there is none."""
    return ray.get_actor(name, namespace=NAMESPACE)
