"""A Ray cluster of two nodes on this machine, in a process of its own: prints its address, ends with stdin.

RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=FILE python -m tests.support.two_nodes
"""

from __future__ import annotations

import sys


def main() -> None:
    """Start both nodes, tell where, and wait."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        print(f"address {cluster.address}", flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
