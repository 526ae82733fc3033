"""PostgreSQL and a Ray cluster whose nodes come and go, with the real actors, in a process of its own.

    python -m tests.support.cluster_stack HOME WISHES

WISHES is a JSON object: `settings`, and `head_environment` of the head's processes. It is told what to do
like `tests.support.actor_stack`, whose operations it has too. The head node carries the singletons and no
executor: those run where a node offers the resource of their pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from actors.joining import access_environment
from orchestrator.settings import load_settings
from orchestrator.store.urls import DatabaseUrls
from tests.support.actor_stack import (
    ActorStack,
    Operations,
    actor_stack,
    own_database,
    serve,
)
from tests.support.processes import ray_token_file

#: How Ray watches its nodes: one that answers nothing is declared dead after about 9 s.
_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}
_NODE = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}


@contextmanager
def cluster_stack(
    home: Path, settings: Mapping[str, object], *, head_environment: Mapping[str, str] | None = None
) -> Iterator[ActorStack]:
    """Run a stack for `home` that has no node but the head; afterwards nothing of it is left.

    Args:
        head_environment: variables of the processes of the head node, the scheduler among them.
    """
    wishes = {"settings": settings, "head_environment": head_environment or {}}
    with actor_stack(home, program="tests.support.cluster_stack", settings=wishes) as stack:
        yield stack


class ClusterOperations(Operations):
    """What is done to the nodes, and to schedulers beside the first."""

    def __init__(self, cluster: Any, home: Path, urls: DatabaseUrls, settings: Any) -> None:
        self._cluster = cluster
        self._nodes: dict[str, Any] = {}
        super().__init__(home, urls, settings)

    async def op_add_node(self, resources: dict[str, float], environment: dict[str, str]) -> str:
        """Add a node and its Node actor; return Ray's id of it."""
        from actors.singletons import ensure_node

        # On the main thread, for Ray sets signal handlers, and a node ends with the thread that started it.
        node = self._cluster.add_node(resources=resources, env_vars=environment, **_NODE)
        self._nodes[node.node_id] = node
        await ensure_node(self.config, node.node_id).ping.remote()
        return str(node.node_id)

    async def op_kill_node(self, node_id: str) -> None:
        """Kill Ray's processes of a node, as when its power fails."""
        self._cluster.remove_node(self._nodes.pop(node_id), allow_graceful=False)

    async def op_raylet(self, node_id: str) -> int:
        """Return the pid of a node's raylet."""
        return int(self._nodes[node_id].all_processes["raylet"][0].process.pid)

    async def op_clock(self, node_id: str) -> float:
        """Return the wall clock of the processes of a node, in seconds since 1970; empty = of the head."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        place = NodeAffinitySchedulingStrategy(node_id or ray.get_runtime_context().get_node_id(), soft=False)
        read = ray.remote(_clock).options(num_cpus=0, scheduling_strategy=place)
        return float(await read.remote())

    async def op_living_nodes(self) -> list[str]:
        """Return the nodes that Ray takes for alive."""
        import ray

        nodes: list[dict[str, Any]] = await asyncio.to_thread(ray.nodes)
        return [node["NodeID"] for node in nodes if node["Alive"]]

    async def op_start_scheduler(self, namespace: str, cluster_id: str) -> None:
        """Start another scheduler, which shares nothing with the first but database and pools."""
        from actors.factory import make
        from actors.options import SCHEDULER, singleton
        from actors.scheduler import Scheduler

        options = singleton(SCHEDULER) | {"namespace": namespace}
        make(Scheduler, options, replace(self.config, cluster_id=cluster_id))

    async def op_ping_scheduler(self, namespace: str) -> dict[str, Any]:
        """Return what the scheduler of a namespace says of itself."""
        import ray

        from actors.options import SCHEDULER

        return dict(await ray.get_actor(SCHEDULER, namespace=namespace).ping.remote())


def _clock() -> float:
    return time.time()


@contextmanager
def _running_cluster(environment: Mapping[str, str]) -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    from actors.options import NAMESPACE

    head = {
        "include_dashboard": False,
        "dashboard_host": "127.0.0.1",
        "env_vars": dict(environment),
        "_system_config": _HEALTH_CHECKS,
    }
    cluster = Cluster(initialize_head=True, head_node_args={**_NODE, **head})
    try:
        ray.init(
            address=cluster.address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR
        )
        yield cluster
    finally:
        with contextlib.suppress(Exception):  # whatever a killed node left; the cluster matters
            ray.shutdown()
        cluster.shutdown()


def _main(home: Path, wishes: Mapping[str, Any]) -> None:
    os.environ |= access_environment(ray_token_file(home)) | {"RAY_USAGE_STATS_ENABLED": "0"}
    with own_database(home) as urls, _running_cluster(wishes["head_environment"]) as cluster:
        asyncio.run(serve(ClusterOperations(cluster, home, urls, load_settings(home, wishes["settings"]))))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), json.loads(sys.argv[2]))
