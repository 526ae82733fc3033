"""One scheduler's life: take the term, rebuild memory from the tables, run, and begin again if that ends.

Recovery changes nothing by itself: it only loads rows, and the normal path acts on them. So doing it twice is
harmless, and there is one door through which work starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import structlog

from orchestrator.core import events as e
from orchestrator.core.machine import SchedulerState
from orchestrator.core.state import EVERYBODY, Policy
from orchestrator.core.words import AttemptState
from orchestrator.errors import Conflict, DatabaseUnavailable, Fenced, NotFound, Overloaded, QueueFull
from orchestrator.ports import ExecutorGateway, SchedulerStore
from orchestrator.runtime.clock import Clock
from orchestrator.runtime.driver import Driver, database_is_away
from orchestrator.runtime.status import budget_rows, limit_rows, pool_rows

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorInfo:
    """An executor as the pools know it."""

    executor: str
    agent_type: str
    slots: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulingSettings:
    """How often the scheduler looks, and what it keeps to. Durations in seconds."""

    policy: Policy
    limits: e.LimitsSet
    inbox_max: int = 10_000
    poll_s: float = 1.0
    tick_s: float = 0.25
    beats_s: float = 5.0
    executors_s: float = 5.0
    affinity_s: float = 5.0
    agent_types_s: float = 5.0
    state_s: float = 30.0
    term_patience_s: float = 10.0
    retry_s: float = 1.0


class Scheduling:
    """Runs terms until it is drained. Built without I/O; `run` does it all, and is restarted by nobody.

    Args:
        executors_now: asks the pools which executors live; called until it answers.
    """

    def __init__(
        self,
        *,
        store: SchedulerStore,
        executors: ExecutorGateway,
        executors_now: Callable[[], Awaitable[Iterable[ExecutorInfo]]],
        settings: SchedulingSettings,
    ) -> None:
        self._store = store
        self._executors = executors
        self._executors_now = executors_now
        self._settings = settings
        self._clock = Clock()
        self._incarnation = uuid.uuid4().hex
        self._driver: Driver | None = None
        self._epoch = 0
        self.is_ready = False
        self._is_starting = True
        self._is_draining = False
        self._is_leasing = True
        self._agent_sessions: Mapping[str, int | None] = {}  #: what the files of agent types allow
        self._running: asyncio.Task[None] | None = None
        self._recovered = asyncio.Event()
        self._joined: set[str] = set()  #: executors that came since the pools were asked ...
        self._lost: set[str] = set()  #: ... and that went
        self._unreadable: set[int] = set()
        self._started_s = self._clock.monotonic_s()
        self._news = asyncio.Event()
        self._asking: dict[tuple[str, str], tuple[str, asyncio.Task[Mapping[str, object]]]] = {}

    async def run(self) -> None:
        """Run terms until drained; what ends one is logged, and the next begins from the tables."""
        self._running = asyncio.current_task()
        while not self._is_draining:
            try:
                await self._run_term()
            except* (DatabaseUnavailable, Fenced) as group:
                log.warning("term ended", epoch=self._epoch, reason=str(group.exceptions[0]))
            except* Exception as group:  # memory is dropped whatever it was; the tables are the truth
                for error in group.exceptions:
                    log.error("term ended", epoch=self._epoch, reason=str(error), exc_info=error)
            self.is_ready = False
            self._driver = None
            if not self._is_draining:
                await asyncio.sleep(self._settings.retry_s)

    async def drain(self, *, timeout_s: float) -> None:
        """Lease nothing more, wait until what is live has ended or the time is up, and end the term for good.

        The term is given back, so that the next scheduler need not wait.
        """
        self._is_draining = True
        self.stop_leasing()
        self.is_ready = False
        if self._driver is not None:
            await self._driver.finish(timeout_s=timeout_s)
        elif self._running is not None:
            self._running.cancel()
        if self._running is not None:
            await asyncio.wait({self._running}, timeout=timeout_s + self._settings.retry_s)

    def stop_leasing(self) -> None:
        """Start nothing more; what is live goes on."""
        self._is_leasing = False
        if self._driver is not None:
            self._driver.post(self._limits())

    def _limits(self) -> e.LimitsSet:
        """Return the limits of the settings as the files of agent types narrow them; none once it stops."""
        limits = self._settings.limits
        narrowed = limits.limits.narrowed(self._agent_sessions)
        return replace(limits, limits=narrowed if self._is_leasing else replace(narrowed, sessions_max=0))

    async def _run_term(self) -> None:
        term = await self._store.take_term(
            incarnation=self._incarnation,
            is_starting=self._is_starting,
            patience_s=self._settings.term_patience_s,
        )
        self._is_starting = False
        self._epoch = term.epoch
        self._clock.start(term.now_ms)
        first, count = await self._store.reserve_tokens()
        self._driver = driver = Driver(
            state=SchedulerState(policy=self._settings.policy),
            store=self._store,
            executors=self._executors,
            clock=self._clock,
            inbox_max=self._settings.inbox_max,
        )
        driver.post(e.TokensReserved(first=first, count=count))
        self._agent_sessions = await self._store.agent_sessions()
        driver.post(self._limits())
        driver.post(await self._store.controls())
        self._recovered = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(work) for work in self._beside(driver)]
            await driver.run()
            for task in beside:
                task.cancel()
        await self._store.release_term()

    def _beside(self, driver: Driver) -> list[Coroutine[Any, Any, None]]:
        """Return what goes on beside the driver for as long as the term lasts."""
        settings = self._settings
        return [
            self._recover(driver),
            self._meet_executors(driver),
            self._watch_tables(driver),
            self._repeat(driver, settings.beats_s, self._read_beats),
            self._repeat(driver, settings.affinity_s, self._read_affinity),
            self._repeat(driver, settings.agent_types_s, self._read_agent_types),
            self._repeat(driver, settings.state_s, self._save_state),
            self._repeat(driver, settings.tick_s, self._tick),
        ]

    async def _recover(self, driver: Driver) -> None:
        """Load every unfinished plan; only then is it known what the executors should be running."""
        plan_ids = await self._store.unfinished_plans()
        await self._take_plans(driver, plan_ids)
        self.is_ready = not self._is_draining
        log.info("term began", epoch=self._epoch, plans=len(plan_ids))
        self._recovered.set()

    async def _take_plans(self, driver: Driver, plan_ids: Iterable[int]) -> None:
        """Have plans in memory; one that cannot be read holds up no other."""
        plan_ids = [plan_id for plan_id in plan_ids if plan_id not in self._unreadable]
        if plan_ids:
            await self._read_agent_types(driver)  # the limits of those that the plans brought along
        for plan_id in plan_ids:
            try:
                await driver.load_plan(plan_id)
            except (NotFound, ValueError) as error:
                self._unreadable.add(plan_id)
                log.error("plan cannot be read", plan_id=plan_id, reason=str(error), exc_info=error)

    async def _take_revisions(self, driver: Driver) -> None:
        """Have plans run by their new texts, one after the other; what cannot be now is tried again."""
        for revision in await self._store.open_revisions():
            try:
                await driver.take_revision(revision)
            except (Overloaded, QueueFull) as error:
                log.warning("revision waits", revision_id=revision.id, reason=str(error))
                return

    async def _watch_tables(self, driver: Driver) -> None:
        """Find new plans and revisions, and the starts and results of which nobody told us."""
        await self._recovered.wait()
        while True:
            self._news.clear()
            with contextlib.suppress(DatabaseUnavailable):
                await self._take_plans(driver, await self._store.submitted_plans())
                await self._take_revisions(driver)
                for report in await self._store.reports():
                    if not _is_known(driver.state, report):
                        driver.post(report)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.poll_s):
                    await self._news.wait()

    async def _meet_executors(self, driver: Driver) -> None:
        """Keep in step with the pools, whatever they or we have missed, and let them know the demand."""
        await self._recovered.wait()
        while True:
            self._joined.clear()
            self._lost.clear()
            infos = [info for info in await self._executors_now() if info.executor not in self._lost]
            for info in infos:
                if info.executor not in driver.state.executors:
                    self.executor_joined(info)
            alive = {info.executor for info in infos} | self._joined
            driver.post(e.ExecutorsListed(alive=frozenset(alive)))
            driver.repeat_demand()
            await asyncio.sleep(self._settings.executors_s)

    async def _repeat(
        self, driver: Driver, every_s: float, look: Callable[[Driver], Awaitable[None]]
    ) -> None:
        while True:
            await asyncio.sleep(every_s)
            with contextlib.suppress(DatabaseUnavailable):
                await look(driver)

    async def _read_beats(self, driver: Driver) -> None:
        driver.post(e.BeatsRead(beats=await self._store.beats()))

    async def _read_affinity(self, driver: Driver) -> None:
        if rows := await self._store.changed_affinity():
            driver.post(e.AffinityRead(rows=rows))

    async def _read_agent_types(self, driver: Driver) -> None:
        allowed = await self._store.agent_sessions()
        if allowed != self._agent_sessions:
            self._agent_sessions = allowed
            driver.post(self._limits())

    async def _save_state(self, driver: Driver) -> None:
        del driver
        await self._store.save_state("scheduler", self._counts())

    async def _tick(self, driver: Driver) -> None:
        driver.post(e.Tick())

    # What executors, pools and front ends call. Everything before the term began is caught by the polls.

    def nudge(self) -> None:
        """Look for new plans now."""
        self._news.set()

    def started(self, tokens: Iterable[int]) -> None:
        """Take the report that executors hold these starts."""
        if self._driver is not None:
            for token in tokens:
                self._driver.post(e.AttemptStarted(token=token))

    def ended(self, reports: Iterable[e.AttemptEnded]) -> None:
        """Take reports of stored results."""
        if self._driver is not None:
            for report in reports:
                self._driver.post(report)

    async def taken(self) -> None:
        """Wait until what was reported stands in the tables and what follows from it has been ordered."""
        if self._driver is not None:
            await self._driver.taken()

    def executor_joined(self, info: ExecutorInfo) -> None:
        """Take an executor into service."""
        if self._driver is not None:
            self._joined.add(info.executor)
            self._driver.post(
                e.ExecutorJoined(executor=info.executor, agent_type=info.agent_type, slots=info.slots)
            )

    def executor_lost(self, executor: str) -> None:
        """Hear that the process of an executor is gone."""
        if self._driver is not None:
            self._joined.discard(executor)
            self._lost.add(executor)
            self._driver.post(e.ExecutorLost(executor=executor))

    async def retire(self, executor: str) -> bool:
        """Tell whether the pools may end an executor; if so it gets nothing more."""
        if self._driver is None:
            return False
        answer = await self._driver.ask(
            lambda request_id: e.ExecutorRetired(executor=executor, request_id=request_id)
        )
        if answer["may_end"]:
            self._joined.discard(executor)
            self._lost.add(executor)
        return bool(answer["may_end"])

    async def request(
        self, kind: str, args: Mapping[str, object], idempotency_key: str
    ) -> Mapping[str, object]:
        """Carry out one request; a repeated key gets the first answer. See ports.SchedulerPort."""
        if self._driver is None or not self.is_ready:
            raise Overloaded("The scheduler is starting.", remedy="Try again in a second.")
        if not idempotency_key:
            return await self._driver.request(kind, args)
        digest = sha256(json.dumps([kind, args], sort_keys=True, default=str).encode()).hexdigest()
        name = (str(args.get("tenant_id", EVERYBODY)), idempotency_key)
        first, asking = self._asking.get(name, (digest, None))
        _refuse_other(first, digest, key=idempotency_key)
        if asking is None:
            asking = asyncio.create_task(self._once(self._driver, kind, args, name, digest))
            self._asking[name] = (digest, asking)
            asking.add_done_callback(lambda asked: self._forget(name, asked))
        return await asyncio.shield(asking)

    def _forget(self, name: tuple[str, str], asked: asyncio.Task[Mapping[str, object]]) -> None:
        """Whoever asks from now on finds the answer in the tables; an error that nobody hears is none."""
        del self._asking[name]
        if not asked.cancelled():
            asked.exception()

    async def _once(
        self, driver: Driver, kind: str, args: Mapping[str, object], name: tuple[str, str], digest: str
    ) -> Mapping[str, object]:
        """Return the answer that is written under the key, or ask and have the answer written."""
        tenant_id, key = name
        try:
            stored = await self._store.stored_answer(tenant_id=tenant_id, key=key)
        except DatabaseUnavailable as error:
            raise database_is_away() from error
        if stored is None:
            return await driver.request(kind, args, key=key, digest=digest)
        _refuse_other(stored.digest, digest, key=key)
        if stored.error:
            raise Conflict(stored.error, remedy=stored.remedy)
        return stored.result

    def status(self) -> Mapping[str, object]:
        """Return what only memory knows; see ports.SchedulerPort."""
        if self._driver is None:
            raise Overloaded("The scheduler is starting.", remedy="Try again in a second.")
        return self._counts()

    def _counts(self) -> dict[str, object]:
        driver = self._driver
        state = driver.state if driver is not None else SchedulerState(policy=self._settings.policy)
        plans = Counter(plan.state.value for plan in state.plans.values())
        tasks = Counter(s.value for p in state.plans.values() for s in p.counts.elements())
        return {
            "epoch": self._epoch,
            "is_ready": self.is_ready,
            "uptime_s": round(self._clock.monotonic_s() - self._started_s, 1),
            "is_paused": state.is_paused,
            "pause_reason": state.pause_reason,
            "sessions_max": state.bounds.total,
            "limits": limit_rows(state),
            "budgets": budget_rows(state),
            "sessions": len(state.attempts),
            "plans": dict(plans),
            "tasks": dict(tasks),
            "pools": pool_rows(state, state.demand(), now_ms=self._clock.now_ms()),
            "late_reports": state.late_reports,
            "is_database_away": driver is not None and driver.is_database_away,
            "unknown_commits": driver.unknown_commits if driver is not None else 0,
        }


def _refuse_other(first: str, digest: str, *, key: str) -> None:
    if first != digest:
        raise Conflict(
            f"The idempotency key {key!r} was used for another request.",
            remedy="Use a new key for each request.",
        )


def _is_known(state: SchedulerState, report: object) -> bool:
    """Tell whether a start that stands in the tables is no news; most of them are not."""
    attempt = state.attempts.get(report.token) if isinstance(report, e.AttemptStarted) else None
    return attempt is not None and attempt.state is AttemptState.STARTED
