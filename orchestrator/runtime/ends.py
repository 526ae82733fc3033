"""What became of attempts that do not report: the tables are asked, then the node, and the core is told."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from orchestrator.core import events as e
from orchestrator.core.leases import START_TIMEOUT
from orchestrator.core.machine import AnyEvent
from orchestrator.core.words import Proof
from orchestrator.ports import ExecutorGateway, Fate, SchedulerStore
from orchestrator.runtime.commits import Commits

log = structlog.get_logger(__name__)


class Ends:
    """Looks into the ends of attempts; whatever goes wrong meanwhile, it is looked again.

    Args:
        post: queues an event for the core.
    """

    def __init__(
        self,
        store: SchedulerStore,
        executors: ExecutorGateway,
        commits: Commits,
        *,
        post: Callable[[AnyEvent], None],
    ) -> None:
        self._store = store
        self._executors = executors
        self._commits = commits
        self._post = post

    async def settle(self, token: int, reason: str) -> None:
        """Find out what became of an attempt; one whose processes are gone is fenced."""
        await self._look(token, self._settle(token, reason))

    async def fence(self, token: int, reason: str) -> None:
        """Fence an attempt without a proof, as the core has decided; a stored result still wins."""
        await self._look(token, self._fence(token, reason))

    async def _look(self, token: int, look: Coroutine[Any, Any, None]) -> None:
        try:
            await look
        except Exception:
            log.exception("the end of an attempt could not be looked into", token=token)
            self._post(e.AttemptUnproven(token=token, is_node_dead=False))

    async def _settle(self, token: int, reason: str) -> None:
        fate = await self._fate(token, may_fence=False, reason=reason)
        if fate.verdict != "started":
            self._tell(fate, token, reason)
            return
        self._post(e.AttemptStarted(token=token))  # perhaps news: a loss is judged by it
        if reason == START_TIMEOUT:
            return
        if (proof := await self._executors.kill_tree(fate.node_id, token)) is Proof.GONE:
            await self._fence(token, reason)
        else:
            self._post(e.AttemptUnproven(token=token, is_node_dead=proof is Proof.NODE_DEAD))

    async def _fence(self, token: int, reason: str) -> None:
        self._tell(await self._fate(token, may_fence=True, reason=reason), token, reason)

    def _tell(self, fate: Fate, token: int, reason: str) -> None:
        if fate.result is not None:
            self._post(fate.result)
        else:
            self._post(e.AttemptLost(token=token, reason=fate.reason or reason))

    async def _fate(self, token: int, *, may_fence: bool, reason: str) -> Fate:
        return await self._commits.patiently(
            lambda: self._store.fate(token, may_fence=may_fence, reason=reason)
        )
