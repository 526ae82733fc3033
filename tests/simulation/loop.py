"""An event loop without threads, sockets or real time, on which processes can be frozen and killed.

When nothing is ready the clock jumps to the next timer, so the same dice give the same history. A callback
belongs to the process in whose context it was made: those of a frozen process wait until it thaws, those of a
dead one never run, not even its `finally` blocks.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from heapq import heappop
from typing import Any

#: Steps that may be taken at one moment; beyond it something turns in a circle.
STEPS_MAX = 200_000

_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Process:
    """What lives, freezes and dies together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_frozen = False
        self.is_dead = False
        self.parked: list[
            asyncio.Handle
        ] = []  #: of a dead one: kept, so that nothing of it is collected early
        self.context = contextvars.Context()
        self.context.run(_PROCESS.set, self)

    def takes(self, handle: asyncio.Handle) -> bool:
        """Tell whether the callback may run now; otherwise it is parked."""
        if not self.is_frozen and not self.is_dead:
            return True
        self.parked.append(handle)
        return False


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. `time` is virtual seconds since it was made."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._steps = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self.outside = contextvars.Context()  #: of everything that belongs to no process
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now_s

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **more: Any) -> asyncio.Task[Any]:
        if len(self._tasks) > 1_000:
            self._tasks = [task for task in self._tasks if not task.done()]
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=loop, **more)
        self._tasks.append(task)
        return task

    def spawn(self, work: Coroutine[Any, Any, Any], process: Process | None = None) -> asyncio.Task[Any]:
        """Run a coroutine in a process, or outside of all."""
        return self.create_task(work, context=self.outside if process is None else process.context)

    def call(self, process: Process, callback: Callable[..., object], *args: Any) -> None:
        """Have a process do something, if it still lives."""
        if not process.is_dead:
            self.call_soon(callback, *args, context=process.context)

    def later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Do something outside of all processes after a while."""
        return self.call_later(delay_s, callback, *args, context=self.outside)

    def thaw(self, process: Process) -> None:
        """Let a frozen process go on where it stood."""
        process.is_frozen = False
        if not process.is_dead:
            self._ready.extend(process.parked)  # type: ignore[attr-defined]
            process.parked.clear()

    def bury(self, processes: list[Process]) -> None:
        """End everything that is left, the dead included; the verdict has been spoken."""
        for process in processes:
            process.is_dead = False
            self.thaw(process)
        left = [task for task in self._tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            self.run_until_complete(asyncio.wait(left))
        self._tasks.clear()
        self.close()

    # What BaseEventLoop leaves to a loop.

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        if not ready:
            self._jump(scheduled)
        while scheduled and scheduled[0]._when <= self._now_s:
            handle = heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        self._steps += 1
        assert self._steps < STEPS_MAX, f"time stands still at {self._now_s:.3f} s"
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(_PROCESS)
            if process is None or process.takes(handle):
                handle._run()

    def _jump(self, scheduled: list[Any]) -> None:
        while scheduled and scheduled[0]._cancelled:
            heappop(scheduled)._scheduled = False
        assert scheduled, f"at {self._now_s:.3f} s nothing can ever happen again"
        if scheduled[0]._when > self._now_s:
            self._now_s, self._steps = scheduled[0]._when, 0

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def _write_to_self(self) -> None:
        pass
