"""How the scheduler reaches executors, nodes and pools over Ray. Implements ports.ExecutorGateway.

A call that fails says nothing about what was done; the token decides, and the pools report deaths.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from actors.factory import find, names
from actors.options import NODE_PREFIX, POOLS, node_name
from orchestrator.core.words import Proof
from orchestrator.runtime.scheduling import ExecutorInfo

#: Longest wait for a Node actor to end a process tree, beyond the session's own grace.
KILL_TIMEOUT_S = 30.0

#: Longest wait for an answer of the pools.
ANSWER_TIMEOUT_S = 10.0

#: Pause before the pools are asked again.
RETRY_S = 0.2


class RayExecutors:
    """Knows the handles of live executors.

    Attributes:
        waits: by agent type, what keeps executors from starting; as the pools have told last.
    """

    def __init__(self, *, is_one_machine: bool) -> None:
        self._is_one_machine = is_one_machine
        self.waits: Mapping[str, str] = {}
        self._handles: dict[str, Any] = {}
        self._answers: dict[str, list[int]] = {}  #: to executors whose reports are being taken

    def joined(self, executor: str, handle: Any) -> None:
        """Remember an executor."""
        self._handles[executor] = handle

    def lost(self, executor: str) -> None:
        """Forget an executor."""
        self._handles.pop(executor, None)

    async def _handle(self, executor: str) -> Any | None:
        """Return the handle of an executor; found by name before the pools have told us of it."""
        if executor not in self._handles:
            with contextlib.suppress(ValueError):
                return await asyncio.to_thread(find, executor)
        return self._handles.get(executor)

    @contextlib.contextmanager
    def answering(self, executor: str) -> Iterator[list[int]]:
        """Collect what the executor is to start meanwhile, for the answer to its report.

        What ends on an executor frees the slots for what it starts next, and a call of Ray costs both sides
        as much as ten tasks (docs/performance.md). Tokens whose answer is lost are sent again, like any.
        """
        tokens = self._answers[executor] = []
        try:
            yield tokens
        finally:
            if self._answers.get(executor) is tokens:
                del self._answers[executor]

    async def start(self, executor: str, tokens: Sequence[int]) -> None:
        """Ask the executor to start leased attempts. Its answer would say nothing, so none is sent."""
        if executor in self._answers:
            self._answers[executor] += tokens
        elif (handle := await self._handle(executor)) is not None:
            with contextlib.suppress(RayActorError):
                handle.start.options(num_returns=0).remote(list(tokens))

    async def cancel(self, executor: str, token: int, reason: str) -> None:
        """Ask the executor to stop an attempt."""
        if (handle := await self._handle(executor)) is not None:
            with contextlib.suppress(RayActorError):
                await handle.cancel.remote(token, reason)

    async def kill_tree(self, node_id: str, token: int) -> Proof:
        """Have the tree ended on the node where the attempt started.

        If the cluster does not know that node (it is new since), every node is asked, and believed only where
        all of them are one machine: a node knows nothing of what runs on another that does not answer.
        """
        is_alive = (await asyncio.to_thread(_nodes)).get(node_id)
        if is_alive is False:
            return Proof.NODE_DEAD
        if is_alive is None and not self._is_one_machine:
            return Proof.UNPROVEN
        asked = [node_name(node_id)] if is_alive else await asyncio.to_thread(names, NODE_PREFIX)
        verdicts = [await self._kill_on(node, token) for node in asked]
        return Proof.GONE if verdicts and all(verdicts) else Proof.UNPROVEN

    async def _kill_on(self, name: str, token: int) -> bool:
        try:
            node = await asyncio.to_thread(find, name)
            async with asyncio.timeout(KILL_TIMEOUT_S):
                return bool(await node.kill_tree.remote(token))
        except (ValueError, RayError, TimeoutError):
            return False  # unproven; it is asked again

    async def want(self, sessions: Mapping[str, int]) -> None:
        """Tell the pools how many sessions each could run now."""
        with contextlib.suppress(RayError, ValueError, TimeoutError):
            pools = await asyncio.to_thread(find, POOLS)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                self.waits = await pools.want.remote(dict(sessions))

    async def executors_now(self) -> list[ExecutorInfo]:
        """Ask the pools which executors live, until they answer."""
        while True:
            try:
                pools = await asyncio.to_thread(find, POOLS)
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    found = await pools.executors.remote()
            except (ValueError, RayError, TimeoutError):
                await asyncio.sleep(RETRY_S)
                continue
            for info, handle in found:
                self.joined(info.executor, handle)
            infos = [info for info, _ in found]
            for executor in self._handles.keys() - {info.executor for info in infos}:
                self.lost(executor)
            return infos


def _nodes() -> dict[str, bool]:
    """Return by its id whether a node lives; a dead one never comes back under its id."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["Alive"] for node in nodes}
