"""The Executor actor: runs sessions of one agent type, several side by side.

All of its life is in `orchestrator.runtime`; here are only Ray's calls and the wiring.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import structlog
from ray.exceptions import RayError

from actors.containment import keep_secret, limits_of, sandbox_of, uids_of
from actors.factory import find
from actors.governor import RayGovernor
from actors.logs import log_json
from actors.options import SCHEDULER, ActorConfig, node_name
from actors.wire import pack
from orchestrator import __version__
from orchestrator.core.events import AttemptEnded
from orchestrator.core.limits import UNBOUNDED
from orchestrator.money import MICROS
from orchestrator.ports import SessionLimits
from orchestrator.runtime.executing import Executing
from orchestrator.runtime.redaction import Redaction, passwords_in, secrets_in
from orchestrator.runtime.renewal import LeaseSettings, Renewal
from orchestrator.sessions.config import session_configs
from orchestrator.sessions.grants import ExecutorGrants, grant_settings
from orchestrator.sessions.registry import Provider, make_backends
from orchestrator.settings import Settings
from orchestrator.store.commit_book import PostgresCommitBook
from orchestrator.store.executors import Beats, ExecutorStore
from orchestrator.store.journals import PostgresJournals
from orchestrator.store.notebook import PostgresNoteBook
from orchestrator.workspace import tree
from orchestrator.workspace.clone import CloneWorkspaces
from orchestrator.workspace.launcher import ProcessLauncher
from orchestrator.workspace.repositories import Repositories
from orchestrator.workspace.shared import SharedWorkspaces

log = structlog.get_logger(__name__)

#: Longest wait for an answer of the Node actor, and pause before it is asked again.
NODE_ANSWER_S = 10.0
NODE_RETRY_S = 0.5


class Executor:
    """Runs sessions of one agent type (or gates)."""

    def __init__(self, config: ActorConfig, name: str, agent_type: str) -> None:
        settings = config.settings
        log_json(settings)
        keep_secret(known_secrets(config))
        structlog.contextvars.bind_contextvars(executor=name)
        self._config, self._name, self._agent_type = config, name, agent_type
        self._node_id = self._find_node_id()
        self._loop = asyncio.get_running_loop()
        self._scheduler: Any = None
        redaction = Redaction(known_secrets(config))
        self._renewal = Renewal(
            renewer=Beats(config.service_url, name=f"orchestrator-beats-{name}"),
            settings=LeaseSettings(
                ttl_s=settings.leases.ttl_s,
                beat_s=settings.leases.beat_s,
                margin_s=settings.leases.margin_s,
            ),
            on_cancel=self._on_cancel,
            on_fenced=self._on_fenced,
        )
        launcher = ProcessLauncher(
            records=config.records, limits=limits_of(settings), sandbox=sandbox_of(settings)
        )
        self._executing = Executing(
            store=ExecutorStore(
                config.service_url,
                executor=name,
                incarnation=uuid.uuid4().hex,
                node_id=self._node_id,
                limits=session_limits(settings),
                agent_type=agent_type,
                keys=config.keys,
            ),
            leases=self._renewal,
            backends=make_backends(
                self._providers(settings),
                launcher,
                notes=PostgresNoteBook(
                    config.service_url, name=f"orchestrator-notes-{name}", redact=redaction.whole
                ),
                journals=PostgresJournals(
                    config.service_url, name=f"orchestrator-journals-{name}", keys=config.keys
                ),
                seed=settings.retry.seed,
            ),
            workspaces=self._workspaces(launcher),
            report=self._report,
            redaction=redaction,
        )
        self._renewal.start()
        self._running = self._loop.create_task(self._executing.run(), name="executing")
        self._running.add_done_callback(_die)
        self._has_node = asyncio.Event()
        self._meeting = self._loop.create_task(self._meet_node(), name="meeting the Node actor")
        gc.freeze()  # what is imported stays, and visiting it over and over takes a third of a busy executor

    def _providers(self, settings: Settings) -> dict[str, Provider]:
        """Return how the models of each provider are asked: each credential has a governor of its own."""
        return {
            credential: Provider(
                config,
                ExecutorGrants(
                    executor=self._name, governor=RayGovernor(credential), settings=grant_settings(settings)
                ),
            )
            for credential, config in session_configs(settings).items()
        }

    def _workspaces(self, launcher: ProcessLauncher) -> CloneWorkspaces:
        """Return what gives sessions their workspaces; git that is ours runs in no sandbox."""
        config = self._config
        own = ProcessLauncher(records=config.records)
        return CloneWorkspaces(
            root=config.workspaces / "clones",
            shared=SharedWorkspaces(root=config.workspaces, uids=uids_of(config.settings)),
            repositories=Repositories(root=config.workspaces / "mirrors", launcher=own),
            own=own,
            launcher=launcher,
            free_mb_min=config.settings.sessions.free_disk_mb_min,
            book=PostgresCommitBook(config.service_url, name=f"orchestrator-commits-{self._name}"),
        )

    def _find_node_id(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def __repr__(self) -> str:
        return f"Executor({self._name.removeprefix('executor-')})"

    async def ping(self) -> dict[str, Any]:
        """Say who it is, where it runs and what it works on."""
        return {
            "version": __version__,
            "state": "ready" if self._has_node.is_set() else "starting",
            "executor": self._name,
            "agent_type": self._agent_type,
            "slots": self._config.settings.pools.of(self._agent_type).slots,
            "pid": os.getpid(),
            "tokens": self._executing.tokens,
        }

    async def ready(self) -> dict[str, Any]:
        """Answer like `ping`, once sessions are taken."""
        await self._has_node.wait()
        return await self.ping()

    async def _meet_node(self) -> None:
        """Wait for the Node actor here: without it nobody could prove that a session has ended."""
        name = node_name(self._node_id)
        while not self._has_node.is_set():
            try:
                async with asyncio.timeout(NODE_ANSWER_S):
                    node = await asyncio.to_thread(find, name)
                    await node.ping.remote()
                    self._has_node.set()
            except (RayError, ValueError, TimeoutError):
                await asyncio.sleep(NODE_RETRY_S)

    async def watch(self) -> None:
        """Never return: whoever awaits this learns at once when the process dies."""
        await self._running

    async def start(self, tokens: Sequence[int]) -> None:
        """Take leased attempts; what becomes of them is told by token. Before `ready` none is taken."""
        if self._has_node.is_set():
            self._executing.start(tokens)
        else:
            log.warning("attempts refused: the Node actor does not answer yet", tokens=list(tokens))

    async def cancel(self, token: int, reason: str) -> None:
        """End a session in good order."""
        self._executing.cancel(token, reason)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing more, end every session in good order and store what came of it."""
        await self._executing.drain(timeout_s=timeout_s)

    def _on_cancel(self, token: int, reason: str) -> None:
        self._loop.call_soon_threadsafe(self._executing.cancel, token, reason)

    def _on_fenced(self, token: int) -> None:
        """Called from a thread of the renewal: end the processes even if the loop is stuck."""
        grace_s = self._config.settings.sessions.grace_s
        kill = threading.Thread(
            target=tree.kill_tree,
            args=(self._config.records, token),
            kwargs={"grace_s": grace_s},
            name=f"fence {token}",
            daemon=True,
        )
        kill.start()  # each in its own: one that takes its grace keeps none of the others alive
        self._loop.call_soon_threadsafe(self._executing.fence, token)

    async def _report(self, *, started: Sequence[int], ended: Sequence[AttemptEnded]) -> None:
        try:
            if self._scheduler is None:
                self._scheduler = await asyncio.to_thread(find, SCHEDULER)
            if tokens := await self._scheduler.report.remote(self._name, list(started), pack(ended)):
                await self.start(tokens)
        except (RayError, ValueError) as error:
            self._scheduler = None  # it finds starts and results in the tables
            log.info("scheduler did not take a report", reason=str(error).partition("\n")[0])


def _die(running: asyncio.Task[None]) -> None:
    """An executor whose loop has failed can store nothing; dead, its attempts are lost and run again."""
    if not running.cancelled():
        log.critical("executor failed", exc_info=running.exception())
        os._exit(1)


def known_secrets(config: ActorConfig) -> Iterator[str]:
    """Yield what no transcript and no note may show."""
    yield from secrets_in(config.settings)
    yield from (*config.keys.keys, *config.access)
    for url in (config.service_url, config.direct_url, config.api_url):
        yield from (url, *passwords_in(url))


def session_limits(settings: Settings) -> SessionLimits:
    """Build the limits of an attempt from the settings."""
    sessions = settings.sessions
    return SessionLimits(
        total_timeout_s=sessions.total_timeout_s,
        idle_timeout_s=sessions.idle_timeout_s,
        wait_max_s=settings.governor.wait_max_s,
        grace_s=sessions.grace_s,
        turns_max=sessions.turns_max,
        cost_micros_max=int(sessions.cost_usd_max * MICROS) or UNBOUNDED,
        output_bytes_max=sessions.output_bytes_max,
        context_tokens_max=sessions.context_tokens_max,
    )
