"""The Node actor: what must be done on the machine where a session ran. One per Ray node."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from actors.logs import log_json
from actors.options import ActorConfig
from orchestrator import __version__
from orchestrator.workspace import tree


class Node:
    """Ends process trees on its node and says whether they are gone."""

    def __init__(self, config: ActorConfig, node_id: str) -> None:
        log_json(config.settings)
        self._config = config
        self._node_id = node_id

    def __repr__(self) -> str:
        return f"Node({self._node_id[:12]})"

    async def ping(self) -> dict[str, Any]:
        """Say that it answers."""
        return {"version": __version__, "state": "ready", "pid": os.getpid(), "node_id": self._node_id}

    async def kill_tree(self, token: int) -> bool:
        """End every process of an attempt's session; True when it is proven that none is left."""
        grace_s = self._config.settings.sessions.grace_s
        return await asyncio.to_thread(tree.kill_tree, self._config.records, token, grace_s=grace_s)
