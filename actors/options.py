"""Every name and every Ray option of our actors, in one table.

All actors are detached, named and in one namespace. Singletons are restarted by Ray; executors are not: the
pools make a new one. Calls are never retried by Ray, because a call that failed may have been carried out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.settings import Pool, Settings
from orchestrator.store.crypto import FieldKeys

NAMESPACE = "orchestrator"
SCHEDULER = "scheduler"
POOLS = "pools"
METRICS = "metrics"
EXECUTOR_PREFIX = "executor-"
NODE_PREFIX = "node-"
GOVERNOR_PREFIX = "governor-"

_MEBIBYTE = 2**20

#: Calls that an actor takes side by side; its own limits bound the work.
CONCURRENCY = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorConfig:
    """What every actor is made with; the URLs hold passwords and are never shown, nor are keys and tokens.

    Attributes:
        service_url: libpq URL of the service role.
        direct_url: the same past a connection pooler, for the committer.
        api_url: libpq URL of the API role.
        cluster_id: identity of this Ray cluster; attempts of another one are not ours to send again.
        records: folder on each node for the launcher's records.
        workspaces: folder on each node for homes, temporary files and scratch folders.
        keys: encrypt and decrypt transcripts and journals.
        access: tokens that let into the HTTP API and into Ray, to know them where a session prints one.
    """

    settings: Settings
    service_url: str = field(repr=False)
    direct_url: str = field(repr=False)
    api_url: str = field(repr=False)
    cluster_id: str
    records: Path
    workspaces: Path
    keys: FieldKeys
    access: tuple[str, ...] = field(default=(), repr=False)


def executor_name(agent_type: str, suffix: str) -> str:
    """Return the name of an executor; the suffix is never used twice."""
    return f"{EXECUTOR_PREFIX}{agent_type}-{suffix}"


def pool_of(executor: str) -> str:
    """Return the agent type in the name of an executor."""
    return executor.removeprefix(EXECUTOR_PREFIX).rpartition("-")[0]


def node_name(node_id: str) -> str:
    """Return the name of the Node actor of a Ray node."""
    return f"{NODE_PREFIX}{node_id[:12]}"


def governor_name(credential: str) -> str:
    """Return the name of the Governor actor of a credential, which is named for its provider."""
    return f"{GOVERNOR_PREFIX}{credential}"


def singleton(name: str) -> dict[str, Any]:
    """Return the options of a singleton."""
    return {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_concurrency": CONCURRENCY,
        "num_cpus": 0,
    }


def requested(pool: Pool) -> dict[str, float]:
    """Return what an executor asks of a node, by Ray's names of the resources."""
    amounts = {"CPU": pool.num_cpus, "memory": float(pool.memory_mb * _MEBIBYTE), pool.resource: 1.0}
    return {name: amount for name, amount in amounts.items() if amount}


def executor(name: str, pool: Pool) -> dict[str, Any]:
    """Return the options of an executor."""
    options: dict[str, Any] = {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": CONCURRENCY,
        "num_cpus": pool.num_cpus,
        "resources": {pool.resource: 1},
    }
    if pool.memory_mb:
        options["memory"] = pool.memory_mb * _MEBIBYTE
    return options
