"""The Python client for programs without asyncio: the same calls, each waiting for its answer.

The asynchronous client does the work, on an event loop in a thread of its own.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from actors.client import AsyncOrchestrator, PlanLike, aconnect
from orchestrator.views import EventView

P = ParamSpec("P")
T = TypeVar("T")


def connect(address: str | None = None, home: Path | str | None = None) -> Orchestrator:
    """Connect to the stack of a home; see actors.client.aconnect for arguments and errors."""
    loop = _LoopThread()
    try:
        return Orchestrator(loop.run(aconnect(address, home)), loop=loop)
    except BaseException:
        loop.close()
        raise


def _waiting(
    call: Callable[Concatenate[AsyncOrchestrator, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Orchestrator, P], T]:
    """Return a call of the asynchronous client as one that waits, with its arguments, types and words."""

    @functools.wraps(call)
    def wait(self: Orchestrator, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.run(call(self._async, *args, **kwargs))

    return wait


class Orchestrator:
    """The orchestrator; every method waits, and is described at actors.client.AsyncOrchestrator."""

    def __init__(self, asynchronous: AsyncOrchestrator, *, loop: _LoopThread) -> None:
        self._async = asynchronous
        self._loop = loop

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to PostgreSQL."""
        self._loop.run(self._async.close())
        self._loop.close()

    submit = _waiting(AsyncOrchestrator.submit)
    result = _waiting(AsyncOrchestrator.result)
    plan = _waiting(AsyncOrchestrator.plan)
    plans = _waiting(AsyncOrchestrator.plans)
    tasks = _waiting(AsyncOrchestrator.tasks)
    task = _waiting(AsyncOrchestrator.task)
    logs = _waiting(AsyncOrchestrator.logs)
    orient = _waiting(AsyncOrchestrator.orient)
    notes = _waiting(AsyncOrchestrator.notes)
    write_note = _waiting(AsyncOrchestrator.write_note)
    agent_types = _waiting(AsyncOrchestrator.agent_types)
    agent_type = _waiting(AsyncOrchestrator.agent_type)
    status = _waiting(AsyncOrchestrator.status)
    cancel = _waiting(AsyncOrchestrator.cancel)
    pause = _waiting(AsyncOrchestrator.pause)
    resume = _waiting(AsyncOrchestrator.resume)
    cancel_task = _waiting(AsyncOrchestrator.cancel_task)
    retry = _waiting(AsyncOrchestrator.retry)
    skip = _waiting(AsyncOrchestrator.skip)
    finish = _waiting(AsyncOrchestrator.finish)
    reopen = _waiting(AsyncOrchestrator.reopen)
    hold = _waiting(AsyncOrchestrator.hold)
    release = _waiting(AsyncOrchestrator.release)
    approve = _waiting(AsyncOrchestrator.approve)
    reject = _waiting(AsyncOrchestrator.reject)
    set_budget = _waiting(AsyncOrchestrator.set_budget)
    set_task_budget = _waiting(AsyncOrchestrator.set_task_budget)
    pause_all = _waiting(AsyncOrchestrator.pause_all)
    resume_all = _waiting(AsyncOrchestrator.resume_all)
    set_limits = _waiting(AsyncOrchestrator.set_limits)

    def watch(self, plan: PlanLike, *, after: int = 0) -> Iterator[EventView]:
        """Yield the events of a plan, past and coming, until nothing more happens by itself."""
        events = self._async.watch(plan, after=after)
        try:
            while (event := self._loop.run(_next(events))) is not None:
                yield event
        finally:
            self._loop.run(_close(events))


class _LoopThread:
    """An event loop in a thread of its own; a waiting caller can still be interrupted."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="orchestrator-client", daemon=True
        )
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End loop and thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(events: Any) -> EventView | None:
    event: EventView | None = await anext(events, None)
    return event


async def _close(events: Any) -> None:
    await events.aclose()
